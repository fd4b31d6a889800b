"""The steps of a run without making anything: what is cached, what only older code keeps from being so.

The walk uses the flows' own steps with the keys of their tasks. It ends at the first thing that is not there:
what follows depends on what will be in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.steps.table import STEPS
from flows.steps.work import Work
from storage.keys.artifacts import ArtifactRef, now
from storage.keys.keys import stage_key
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.photographs.scanning import survey
from storage.store import chunks as items
from storage.store import superseded as older
from storage.store.ledger import RunRecord
from storage.store.store import Store
from storage.store.superseded import OlderCode
from tasks.engine.caching import StagePolicy
from tasks.engine.chunks import Chunk, chunks_of
from tasks.photographs import SCAN_STAGE, ScanOptions, scan_inputs, scan_table_path

READ_BYTES = 4 * 2**30
"""New photographs are read to recognise them where they are no more than this; it takes half a minute."""


class Unforeseen(Exception):
    """Nobody can know what comes next."""


@dataclass(frozen=True)
class Seen:
    """One task as it would go: `items` photographs or pairs, 1 for a task that does not work by item."""

    flow: str
    stage: Stage
    options: Options
    items: int
    status: Literal["cached", "older", "missing"]
    older: OlderCode | None = None


@dataclass
class LookAhead(Work):
    """Work that is only looked at; nothing is written."""

    scan: ArtifactRef | None = None
    seen: dict[tuple[str, str], Seen] = field(default_factory=dict)
    """By stage and key: a task that the steps call twice counts once."""

    def walk(self, stages: Sequence[str], force: Sequence[str] = ()) -> bool:
        """Look at these flows in order; whether the end was reached."""
        with suppress(Unforeseen):
            for stage in stages:
                self.part, self.force = stage, stage in force
                STEPS[stage](self)
            return True
        return False

    def fan_out(self, task: Any, calls: Sequence[Mapping[str, Any]], **common: Any) -> list[ArtifactRef]:
        found = [self._look(task, {"store": self.root, **common, **call}) for call in calls]
        there = [ref for ref in found if ref is not None]
        if len(there) < len(found):
            raise Unforeseen
        return there

    def chunks(self, stage: Stage, options: Options, wanted: Mapping[str, str]) -> list[Chunk]:
        size = self.resources.size_of_chunk(stage.name)
        if self.force:
            return chunks_of(self.store, stage, options, wanted, size, again=True)
        planned = self.store.plan_items(stage, options, wanted, size)
        chunks = [Chunk(chunk.made_from) for chunk in planned if chunk.ref]
        held = {item for chunk in chunks for item in chunk.made_from}
        missing = {item: digest for item, digest in wanted.items() if item not in held}
        if missing:
            chunks += self._older_chunks(stage, options, missing)
            chunks.sort(key=lambda chunk: min(chunk.made_from))  # as they will be once they are accepted
            chunks += chunks_of(self.store, stage, options, missing, size, again=True)
        return chunks

    def _older_chunks(self, stage: Stage, options: Options, missing: dict[str, str]) -> Iterator[Chunk]:
        """Chunks that are there of older code; what they hold is taken out of `missing`."""
        for chunk in older.older_chunks(self.store, stage, options):
            made_from = items.inputs_of(items.read(self.store.root, chunk.ref))
            names = [name for name, digest in made_from.items() if missing.get(name) == digest]
            if names:
                for name in names:
                    del missing[name]
                yield Chunk(made_from)

    def _call(self, task: Any, **arguments: Any) -> ArtifactRef:
        known = isinstance(task.cache_policy, StagePolicy)
        found = self._look(task, arguments) if known else self._scan_of(arguments["photos"])
        if found is None:
            raise Unforeseen
        return found

    def _scan_of(self, folder: str) -> ArtifactRef | None:
        """The scan of the photographs, or of another folder as it is now."""
        if folder == self.resources.photos:
            return self.scan
        table, unread = survey(folder, scan_table_path(self.store, folder), READ_BYTES)
        key = stage_key(SCAN_STAGE, ScanOptions(), scan_inputs(table))
        return None if unread else self.store.find(SCAN_STAGE.name, key)

    def _look(self, task: Any, arguments: Mapping[str, Any]) -> ArtifactRef | None:
        call = task.cache_policy.call(arguments, force=False)
        count = len(arguments["chunk"].made_from) if "chunk" in arguments else 1
        seen = partial(Seen, self.part, call.stage, call.options, count)
        place = (call.stage.name, call.key)
        ref: ArtifactRef | None = None if self.force else self.store.find(*place)
        asked = (call.stage, call.options, call.inputs, call.formerly)
        why = None if ref or self.force else self.store.why_missing(*asked)
        if why is not None:
            ref = why.ref
        status: Any = "older" if why else "cached" if ref else "missing"
        self.seen.setdefault(place, seen(status, why))
        return ref

    def _save(self) -> None:
        """The record stays in memory."""


def look_ahead(
    store: Store,
    options: PipelineOptions,
    resources: PipelineResources,
    scan: ArtifactRef | None,
    collection: str = "",
) -> LookAhead:
    """A walk that has not begun. scan: what the folder of photographs holds; None: nothing is foreseen."""
    asked = options.model_dump(mode="json")
    record = RunRecord(id="plan", collection=collection, started=now(), options=asked)
    return LookAhead(store, record, options, resources, part="", scan=scan)
