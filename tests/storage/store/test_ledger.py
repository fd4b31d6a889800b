import os

import pytest

from storage.files.whole import write_json
from storage.keys.artifacts import ArtifactRef
from storage.keys.stages import Stage
from storage.store import ledger
from storage.store.ledger import RunRecord, UnknownRun


def make(store, options, name, inputs=(), text="x", upstream=()):
    stage = Stage(name=name, suffix=".txt")
    return store.produce(
        stage, options, [text, *inputs], lambda path: path.write_text(text) and None, upstream=upstream
    )


def test_saved_and_loaded(store, options):
    one, two = make(store, options, "scene"), make(store, options, "models", text="y")
    record = ledger.start(store, "town", options={"a": 1}, resources={"device": "cpu"})
    record = record.with_refs({"scene": one, "models": [two, two]}).finished("completed")
    path = ledger.save(store, record)
    assert path == store.root / "runs" / f"{record.id}.json"
    again = ledger.load(store, record.id)
    assert again == record
    assert again.refs_of("scene") == (one,)
    assert again.refs_of("models") == (two, two)
    assert again.refs_of("network") == ()
    assert isinstance(again.refs["scene"], ArtifactRef)
    assert list(again.all_refs()) == [one, two, two]
    assert again.ended >= again.started


def test_measuring_on_a_benchmark_is_not_the_latest_run(store, options):
    first = ledger.start(store, "town").finished("completed")
    second = ledger.start(store, "roxford5k", kind="benchmark").finished("completed")
    for record in (first, second):
        ledger.save(store, record)
    assert ledger.load(store, "latest") == first
    assert ledger.latest(store, kind="benchmark") == second
    assert ledger.load(store, second.id).kind == "benchmark"


def test_latest(store, options):
    assert ledger.latest(store) is None
    scene = make(store, options, "scene")
    first = ledger.start(store, "town").with_refs({"scene": scene}).finished("completed")
    second = ledger.start(store, "museum").finished("completed")
    third = ledger.start(store, "town").finished("failed")
    fourth = ledger.start(store, "town")
    for record in (first, second, third):
        ledger.save(store, record)
    assert [record.id for record in ledger.records(store)] == [fourth.id, third.id, second.id, first.id]
    assert ledger.latest(store).id == second.id
    assert ledger.latest(store, "town").id == first.id
    assert ledger.latest(store, "town", status="failed").id == third.id
    assert ledger.latest(store, "town", status=None).id == fourth.id
    assert ledger.latest(store, status=None, having=["scene"]).id == first.id
    assert ledger.load(store, "latest", "museum").id == second.id


def test_unknown_runs(store):
    with pytest.raises(UnknownRun, match="no completed run of 'town'"):
        ledger.load(store, "latest", "town")
    record = ledger.start(store, "town")
    with pytest.raises(UnknownRun, match=f"'nope'.*{record.id}"):
        ledger.load(store, "nope")
    with pytest.raises(UnknownRun):
        ledger.load(store, "../store")
    ledger.delete(store, record.id)
    assert list(ledger.records(store)) == []


def test_garbled_record_is_passed_over(store):
    record = ledger.start(store, "town")
    (store.root / "runs" / "99999999T000000-zz.json").write_text("{")
    write_json(store.root / "runs" / "99999999T000001-zz.json", {"id": 3})
    assert [r.id for r in ledger.records(store)] == [record.id]


def test_alive_until_the_process_ends(store, start_python):
    mine = ledger.start(store, "town")
    assert mine.alive and ledger.load(store, mine.id).alive
    assert not mine.finished("completed").alive
    child = start_python(
        "import sys; from storage.store import ledger; from storage.store.store import Store\n"
        "print(ledger.start(Store.open(sys.argv[1]), 'town').id, flush=True); sys.stdin.read()",
        store.root,
    )
    name = child.stdout.readline().strip()
    child.kill()
    child.wait()
    assert ledger.load(store, name).status == "running"
    assert not ledger.load(store, name).alive
    assert mine.model_copy(update={"host": "another"}).alive
    assert not mine.model_copy(update={"process_started": "an earlier boot/1"}).alive
    assert not mine.model_copy(update={"process_started": 0.0}).alive  # of an older version
    assert mine.pid == os.getpid()


def test_stale(store, options):
    old, new = make(store, options, "scene", text="old"), make(store, options, "scene", text="new")
    from_old = make(store, options, "training_set", [old.content_sha256], upstream=[old])
    from_new = make(store, options, "training_set", [new.content_sha256], upstream=[new])
    elsewhere = ledger.start(store, "museum").with_refs({"scene": old, "training_set": from_old})
    first = (
        ledger.start(store, "town").with_refs({"scene": old, "training_set": from_old}).finished("completed")
    )
    second = ledger.start(store, "town", from_run=first.id).with_refs({"scene": new})
    for record in (elsewhere, first, second):
        ledger.save(store, record)
    (found,) = ledger.stale(store, second)
    assert (found.ref, found.run, found.built_from, found.current) == (from_old, first.id, old, (new,))
    assert old.content_sha256[:16] in str(found) and new.content_sha256[:16] in str(found)
    assert ledger.stale(store, first) == []
    third = second.with_refs({"training_set": from_new})
    ledger.save(store, third)
    assert [stale.ref for stale in ledger.stale(store, third)] == [from_old]


def test_names_of_a_run_need_not_be_stages_and_equal_chunks_are_not_stale(store, options):
    """Two names of one stage are looked at together; what the run holds itself is never stale."""
    near, far = make(store, options, "descriptors", text="near"), make(store, options, "descriptors")
    pairs = make(store, options, "pairs", [near.content_sha256], upstream=[near])
    regrouped = make(
        store, options, "matches", ["g"], upstream=[make(store, options, "features", text="old")]
    )
    features = make(store, options, "features", text="new")
    first = ledger.start(store, "town").with_refs({"proposals": pairs, "near": near}).finished("completed")
    second = ledger.start(store, "town").with_refs(
        {"near": near, "far": [far], "features": features, "matches": regrouped}
    )
    for record in (first, second):
        ledger.save(store, record)
    assert ledger.stale(store, second) == []
    third = second.model_copy(update={"refs": {"far": (far,)}})
    assert ledger.stale(store, third) == []  # it has nothing under the names of their sources


def test_what_was_built_from_something_stale_is_stale(store, options):
    """whitening <- descriptors <- network <- training set: only the training set is made anew."""
    old, new = (make(store, options, "training_set", text=text) for text in ("old", "new"))
    scene = make(store, options, "scene")
    network = make(store, options, "network", upstream=[old, scene])
    descriptors = [make(store, options, "descriptors", text=str(i), upstream=[network]) for i in range(2)]
    plain = make(store, options, "descriptors", text="plain", upstream=[scene])
    whitening = make(store, options, "whiten", upstream=descriptors)
    refs = {"training_set": old, "scene": scene, "finetune": network, "far": [*descriptors, plain]}
    first = ledger.start(store, "town").with_refs({**refs, "whiten": whitening}).finished("completed")
    second = ledger.start(store, "town").with_refs({"scene": scene, "training_set": new, "near": plain})
    for record in (first, second):
        ledger.save(store, record)
    found = ledger.stale(store, second)
    assert [each.ref for each in found] == [network, *descriptors, whitening]
    assert {each.built_from for each in found} == {old}
    assert {each.current for each in found} == {(new,)}


def test_record_is_json_both_ways(store):
    record = ledger.start(store, "town", options={"x": [1, None, "a"]})
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


def test_a_run_begins_by_sweeping_what_killed_ones_left(store, options):
    """Unfinished artifacts and small files, locks; what a living process works on stays."""
    dead, living = "d" * 64, "e" * 64
    make(store, options, "network")
    left = [f"network/.tmp-{dead}-abc.h5", f"network/.tmp-{dead}-abc.h5.77.partial", f"locks/{dead}.lock"]
    left += [
        f"{folder}/.new-abc" for folder in (".", "runs", "network", "index/keys/network", "verified/network")
    ]
    for name in left:
        (store.root / name).write_text("x")
    kept = store.root / "network" / f".tmp-{living}-abc.h5"
    kept.write_text("x")
    with store.lock(living):
        ledger.start(store, "town")
        assert kept.exists() and (store.root / "locks" / f"{living}.lock").exists()
    assert [name for name in left if (store.root / name).exists()] == []
