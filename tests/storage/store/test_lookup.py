import json

from storage.files.whole import remove
from storage.keys.keys import family_key, key_parts, parts_meaning


def produce(store, stage, options, *inputs, text="x", **how):
    return store.produce(stage, options, inputs, lambda path: path.write_text(text) and None, **how)


def test_families_and_meanings(store, file_stage, options):
    refs = [produce(store, file_stage, options, name) for name in "ab"]
    other = produce(store, file_stage, options.model_copy(update={"size": 2.0}), "a")
    family = family_key(file_stage, options)
    assert {s.ref.path for s in store.index.family(family)} == {ref.path for ref in refs}
    meaning = parts_meaning(key_parts(file_stage, options, ["a"]))
    assert [s.ref for s in store.index.meaning(meaning)] == [refs[0]]
    assert {s.ref.path for s in store.index.sidecars()} == {r.path for r in [*refs, other]}
    assert list(store.index.family("0" * 64)) == []
    assert store.index.stage_names() == ["toy"]


def test_pointer_is_not_believed_blindly(store, file_stage, options):
    one, two = (produce(store, file_stage, options, name) for name in "ab")
    pointer = store.root / "index" / "keys" / "toy" / f"{one.key}.json"
    pointer.write_text(json.dumps(two.model_dump()))
    assert store.index.current("toy", one.key) is None
    assert store.find("toy", one.key) == one
    assert store.index.current("toy", one.key) == one  # healed


def test_rebuild_keeps_the_newest_of_a_key(store, file_stage, options):
    old = produce(store, file_stage, options, text="old")
    new = produce(store, file_stage, options, text="new", force=True)
    remove(store.root / "index")
    assert store.index.rebuild() == 2
    assert store.index.current("toy", old.key) == new
    assert store.index.of_key("toy", old.key) == [new, old]


def test_discard(store, file_stage, options):
    ref = produce(store, file_stage, options)
    store.remove(ref)
    assert list(store.index.sidecars()) == []
    assert [p for p in (store.root / "index").rglob("*") if p.is_file()] == []
    assert store.find("toy", ref.key) is None


def test_marker_of_a_lost_sidecar_is_passed_over(store, file_stage, options):
    ref = produce(store, file_stage, options)
    (store.root / "toy" / f"{ref.name}.sidecar.json").unlink()
    assert list(store.index.family(family_key(file_stage, options))) == []
