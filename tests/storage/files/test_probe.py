import fcntl
import os

import pytest

from storage.files import probe
from storage.files.probe import UnsuitableFolder
from storage.store.store import Store


def test_good_folder_is_left_as_it_was(tmp_path):
    probe.probe(tmp_path / "new", min_free_bytes=1)
    assert list((tmp_path / "new").iterdir()) == []


def test_no_space(tmp_path):
    with pytest.raises(UnsuitableFolder, match=r"MiB free, a store needs 1099511627776 MiB; free some"):
        Store.create(tmp_path / "s", min_free_bytes=1 << 60)
    assert not (tmp_path / "s" / "store.json").exists()


@pytest.mark.parametrize(
    "flock", [lambda *args: None, lambda *args: (_ for _ in ()).throw(OSError(95, "no"))]
)
def test_flock_that_does_not_exclude_or_fails(tmp_path, monkeypatch, flock):
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UnsuitableFolder, match="flock"):
        probe.probe(tmp_path, min_free_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_rename_that_fails(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(18, "cross-device")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(UnsuitableFolder, match="renaming in one step"):
        probe.probe(tmp_path, min_free_bytes=1)


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnsuitableFolder, match="cannot be written"):
        probe.probe(tmp_path / "file" / "store")
