"""A store that cannot be written: what only reads works, and a disk without room breaks nothing."""

import errno
import os
import shutil
import subprocess

import pytest

from storage.files import whole
from storage.files.locks import FileLock
from storage.store import integrity, ledger, maintenance
from storage.store.store import Store


def make(store, stage, options, text="hello"):
    return store.produce(stage, options, [text], lambda path: path.write_text(text) and None)


@pytest.fixture
def read_only(store, tmp_path):
    """A function that shows a folder of this machine read-only, which stops root too."""
    mounted = []
    if not shutil.which("mount"):
        pytest.skip("this system has no mount")

    def mount(folder):
        target = tmp_path / "read-only"
        target.mkdir()
        for command in (["--bind", folder, target], ["-o", "remount,ro,bind", target]):
            if subprocess.run(["mount", *command], capture_output=True).returncode:
                pytest.skip("nothing can be mounted here")
            mounted[:] = [target]
        with pytest.raises(OSError, match="Read-only"):
            (target / "x").write_text("")
        return target

    yield mount
    for target in mounted:
        subprocess.run(["umount", target], check=True)


def test_what_only_reads_works(store, file_stage, options, read_only):
    ref = make(store, file_stage, options)
    record = ledger.start(store, "town").with_refs({"x": ref}).finished("completed")
    ledger.save(store, record)
    integrity.record_path(store.root, ref).unlink()
    there = Store.open(read_only(store.root))
    assert [v.status for v in maintenance.verify(there)] == ["ok"]
    assert [item.ref for item in maintenance.ls(there)] == [ref]
    assert there.find(file_stage.name, ref.key) == ref
    assert there.produce(file_stage, options, ["hello"], lambda path: None) == ref
    assert maintenance.gc(there).artifacts == ()
    assert next(maintenance.lineage(there, there.path(ref)).lines()).startswith(ref.path)
    assert ledger.latest(there) == record


def test_garbage_is_listed_and_not_removed(store, file_stage, options, read_only):
    ref = make(store, file_stage, options)
    there = Store.open(read_only(store.root))
    assert maintenance.gc(there).artifacts == (ref,)
    with pytest.raises(OSError, match="Read-only"):
        maintenance.gc(there, delete=True)
    assert store.is_intact(ref)


def test_without_an_index_it_is_read_without(store, file_stage, options, read_only):
    ref = make(store, file_stage, options)
    whole.remove(store.root / "index")
    there = Store.open(read_only(store.root))
    assert there.find(file_stage.name, ref.key) == ref


def test_a_dry_run_does_not_list_what_is_held(store, file_stage, options):
    ref = make(store, file_stage, options)
    lock = store.lock(ref.key)
    assert lock.is_free() and not lock.path.exists()
    with lock:
        assert not store.lock(ref.key).is_free()
        assert maintenance.gc(store).kept_locked == (ref.path,)
    assert maintenance.gc(store).artifacts == (ref,)


def refuse(*arguments, **named):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_lock_holds_without_room_for_the_name_of_its_holder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "pwrite", refuse)
    lock = FileLock(tmp_path / "a.lock")
    assert lock.try_acquire() and not FileLock(tmp_path / "a.lock").try_acquire()
    assert FileLock(tmp_path / "a.lock").holder() == "another process"
    lock.release()
    assert FileLock(tmp_path / "a.lock").try_acquire()


def test_verified_without_room_to_remember_it(store, file_stage, options, monkeypatch):
    ref = make(store, file_stage, options)
    monkeypatch.setattr(integrity, "write_json", refuse)
    assert integrity.verify(store.root, ref)


def test_an_index_is_whole_or_not_there(store, file_stage, options, monkeypatch):
    refs = [make(store, file_stage, options, text) for text in "abc"]
    whole.remove(store.root / "index")
    monkeypatch.setattr("storage.store.lookup.write_json", refuse)
    with pytest.raises(OSError, match="No space"):
        Store.open(store.root)
    assert not [path for path in store.root.iterdir() if "index" in path.name]
    monkeypatch.undo()
    again = Store.open(store.root)
    assert [again.find(file_stage.name, ref.key) for ref in refs] == refs


def test_a_build_without_room_leaves_nothing(store, file_stage, options):
    with pytest.raises(OSError, match="No space"):
        store.produce(file_stage, options, [], refuse)
    assert list((store.root / file_stage.name).iterdir()) == []
    make(store, file_stage, options)
