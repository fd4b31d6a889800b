"""What stage tasks are given: items in chunks, chunks of items to make, parts of artifacts, values."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.files.digests import json_sha256
from storage.keys.artifacts import ArtifactRef, items_digest
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store.store import Store


class Input(ABC):
    """An input of a stage task that says itself what the key has of it. refs: artifacts that it lies in."""

    refs: Sequence[ArtifactRef]

    @abstractmethod
    def digests(self, store: Store) -> list[str]:
        """What the key has of it."""


@dataclass(frozen=True)
class Items(Input):
    """Items that lie in chunk artifacts. The key has their content, however they are spread over chunks.

    refs: the chunks; names: ids of the items that count, None = all in them.
    """

    refs: Sequence[ArtifactRef]
    names: Sequence[str] | None = None
    _known: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)

    def digests(self, store: Store) -> list[str]:
        if store.root not in self._known:
            self._known[store.root] = items_input(store, self.refs, self.names)
        return [self._known[store.root]]


@dataclass(frozen=True)
class Chunk(Input):
    """Items that the task makes. made_from: id -> digest of an item's input; refs: artifacts that these
    inputs lie in."""

    made_from: Mapping[str, str]
    refs: Sequence[ArtifactRef] = ()

    def digests(self, store: Store) -> list[str]:
        return [items_digest(self.made_from)]

    def made(self, content: Mapping[str, str]) -> dict[str, Any]:
        """What a build reports of these items. content: id -> digest."""
        inputs = self.made_from.items()
        return {"items": {id: {"input": digest, "content": content[id]} for id, digest in inputs}}


@dataclass(frozen=True)
class Part(Input):
    """Artifacts of which a part counts. facts: digests of that part; formerly: the same as older code made
    them, where they depend on code themselves."""

    refs: Sequence[ArtifactRef]
    facts: Sequence[str]
    formerly: Sequence[Sequence[str]] = ()

    def digests(self, store: Store) -> list[str]:
        return list(self.facts)


@dataclass(frozen=True)
class Known(Input):
    """A value that is no artifact. facts: digests of what counts of it."""

    value: Any
    facts: Sequence[str]
    refs: Sequence[ArtifactRef] = ()

    def digests(self, store: Store) -> list[str]:
        return list(self.facts)


def chunks_of(
    store: Store, stage: Stage, options: Options, wanted: Mapping[str, str], size: int, *, again: bool = False
) -> list[Chunk]:
    """Chunks that together make all wanted items (id -> input digest): those that exist keep their items,
    misses form new ones in the order of `wanted`.

    again: what is there already is computed too, so that no chunk may hold an item that is not wanted.
    """
    planned = (chunk.made_from for chunk in store.plan_items(stage, options, wanted, size))
    chunks = [Chunk(items) for items in planned if not again or items.keys() <= wanted.keys()]
    taken = {item for chunk in chunks for item in chunk.made_from}
    left = [item for item in wanted if item not in taken]
    for start in range(0, len(left), size):
        chunks.append(Chunk({item: wanted[item] for item in left[start : start + size]}))
    return chunks


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
