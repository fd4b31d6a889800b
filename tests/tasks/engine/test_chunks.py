"""Chunks of items as calls."""

from pathlib import Path
from typing import Any

import pytest

from storage.keys.artifacts import ArtifactRef
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store.store import Store
from tasks.engine.chunks import chunk_calls, chunks_holding, holders, item_digests, items_input

STAGE = Stage(name="toy", suffix=".txt")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", min_free_bytes=0)


def calls(store: Store, names: str, size: int = 2, *, again: bool = False) -> list[dict[str, Any]]:
    return chunk_calls(store, STAGE, Options(), dict(zip(names, names, strict=True)), size, again=again)


def make(store: Store, names: str) -> list[ArtifactRef]:
    """Every chunk of some items; an item's content is its name, repeated."""
    made = []
    for call in calls(store, names):

        def build(out: Path, items: list[str] = call["items"]) -> dict[str, Any]:
            out.write_text("".join(items))
            return {"items": {name: {"input": name, "content": f"{ord(name):064x}"} for name in items}}

        made.append(store.produce(STAGE, Options(), call["inputs"], build))
    return made


def items_of(calls: list[dict[str, Any]]) -> list[str]:
    return ["".join(call["items"]) for call in calls]


def test_misses_form_new_chunks_beside_those_that_exist(store: Store) -> None:
    make(store, "bd")
    assert items_of(calls(store, "abcde")) == ["bd", "ac", "e"]


def test_what_is_made_again_holds_wanted_items_only(store: Store) -> None:
    """Photograph d is gone: its chunk cannot be made again, b goes to a new one."""
    make(store, "bd")
    make(store, "ac")
    assert items_of(calls(store, "abc")) == ["ac", "bd"]
    again = calls(store, "abc", again=True)
    assert items_of(again) == ["ac", "b"]
    assert again[1]["inputs"] == calls(Store.create(store.root / "other", min_free_bytes=0), "b")[0]["inputs"]


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
