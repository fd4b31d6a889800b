import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.files.digests import json_sha256
from storage.files.whole import remove
from storage.keys.artifacts import items_path
from storage.keys.stages import Stage
from storage.store.chunks import Chunk, WrongChunkSize
from storage.store.store import Store

STAGE = Stage(name="features", suffix=".txt")


def content_of(name: str, digest: str) -> str:
    return json_sha256([name, digest])


def run(store, options, wanted, chunk_size=2, computed=None, force=False) -> list[Chunk]:
    """What a flow does: plan, then make every chunk; ``computed`` collects the items that were worked on."""
    chunks = store.plan_items(STAGE, options, wanted, chunk_size)
    for chunk in chunks:

        def build(path, chunk=chunk):
            path.write_text(",".join(f"{name}={wanted[name]}" for name in chunk.items))
            if computed is not None:
                computed.extend(chunk.items)
            return {
                "items": {n: {"input": wanted[n], "content": content_of(n, wanted[n])} for n in chunk.items},
            }

        ref = store.produce(STAGE, options, chunk.inputs, build, force=force)
        assert chunk.ref in (None, ref)
    return chunks


def test_by_hand(store, options):
    wanted = {"c": "3", "a": "1", "b": "2"}
    chunks = run(store, options, wanted)
    assert [(chunk.items, chunk.ref) for chunk in chunks] == [(("c", "a"), None), (("b",), None)]
    again = store.plan_items(STAGE, options, wanted, 2)
    assert [chunk.items for chunk in again] == [("a", "c"), ("b",)]
    where = store.locate_items(STAGE, options, wanted)
    assert where == {"b": again[1].ref, "a": again[0].ref, "c": again[0].ref}
    assert store.item_digests(again[0].ref) == {"a": content_of("a", "1"), "c": content_of("c", "3")}
    assert store.path(again[0].ref).read_text() == "c=3,a=1"


def test_one_new_item_that_sorts_first_costs_one(store, options):
    run(store, options, {name: name for name in "bcdefg"})
    computed: list[str] = []
    chunks = run(store, options, {name: name for name in "abcdefg"}, computed=computed)
    assert computed == ["a"]
    assert [chunk.items for chunk in chunks] == [("b", "c"), ("d", "e"), ("f", "g"), ("a",)]


def test_changed_input_is_a_miss_and_the_rest_stays(store, options):
    run(store, options, {"a": "1", "b": "2", "c": "3"})
    computed: list[str] = []
    wanted = {"a": "1", "b": "changed", "c": "3"}
    run(store, options, wanted, computed=computed)
    assert computed == ["b"]
    where = store.locate_items(STAGE, options, wanted)
    assert store.item_digests(where["b"])["b"] == content_of("b", "changed")
    assert where["a"] != where["b"]


def test_removed_items_cost_nothing(store, options):
    run(store, options, {name: name for name in "abcd"})
    computed: list[str] = []
    chunks = run(store, options, {"a": "a", "c": "c"}, computed=computed)
    assert computed == []
    assert [chunk.items for chunk in chunks] == [("a", "b"), ("c", "d")]
    assert set(store.locate_items(STAGE, options, {"a": "a"})) == {"a"}


def test_other_options_share_nothing(store, options):
    run(store, options, {"a": "1"})
    other = options.model_copy(update={"size": 2.0})
    assert store.locate_items(STAGE, other, {"a": "1"}) == {}
    assert store.plan_items(STAGE, other, {"a": "1"}, 5)[0].ref is None


@pytest.mark.parametrize("loss", ["artifact", "byte", "items", "cut items"])
def test_damaged_chunk_alone_is_made_again(store, options, loss):
    wanted = {name: name for name in "abcd"}
    run(store, options, wanted)
    time.sleep(0.03)
    before = store.locate_items(STAGE, options, wanted)
    lost = before["a"]
    if loss == "artifact":
        store.path(lost).unlink()
    elif loss == "byte":
        store.path(lost).write_text("A=1,b=2")
    elif loss == "items":
        remove(items_path(store.root, lost))
    else:
        items_path(store.root, lost).write_text('{"a": {}}')
    computed: list[str] = []
    run(store, options, wanted, computed=computed)
    assert computed == ["a", "b"]
    assert store.locate_items(STAGE, options, wanted) == before


def test_item_in_two_chunks_is_taken_from_one(store, options):
    """Two runs at once may have computed the same item; the larger chunk answers, the other is not needed."""
    run(store, options, {"a": "a"}, chunk_size=1)
    with_b = {"a": "a", "b": "b"}

    def build(path):
        path.write_text("both")
        return {"items": {n: {"input": n, "content": content_of(n, n)} for n in "ab"}}

    both = store.produce(STAGE, options, ["both"], build)
    assert [chunk.ref for chunk in store.plan_items(STAGE, options, with_b, 5)] == [both]
    assert store.locate_items(STAGE, options, with_b) == {"a": both, "b": both}


def test_lost_index_is_made_again(store, options):
    run(store, options, {"a": "1", "b": "2", "c": "3"})
    before = store.plan_items(STAGE, options, {"a": "1", "c": "3"}, 2)
    remove(store.root / "index")
    assert Store.open(store.root).plan_items(STAGE, options, {"a": "1", "c": "3"}, 2) == before


def test_wrong_chunk_size(store, options):
    with pytest.raises(WrongChunkSize, match="0"):
        store.plan_items(STAGE, options, {"a": "1"}, 0)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("12"), max_size=8), st.integers(1, 4)
        ),
        max_size=4,
    )
)
def test_never_twice_and_never_missing(tmp_path_factory, options, steps):
    store = Store.create(tmp_path_factory.mktemp("items") / "s", min_free_bytes=0)
    known: set[tuple[str, str]] = set()
    for wanted, chunk_size in steps:
        computed: list[str] = []
        chunks = run(store, options, wanted, chunk_size, computed)
        assert sorted(computed) == sorted(n for n, d in wanted.items() if (n, d) not in known)
        assert all(len(chunk.items) <= chunk_size for chunk in chunks if chunk.ref is None)
        known |= set(wanted.items())
        where = store.locate_items(STAGE, options, wanted)
        assert set(where) == set(wanted)
        assert all(store.item_digests(where[n])[n] == content_of(n, d) for n, d in wanted.items())


def test_planning_many_chunks_is_fast(store, options):
    """A few small files are read for each of 50 chunks."""
    wanted = {f"{i:05d}": "x" for i in range(500)}
    run(store, options, wanted, chunk_size=10)
    time.sleep(0.03)
    store.plan_items(STAGE, options, wanted, 10)
    start = time.perf_counter()
    assert all(chunk.ref for chunk in store.plan_items(STAGE, options, wanted, 10))
    assert time.perf_counter() - start < 1.0
