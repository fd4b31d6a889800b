"""Scratch folders go with their block, with the next sweep when their maker was killed, and never else."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storage.files.scratch import remove_in_stead, scratch_folder, scratch_rows, sweep_scratch

ROOT = Path(__file__).resolve().parents[3]
MAKER = """
import sys, time
from pathlib import Path
from storage.files.scratch import scratch_folder
with scratch_folder("test", Path(sys.argv[1])) as folder:
    (folder / "inside").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


def killed_maker(parent: Path) -> Path:
    with subprocess.Popen(
        [sys.executable, "-c", MAKER, str(parent)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert (folder / "inside").exists()
        assert sweep_scratch(parent) == 0 and folder.exists()  # its maker lives
        process.send_signal(signal.SIGKILL)
    return folder


def test_it_is_empty_private_and_goes_with_its_block(tmp_path: Path) -> None:
    with scratch_folder("test", tmp_path) as folder:
        assert list(folder.iterdir()) == [] and folder.stat().st_mode & 0o077 == 0
        (folder / "file").write_text("x")
        with scratch_folder("test", tmp_path) as other:
            assert other != folder
        assert sweep_scratch(tmp_path) == 0 and (folder / "file").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    folder = killed_maker(tmp_path)
    assert folder.exists()
    assert sweep_scratch(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_child_may_remove_it_in_its_stead(tmp_path: Path) -> None:
    remove_in_stead(killed_maker(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_links_and_other_folders_stay(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    parent = tmp_path / "temporary"
    (parent / "retrieval-sfm-mine").mkdir(parents=True)
    os.symlink(target, parent / "retrieval-sfm-x.lock")
    assert sweep_scratch(parent) == 0
    assert target.read_text() == "kept" and len(list(parent.iterdir())) == 2


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
