"""Chunks of items as calls of a stage task: those that exist keep their items, misses form new ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.files.digests import json_sha256
from storage.keys.artifacts import ArtifactRef, items_digest
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store.store import Store


@dataclass(frozen=True)
class Items:
    """An input of a stage task: items that lie in chunk artifacts. The key has their content, however they
    are spread over chunks.

    refs: the chunks; names: ids of the items that count, None = all in them.
    """

    refs: Sequence[ArtifactRef]
    names: Sequence[str] | None = None
    _known: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)

    def digests(self, store: Store) -> list[str]:
        """What the key has of them."""
        if store.root not in self._known:
            self._known[store.root] = items_input(store, self.refs, self.names)
        return [self._known[store.root]]


@dataclass(frozen=True)
class Part:
    """An input of a stage task: artifacts of which a part counts, and digests of that part for the key.

    formerly: the same digests as older code made them, where they depend on code themselves.
    """

    refs: Sequence[ArtifactRef]
    facts: Sequence[str]
    formerly: Sequence[Sequence[str]] = ()

    def digests(self, store: Store) -> list[str]:
        """What the key has of it."""
        return list(self.facts)


def chunk_calls(
    store: Store, stage: Stage, options: Options, wanted: Mapping[str, str], size: int, *, again: bool = False
) -> list[dict[str, Any]]:
    """Calls {"items", "inputs"} that together make all wanted items (id -> input digest), new ones in the
    order of `wanted`.

    again: the calls are to compute what is there already, so that none may hold an item that is not wanted.
    """
    chunks = store.plan_items(stage, options, wanted, size)
    calls = [
        {"items": list(chunk.items), "inputs": list(chunk.inputs)}
        for chunk in chunks
        if not again or all(item in wanted for item in chunk.items)
    ]
    planned = {item for call in calls for item in call["items"]}
    left = {item: digest for item, digest in wanted.items() if item not in planned}
    for start in range(0, len(left), size):
        names = list(left)[start : start + size]
        calls.append({"items": names, "inputs": [items_digest({name: left[name] for name in names})]})
    return calls


def holders(store: Store, refs: Sequence[ArtifactRef]) -> dict[str, ArtifactRef]:
    """Item id -> the chunk that holds it."""
    return {item: ref for ref in refs for item in store.item_digests(ref)}


def chunks_holding(holding: Mapping[str, ArtifactRef], items: Iterable[str]) -> list[ArtifactRef]:
    """The chunks that hold these items, by path: a task that got all would read and remember all of them."""
    found = {holding[item].path: holding[item] for item in items if item in holding}
    return [found[path] for path in sorted(found)]


def item_digests(store: Store, refs: Sequence[ArtifactRef]) -> dict[str, str]:
    """Item id -> content digest, over several chunks."""
    return {item: digest for ref in refs for item, digest in store.item_digests(ref).items()}


def items_input(store: Store, refs: Sequence[ArtifactRef], items: Sequence[str] | None = None) -> str:
    """One digest of the content of items (default: all), however they are spread over chunks.

    What depends on items must not depend on the history that grouped them.
    """
    digests = item_digests(store, refs)
    return json_sha256([[item, digests[item]] for item in sorted(digests if items is None else items)])


def file_of_items(store: Store, refs: Sequence[ArtifactRef]) -> dict[str, Path]:
    """Item id -> file or folder of the chunk that holds it."""
    return {item: store.path(ref) for item, ref in holders(store, refs).items()}
