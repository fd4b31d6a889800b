import json
import os

import pytest

from storage.files import whole


def test_write_and_read(tmp_path):
    path = tmp_path / "deep" / "x.json"
    whole.write_json(path, {"a": ["é", 1.5, None]})
    assert whole.read_json(path) == {"a": ["é", 1.5, None]}
    whole.write_text(path, "plain", durable=False)
    assert path.read_text() == "plain"
    assert whole.read_json(path) is None
    assert whole.read_json(tmp_path / "nowhere") is None
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "x.json"
    whole.write_json(path, 1)

    def fail(*args):
        raise OSError("no space")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space"):
        whole.write_json(path, 2)
    assert json.loads(path.read_text()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_remove(tmp_path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "sub" / "x").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    whole.remove(tmp_path / "link")
    assert (tmp_path / "folder" / "sub" / "x").exists()  # what a link leads to stays
    whole.remove(tmp_path / "folder")
    whole.remove(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_publish_syncs_before_it_renames(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "rename"):
        original = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, original=original: done.append(name) or original(*a)
        )
    (tmp_path / "a").write_text("x")
    whole.publish(tmp_path / "a", tmp_path / "b")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "x").touch()
    whole.publish(tmp_path / "f", tmp_path / "g")
    assert done == ["fsync", "rename", "fsync", "fsync", "fsync", "rename", "fsync"]


def test_only_the_unfinished_files_of_dead_writers_are_swept(tmp_path):
    (tmp_path / ".new-of-a-killed-writer").write_text("{")
    (tmp_path / "kept.json").write_text("{}")
    mine, descriptor = whole._claimed(tmp_path)
    assert whole.sweep_unfinished(tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"kept.json", mine.name}
    os.close(descriptor)
    assert whole.sweep_unfinished(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_unfinished_folders_of_dead_writers_are_swept_too(tmp_path):
    (tmp_path / ".new-of-a-killed-writer" / "deep").mkdir(parents=True)
    with whole.unfinished_folder(tmp_path) as folder:
        (folder / "a").write_text("x")
        assert whole.sweep_unfinished(tmp_path) == 1
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    with whole.unfinished_folder(tmp_path) as folder:
        folder.rename(tmp_path / "finished")
    assert [path.name for path in tmp_path.iterdir()] == ["finished"]
