import errno
import os

import numpy as np
import pytest

from storage.scratch import scratch_rows


def test_rows_lie_in_the_file(tmp_path):
    rows = scratch_rows(tmp_path / "rows", (3, 2))
    assert isinstance(rows, np.memmap) and rows.tolist() == [[0, 0]] * 3
    rows[1] = 5
    rows.flush()
    assert np.fromfile(tmp_path / "rows", np.float32).tolist() == [0, 0, 5, 5, 0, 0]
    assert scratch_rows(tmp_path / "none", (0, 2)).shape == (0, 2)


def test_space_is_reserved_and_its_lack_is_an_error(tmp_path, monkeypatch):
    scratch_rows(tmp_path / "rows", (1000, 1000))
    assert os.stat(tmp_path / "rows").st_blocks * 512 >= 4_000_000

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        scratch_rows(tmp_path / "more", (1000, 1000))


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "rows").write_bytes(b"content")
    with pytest.raises(FileExistsError):
        scratch_rows(tmp_path / "rows", (1, 1))
