import time

from storage.keys.artifacts import sidecar_path
from storage.store import integrity


def make(store, stage, options):
    def build(path):
        (path / "member" if path.is_dir() else path).write_text("hello")

    return store.produce(stage, options, [], build)


def test_untouched_artifacts_are_not_read(store, file_stage, folder_stage, options, monkeypatch):
    refs = [make(store, file_stage, options), make(store, folder_stage, options)]
    time.sleep(0.03)
    assert all(store.is_intact(ref) for ref in refs)
    read = []
    original = integrity.file_sha256
    monkeypatch.setattr(integrity, "file_sha256", lambda path: read.append(path) or original(path))
    assert all(store.is_intact(ref) for ref in refs)
    assert read == []
    assert all(store.is_intact(ref, full=True) for ref in refs)
    assert len(read) == 3  # file; manifest and member


def test_fresh_file_is_read_until_its_mtime_can_be_believed(store, file_stage, options, monkeypatch):
    ref = make(store, file_stage, options)
    path = store.path(ref)
    record = integrity.record_path(store.root, ref)
    text = record.read_text()
    assert f'"at_ns": {path.stat().st_mtime_ns}' not in text
    record.write_text(text.replace('"at_ns": ', '"at_ns": 0, "was": '))
    read = []
    original = integrity.file_sha256
    monkeypatch.setattr(integrity, "file_sha256", lambda path: read.append(path) or original(path))
    assert store.is_intact(ref)
    assert read == [path]


def test_record_of_other_content_is_not_believed(store, file_stage, options):
    ref = make(store, file_stage, options)
    time.sleep(0.03)
    assert store.is_intact(ref)
    assert not store.is_intact(ref.model_copy(update={"file_sha256": "0" * 64}))


def test_artifact_without_its_sidecar_is_damaged(store, file_stage, options):
    ref = make(store, file_stage, options)
    time.sleep(0.03)
    assert store.is_intact(ref)
    sidecar_path(store.root, ref).unlink()
    assert not store.is_intact(ref)
    assert make(store, file_stage, options) == ref
    assert store.is_intact(ref)
