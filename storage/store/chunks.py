"""Caching by item (a photograph, a pair) while work and files come in chunks of many items.

Items are named by an id and the digest of their input. A chunk artifact lists its items in a file beside it:
``{id: {"input": digest, "content": digest}}``. Chunks of one family (same stage, options and code) are looked
up together, so an item that is in any intact chunk is not computed again, and only misses form new chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from storage.files.digests import is_digest
from storage.files.whole import read_json
from storage.keys.artifacts import ArtifactRef, BrokenBuild, items_digest, items_path
from storage.keys.keys import family_key
from storage.keys.stages import Stage

if TYPE_CHECKING:
    from storage.store.store import Store

Items = dict[str, dict[str, str]]


class WrongChunkSize(ValueError):
    """A chunk size below one."""


@dataclass(frozen=True)
class Chunk:
    """Items (id -> digest of its input) that are computed and stored together; ``ref`` is their artifact,
    None where it is to be made."""

    made_from: Mapping[str, str]
    ref: ArtifactRef | None = None

    @property
    def items(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple(self.made_from)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What ``Store.produce`` takes for this chunk, whether it exists or not."""
        return (items_digest(self.made_from),)


def checked(value: Any, stage_name: str) -> Items:
    """The items that a build reported, {} for none. Raises BrokenBuild where they are not digests by id."""
    for name, facts in (value or {}).items():
        if set(facts) != {"input", "content"} or not is_digest(facts["content"]):
            raise BrokenBuild(
                f"stage {stage_name!r}, item {name!r}: expected input and content digests, got {facts}"
            )
    return dict(value or {})


def read(root: Path, ref: ArtifactRef) -> Items:
    """The items of a chunk artifact, {} where the list is lost or damaged."""
    value = read_json(items_path(root, ref))
    try:
        return checked(value, ref.stage) if isinstance(value, dict) else {}
    except (BrokenBuild, TypeError):
        return {}


def plan(
    store: Store, stage: Stage, options: BaseModel, wanted: Mapping[str, str], chunk_size: int
) -> list[Chunk]:
    """Chunks that together hold all wanted items (id -> input digest).

    Intact chunks that hold one come first and keep their own list of items, then the misses, in the order of
    ``wanted``, ``chunk_size`` to a new chunk. Raises WrongChunkSize.
    """
    if chunk_size < 1:
        raise WrongChunkSize(f"chunk size {chunk_size}: give at least 1")
    used = _cover(store, stage, options, wanted)
    chunks = [Chunk(inputs_of(own), ref) for ref, own, _ in used]
    covered = {name for _, _, names in used for name in names}
    misses = [name for name in wanted if name not in covered]
    for start in range(0, len(misses), chunk_size):
        chunks.append(Chunk({name: wanted[name] for name in misses[start : start + chunk_size]}))
    return chunks


def locate(
    store: Store, stage: Stage, options: BaseModel, wanted: Mapping[str, str]
) -> dict[str, ArtifactRef]:
    """The intact chunk artifact of each wanted item; items that none holds are left out."""
    used = _cover(store, stage, options, wanted)
    found = {name: ref for ref, _, names in used for name in names}
    return {name: found[name] for name in wanted if name in found}


def inputs_of(own: Items) -> dict[str, str]:
    """Id -> digest of its input, sorted, of the items of a chunk artifact."""
    return {name: own[name]["input"] for name in sorted(own)}


def _cover(
    store: Store, stage: Stage, options: BaseModel, wanted: Mapping[str, str]
) -> list[tuple[ArtifactRef, Items, list[str]]]:
    """Intact chunks with their items and the wanted ones that each answers for: every item has one chunk.

    The chunk with more of the wanted items goes first, then by name: the choice never depends on time.
    """
    candidates = []
    for ref, own in _family(store, stage, options):
        names = [name for name, facts in own.items() if wanted.get(name) == facts["input"]]
        if names:
            candidates.append((ref, own, names))
    candidates.sort(key=lambda candidate: (-len(candidate[2]), candidate[0].path))
    taken: set[str] = set()
    used = []
    for ref, own, names in candidates:
        fresh = [name for name in names if name not in taken]
        if fresh and store.is_intact(ref):
            taken.update(fresh)
            used.append((ref, own, fresh))
    return sorted(used, key=lambda chunk: min(chunk[2]))


def _family(store: Store, stage: Stage, options: BaseModel) -> Iterator[tuple[ArtifactRef, Items]]:
    for sidecar in store.index.family(family_key(stage, options)):
        if sidecar.items:
            own = read(store.root, sidecar.ref)
            if len(own) == sidecar.items:
                yield sidecar.ref, own
