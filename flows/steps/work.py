"""A run on a store while it is being made: its options, its artifacts so far, its record in the ledger.

A flow's parts hand each other the store and the id of the run, nothing else: the record in the ledger has the
options, the resources and the references of every artifact, so a part can be run alone on what an earlier run
left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flows.options.pipeline import PipelineOptions, PipelineResources
from storage.keys.artifacts import ArtifactRef
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import ledger, superseded
from storage.store.ledger import NewRefs, RunRecord
from storage.store.store import Store
from tasks.engine.caching import StagePolicy, adopt
from tasks.engine.chunks import Chunk, chunks_of
from tasks.engine.runtime import fan_out


class MissingUpstream(ValueError):
    """A stage whose inputs are not in the store."""


class NoPhotographs(ValueError):
    """A stage that opens photographs without knowing where they are."""


@dataclass
class Work:
    """What a part of a flow works on.

    force: whether it is computed again, cached or not; accept: parts and stages whose results of older code
    are used.
    """

    store: Store
    record: RunRecord
    options: PipelineOptions
    resources: PipelineResources
    part: str
    force: bool = False
    accept: frozenset[str] = frozenset()

    @classmethod
    def load(
        cls, store: str, run: str, part: str, force: Sequence[str] = (), accept: Sequence[str] = ()
    ) -> "Work":
        """The work of a part of a run in the ledger; force: parts to compute again. Raises UnknownRun."""
        opened = Store.open(store)
        record = ledger.load(opened, run)
        options = PipelineOptions.model_validate(record.options)
        resources = PipelineResources.model_validate(record.resources)
        return cls(opened, record, options, resources, part, part in force, frozenset(accept))

    @property
    def root(self) -> str:
        return str(self.store.root)

    @property
    def photos(self) -> str:
        """Folder of the photographs. Raises NoPhotographs."""
        if not self.resources.photos:
            raise NoPhotographs(
                "this run does not know where the photographs are; --set resources.photos=DIR"
            )
        if not Path(self.resources.photos).is_dir():
            raise NoPhotographs(
                f"the photographs were in {self.resources.photos!r}, which is not there; "
                "--set resources.photos=DIR"
            )
        return self.resources.photos

    def one(self, name: str) -> ArtifactRef:
        """The run's only artifact of this name. Raises MissingUpstream."""
        found = self.many(name)
        if len(found) != 1:
            raise MissingUpstream(f"run {self.record.id} has {len(found)} artifacts {name!r}, one is needed")
        return found[0]

    def many(self, name: str) -> list[ArtifactRef]:
        """The run's artifacts of this name, [] for none."""
        return list(self.record.refs_of(name))

    def task(self, task: Any) -> Callable[..., Any]:
        """A stage task on this store as it is, or one that computes again where this part is forced."""
        return partial(self._call, task, store=self.root)

    def _call(self, task: Any, **arguments: Any) -> Any:
        self._adopt(task, arguments)
        return self._forced(task)(**arguments)

    def fan_out(
        self,
        task: Any,
        calls: Sequence[Mapping[str, Any]],
        *,
        workers: int,
        address: str | None = None,
        tolerated: type[Exception] | None = None,
        **common: Any,
    ) -> list[ArtifactRef]:
        """`task(**common, **call)` for every call, `workers` at a time: `tasks.engine.runtime.fan_out`."""
        common["store"] = self.root
        for call in calls:
            self._adopt(task, {**common, **call})
        again = self._forced(task)
        return fan_out(again, calls, workers=workers, address=address, tolerated=tolerated, **common)

    def in_chunks(
        self,
        task: Any,
        wanted: Mapping[str, str],
        given: Callable[[Chunk], Mapping[str, Any]] = lambda chunk: {"chunk": chunk},
        *,
        options: Options,
        **common: Any,
    ) -> list[ArtifactRef]:
        """What a stage task makes of all wanted items (id -> digest of its input): `fan_out` over chunks.

        given: the arguments that a call has for itself, the chunk among them.
        """
        chunks = self.chunks(task.cache_policy.stage, options, wanted)
        return self.fan_out(task, [given(chunk) for chunk in chunks], options=options, **common)

    def chunks(self, stage: Stage, options: Options, wanted: Mapping[str, str]) -> list[Chunk]:
        """Chunks that together make all wanted items (id -> digest of its input)."""
        if self.accepts(stage.name):
            superseded.accept_chunks(self.store, stage, options, wanted)
        size = self.resources.size_of_chunk(stage.name)
        return chunks_of(self.store, stage, options, wanted, size, again=self.force)

    def accepts(self, stage: str) -> bool:
        """Whether results of older code of a stage are used."""
        return bool(self.accept & {self.part, stage})

    def _forced(self, task: Any) -> Any:
        return task.with_options(refresh_cache=True) if self.force else task

    def _adopt(self, task: Any, arguments: Mapping[str, Any]) -> None:
        policy = task.cache_policy
        if not isinstance(policy, StagePolicy) or policy.stage is None or self.force:
            return
        if self.accepts(policy.stage.name):
            adopt(policy.call(arguments, force=False))

    def keep(self, **refs: NewRefs) -> None:
        """Note what was made, in the ledger at once."""
        self.record = self.record.with_refs(refs)
        self._save()

    def note(self, **facts: Any) -> None:
        """Note a fact for the run's page, as JSON."""
        self.record = self.record.model_copy(update={"facts": {**self.record.facts, **facts}})
        self._save()

    def _save(self) -> None:
        ledger.save(self.store, self.record)
