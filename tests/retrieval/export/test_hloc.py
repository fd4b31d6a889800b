"""Global descriptors, read as hloc's pairs_from_retrieval reads them."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.export.hloc import UnusableFile, write_hloc
from tests.retrieval.hloc_reader import read_as_hloc

NAMES = ["b.jpg", "größe/x y.JPG", "größe/a.jpg", "new\nline.png"]


def test_what_is_written_is_what_hloc_reads(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    write_hloc(tmp_path / "a.h5", NAMES, np.load(tmp_path / "rows.npy", mmap_mode="r"))
    found = read_as_hloc(tmp_path / "a.h5")
    assert found.keys() == set(NAMES)
    for name, row in zip(NAMES, rows, strict=True):
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], row)
    write_hloc(tmp_path / "b.h5", NAMES, rows)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    rows = np.zeros((4, 6), dtype=np.float32)
    (tmp_path / "there.h5").write_bytes(b"mine")
    with pytest.raises(UnusableFile, match=r"there\.h5' is there already"):
        write_hloc(tmp_path / "there.h5", NAMES, rows)
    with pytest.raises(UnusableFile, match="is no folder"):
        write_hloc(tmp_path / "no" / "a.h5", NAMES, rows)
    with pytest.raises(ValueError, match="zip"):
        write_hloc(tmp_path / "a.h5", NAMES, rows[:3])
    assert [each.name for each in tmp_path.iterdir()] == ["there.h5"]
    assert (tmp_path / "there.h5").read_bytes() == b"mine"
