"""Chunks of items as inputs."""

from pathlib import Path
from typing import Any

import pytest

from storage.keys.artifacts import ArtifactRef
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store.store import Store
from tasks.engine.chunks import Chunk, chunks_holding, chunks_of, holders, item_digests, items_input

STAGE = Stage(name="toy", suffix=".txt")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", min_free_bytes=0)


def chunks(store: Store, names: str, size: int = 2, *, again: bool = False) -> list[Chunk]:
    return chunks_of(store, STAGE, Options(), dict(zip(names, names, strict=True)), size, again=again)


def make(store: Store, names: str) -> list[ArtifactRef]:
    """Every chunk of some items; an item's content is its name, repeated."""
    made = []
    for chunk in chunks(store, names):

        def build(out: Path, chunk: Chunk = chunk) -> dict[str, Any]:
            out.write_text("".join(chunk.made_from))
            return chunk.made({name: f"{ord(name):064x}" for name in chunk.made_from})

        made.append(store.produce(STAGE, Options(), chunk.digests(store), build))
    return made


def items_of(chunks: list[Chunk]) -> list[str]:
    return ["".join(chunk.made_from) for chunk in chunks]


def test_misses_form_new_chunks_beside_those_that_exist(store: Store) -> None:
    make(store, "bd")
    assert items_of(chunks(store, "abcde")) == ["bd", "ac", "e"]


def test_what_is_made_again_holds_wanted_items_only(store: Store) -> None:
    """Photograph d is gone: its chunk cannot be made again, b goes to a new one."""
    make(store, "bd")
    make(store, "ac")
    assert items_of(chunks(store, "abc")) == ["ac", "bd"]
    again = chunks(store, "abc", again=True)
    assert items_of(again) == ["ac", "b"]
    assert again[1] == chunks(Store.create(store.root / "other", min_free_bytes=0), "b")[0]


def test_a_chunk_is_known_by_what_its_items_are_made_from(store: Store) -> None:
    """In any order; what exists is found again, with the input that each of its items had."""
    (ref,) = make(store, "bd")
    (again,) = chunks(store, "db")
    assert again == Chunk({"b": "b", "d": "d"}) and again.digests(store) == list(
        store.sidecar(ref).key_parts["inputs"]
    )
    assert again.digests(store) == Chunk({"d": "d", "b": "b"}, [ref]).digests(store)
    assert again.digests(store) != Chunk({"b": "b", "d": "x"}).digests(store)


def test_who_holds_what(store: Store) -> None:
    made = make(store, "abcd")
    where = holders(store, made)
    assert where == {"a": made[0], "b": made[0], "c": made[1], "d": made[1]}
    assert chunks_holding(where, "ab") == [made[0]]
    assert chunks_holding(where, ["d", "a", "?"]) == sorted(made, key=lambda ref: ref.path)
    assert chunks_holding(where, []) == []


def test_the_digest_of_items_does_not_depend_on_their_chunks(store: Store, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "other", min_free_bytes=0)
    together, apart = make(store, "abcd"), [*make(other, "ad"), *make(other, "abcd")]
    assert items_input(store, together) == items_input(other, apart)
    assert items_input(store, together, ["b", "a"]) == items_input(other, apart, ["a", "b"])
    assert items_input(store, together, ["a"]) != items_input(store, together)
    assert item_digests(store, together)["a"] == f"{ord('a'):064x}"
