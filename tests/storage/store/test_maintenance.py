import os
import shutil
import time

import pytest

from storage.keys.stages import Stage
from storage.store import ledger, maintenance
from storage.store.maintenance import StoreBusy, UnknownFile


def make(store, options, name, text="x", upstream=(), kind="file"):
    def build(path):
        (path / "member.bin" if path.is_dir() else path).write_text(text)

    inputs = [text, *(ref.content_sha256 for ref in upstream)]
    return store.produce(Stage(name=name, kind=kind), options, inputs, build, upstream=upstream)


@pytest.fixture
def chain(store, options):
    """photos -> scene -> training set, all three held by one ended run through the last."""
    photos = make(store, options, "catalogue")
    scene = make(store, options, "scene", upstream=[photos], kind="directory")
    training_set = make(store, options, "training_set", upstream=[scene])
    record = ledger.start(store, "town").with_refs({"training_set": training_set}).finished("completed")
    ledger.save(store, record)
    return photos, scene, training_set, record


def test_ls(store, options, chain):
    photos, scene, training_set, record = chain
    listed = maintenance.ls(store)
    assert [item.ref for item in listed] == [photos, scene, training_set]
    assert [item.runs for item in listed] == [(), (), (record.id,)]
    assert [item.ref for item in maintenance.ls(store, "scene")] == [scene]


def test_verify(store, options, chain):
    photos, scene, training_set, _ = chain
    assert {v.status for v in maintenance.verify(store)} == {"ok"}
    before = (store.path(scene) / "member.bin").stat()
    (store.path(scene) / "member.bin").write_text("y")
    os.utime(store.path(scene) / "member.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    store.path(photos).unlink()
    (store.root / "scene" / "stray.txt").touch()
    verdicts = {v.path: v.status for v in maintenance.verify(store)}
    assert verdicts == {
        photos.path: "missing",
        scene.path: "damaged",
        training_set.path: "ok",
        "scene/stray.txt": "orphan",
    }


def test_gc_dry_run_then_delete(store, options, chain):
    *kept, _ = chain
    unused = [make(store, options, "scene", "old", kind="directory"), make(store, options, "network", "four")]
    plan = maintenance.gc(store)
    assert sorted(ref.path for ref in plan.artifacts) == sorted(ref.path for ref in unused)
    assert plan.bytes == len("old") + len("four")
    assert not plan.deleted
    assert all(store.is_intact(ref, full=True) for ref in unused)
    done = maintenance.gc(store, delete=True)
    assert (done.artifacts, done.bytes, done.deleted) == (plan.artifacts, plan.bytes, True)
    assert not any(store.is_intact(ref) for ref in unused)
    assert all(store.is_intact(ref, full=True) for ref in kept)
    assert maintenance.gc(store).artifacts == ()
    left = [p for p in store.root.rglob("*") if any(ref.name in p.name for ref in unused)]
    assert left == []


def test_gc_after_a_run_is_deleted(store, options, chain):
    *refs, record = chain
    ledger.delete(store, record.id)
    assert len(maintenance.gc(store, delete=True).artifacts) == 3
    assert not any(store.path(ref).exists() for ref in refs)


def test_gc_never_takes_what_is_locked(store, options):
    ref = make(store, options, "network")
    store.work_dir("f" * 64)
    with store.lock(ref.key), store.lock("f" * 64):
        found = maintenance.gc(store, delete=True, keep_work_s=-1)
    assert sorted(found.kept_locked) == sorted([ref.path, f"work/{'f' * 64}"])
    assert store.is_intact(ref)
    assert (store.root / "work" / ("f" * 64)).is_dir()


def test_gc_of_loose_files(store, options):
    make(store, options, "network")
    key = "e" * 64
    (store.work_dir(key) / "checkpoint").write_text("12345")
    (store.root / "network" / "stray").write_text("1")
    ledger.save(
        store,
        ledger.start(store, "t")
        .with_refs({"network": make(store, options, "network")})
        .finished("completed"),
    )
    (store.root / "network" / f".tmp-{key}-abc.h5").write_text("123")
    found = maintenance.gc(store)
    assert found.others == (f"network/.tmp-{key}-abc.h5",)  # the work and the stray file are too young
    os.utime(store.root / "network" / "stray", (1e9, 1e9))
    found = maintenance.gc(store, delete=True, keep_work_s=-1)
    assert sorted(found.others) == sorted([f"work/{key}", f"network/.tmp-{key}-abc.h5", "network/stray"])
    assert found.bytes == 5 + 3 + 1
    assert maintenance.gc(store).others == ()
    assert found.artifacts == ()


def test_gc_waits_for_runs_that_are_going_on(store, options):
    ref = make(store, options, "network")
    record = ledger.start(store, "town")
    assert maintenance.gc(store).artifacts == (ref,)  # a dry run may look
    with pytest.raises(StoreBusy, match=record.id):
        maintenance.gc(store, delete=True)
    ledger.save(store, record.model_copy(update={"process_started": 0.0}))  # killed long ago
    assert maintenance.gc(store, delete=True).artifacts == (ref,)


def test_lineage(store, options, chain, tmp_path):
    photos, scene, training_set, _ = chain
    tree = maintenance.lineage(store, store.path(training_set))
    assert (tree.ref, tree.upstream[0].ref, tree.upstream[0].upstream[0].ref) == (training_set, scene, photos)
    lines = list(tree.lines())
    assert [line.split("  20")[0] for line in lines] == [
        training_set.path,
        f"  {scene.path}",
        f"    {photos.path}",
    ]
    assert maintenance.lineage(store, store.path(scene) / "member.bin").ref == scene
    shutil.copyfile(store.path(training_set), tmp_path / "copy.h5")
    assert maintenance.lineage(store, tmp_path / "copy.h5").ref.file_sha256 == training_set.file_sha256
    with pytest.raises(UnknownFile, match=r"nothing\.h5"):
        maintenance.lineage(store, tmp_path / "nothing.h5")


def test_lineage_of_what_lost_an_ancestor_and_of_what_has_one_twice(store, options):
    gone = make(store, options, "catalogue")
    both = [make(store, options, "scene", text, upstream=[gone]) for text in "ab"]
    last = make(store, options, "training_set", upstream=both)
    store.remove(gone)
    lines = list(maintenance.lineage(store, store.path(last)).lines())
    assert len(lines) == 5
    assert lines[2].endswith("(no longer in the store)")
    twice = make(store, options, "evaluation", upstream=[last, both[0]])
    assert list(maintenance.lineage(store, store.path(twice)).lines())[-1] == f"  {both[0].path}  (see above)"


def test_migrate_rebuilds_the_index(store, options, chain):
    *refs, _ = chain
    shutil.rmtree(store.root / "index")
    (store.root / "index").mkdir()
    done = maintenance.migrate(store)
    assert (done.from_format, done.to_format, done.indexed, done.older_layouts) == (1, 1, 3, ())
    time.sleep(0.03)
    assert [store.find(ref.stage, ref.key) for ref in refs] == refs


def test_migrate_lists_files_of_older_layouts(store, options, chain, monkeypatch):
    from storage.keys.artifacts import sidecar_path, write_sidecar

    scene = chain[1]
    sidecar = store.sidecar(scene)
    write_sidecar(
        store.root, sidecar.model_copy(update={"key_parts": {**sidecar.key_parts, "schema": ["scene", 0]}})
    )
    assert sidecar_path(store.root, scene).exists()
    assert maintenance.migrate(store).older_layouts == (scene.path,)
