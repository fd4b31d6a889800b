import time

import pytest

from storage.keys import keys
from storage.keys.code import source_path
from storage.keys.keys import stage_key
from storage.keys.stages import Stage
from storage.store import superseded
from storage.store.superseded import NothingOlder

BUILT = []


def build(path):
    BUILT.append(1)
    (path / "file" if path.is_dir() else path).write_text("made by old code")


@pytest.fixture(params=["file", "directory"])
def stage(request, make_package):
    module = f"{make_package({'step': 'x = 1'})}.step"
    return Stage(name="toy", kind=request.param, packages=("numpy",), code=module)


def edit(stage: Stage, text: str) -> None:
    source_path(stage.code).write_text(text)


def test_only_a_code_edit(store, stage, options):
    ref = store.produce(stage, options, ["a"], build)
    assert store.why_missing(stage, options, ["a"]) is None  # nothing is missing
    edit(stage, "x = 22")
    why = store.why_missing(stage, options, ["a"])
    assert why.ref == ref
    assert why.differences == (f"{stage.code} changed",)
    assert 0 <= why.age_seconds < 60
    assert why.seconds == store.sidecar(ref).seconds
    assert str(why).startswith("toy: made 0.0 h ago in 0 s, only the code differs")


def test_only_a_package_update(store, stage, options, monkeypatch):
    store.produce(stage, options, ["a"], build)
    now = keys._package_version("numpy")
    monkeypatch.setattr(keys, "_package_version", lambda name: "99")
    assert store.why_missing(stage, options, ["a"]).differences == (f"numpy {now} -> 99",)


@pytest.mark.parametrize("cause", ["inputs", "options", "version", "damage", "new"])
def test_any_other_cause(store, stage, options, cause):
    inputs = ["a"]
    if cause != "new":
        ref = store.produce(stage, options, inputs, build)
    if cause == "inputs":
        inputs = ["b"]
    elif cause == "options":
        options = options.model_copy(update={"size": 2.0})
    elif cause == "version":
        stage = stage.model_copy(update={"version": 2})
    elif cause == "damage":
        time.sleep(0.03)
        path = store.path(ref)
        (path / "file" if path.is_dir() else path).write_text("damaged, other length")
    edit(stage, "x = 22")
    assert store.why_missing(stage, options, inputs) is None
    with pytest.raises(NothingOlder, match="'toy'"):
        store.accept_older_code(stage, options, inputs)


def test_adopted(store, stage, options):
    old = store.produce(stage, options, ["a"], build)
    edit(stage, "x = 22")
    built = len(BUILT)
    new = store.accept_older_code(stage, options, ["a"])
    assert (
        store.produce(stage, options, ["a"], build) == new == store.accept_older_code(stage, options, ["a"])
    )
    assert len(BUILT) == built
    assert new.key == keys.stage_key(stage, options, ["a"]) != old.key
    assert new.content_sha256 == old.content_sha256
    assert store.is_intact(new, full=True) and store.is_intact(old, full=True)
    sidecar = store.sidecar(new)
    assert sidecar.accepted["from_key"] == old.key
    assert sidecar.accepted["differences"] == [f"{stage.code} changed"]
    assert sidecar.created == store.sidecar(old).created
    assert sidecar.key_parts == keys.key_parts(stage, options, ["a"])
    with store.lock(old.key):
        store.remove(old)
    assert store.is_intact(new, full=True)


def test_newest_of_several(store, stage, options):
    for number in range(3):
        edit(stage, f"x = {'1' * (number + 1)}")
        ref = store.produce(stage, options, ["a"], build)
    edit(stage, "y = 22222")
    assert store.why_missing(stage, options, ["a"]).ref == ref


def test_chunks(store, make_package, options):
    stage = Stage(name="toy", suffix=".txt", code=f"{make_package({'step': 'x = 1'})}.step")

    def run(wanted):
        for chunk in store.plan_items(stage, options, wanted, 2):

            def build_chunk(path, chunk=chunk):
                path.write_text(str(chunk.items))
                return {"items": {n: {"input": wanted[n], "content": "0" * 64} for n in chunk.items}}

            store.produce(stage, options, chunk.inputs, build_chunk)

    wanted = {n: n for n in "abcde"}
    run({n: n for n in "bcd"})
    run(wanted)
    assert superseded.older_chunks(store, stage, options) == []
    before = [chunk.items for chunk in store.plan_items(stage, options, wanted, 2)]
    edit(stage, "x = 22")
    assert all(chunk.ref is None for chunk in store.plan_items(stage, options, wanted, 2))
    assert len(superseded.older_chunks(store, stage, options)) == len(before) == 3
    assert len(superseded.accept_chunks(store, stage, options)) == 3
    assert [chunk.items for chunk in store.plan_items(stage, options, wanted, 2)] == before
    assert set(store.locate_items(stage, options, wanted)) == set(wanted)


def test_only_chunks_with_wanted_items_are_adopted(store, make_package, options):
    """Of older chunks ab, cd, ef: d is wanted from older code, e is there already, x nobody has."""
    stage = Stage(name="toy", suffix=".txt", code=f"{make_package({'step': 'x = 1'})}.step")

    def make(names):
        wanted = {name: name for name in names}

        def build_chunk(path):
            path.write_text(names)
            return {"items": {n: {"input": n, "content": "0" * 64} for n in names}}

        (chunk,) = store.plan_items(stage, options, wanted, 9)
        return store.produce(stage, options, chunk.inputs, build_chunk)

    for names in ("ab", "cd", "ef"):
        make(names)
    edit(stage, "x = 22")
    make("e")
    (adopted,) = superseded.accept_chunks(store, stage, options, {"d": "d", "e": "e", "x": "x"})
    assert set(store.item_digests(adopted)) == {"c", "d"}
    assert superseded.accept_chunks(store, stage, options, {"d": "d"}) == []
    assert superseded.accept_chunks(store, stage, options, {"a": "another input"}) == []


def test_inputs_that_depend_on_code_are_known_as_older_code_had_them(store, make_package, options):
    """A key of another stage among the inputs changes with that stage's code."""
    first = Stage(name="first", suffix=".txt", code=f"{make_package({'step': 'x = 1'})}.step")
    toy = Stage(name="toy", suffix=".txt", code="storage.files.locks")
    items = {"items": {"a": {"input": "a", "content": "0" * 64}}}
    store.produce(first, options, ["a"], lambda path: path.write_text("first") and items)
    before = stage_key(first, options, ["b"])
    ref = store.produce(toy, options, [before], lambda path: path.write_text("toy") and None)
    edit(first, "x = 22")
    today, formerly = [stage_key(first, options, ["b"])], [[before]]
    assert superseded.keys_by_older_code(store, first, options, ["b"]) == [before]
    assert store.why_missing(toy, options, today) is None
    assert store.why_missing(toy, options, today, formerly).ref == ref
    adopted = store.accept_older_code(toy, options, today, formerly)
    assert (adopted.content_sha256, adopted.key) == (ref.content_sha256, stage_key(toy, options, today))
