"""A run on a store while it is being made: its options, its artifacts so far, its record in the ledger.

A flow's parts hand each other the store and the id of the run, nothing else: the record in the ledger has the
options, the resources and the references of every artifact, so a part can be run alone on what an earlier run
left.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from flows.forms import changed
from flows.interrupts import children_end_on_signals
from flows.options import PipelineOptions, PipelineResources, sections_of
from flows.reconcile import supervise
from flows.settings import prefect_home
from flows.stages import BY_NAME, before
from storage import older, runs
from storage.artifacts import ArtifactRef
from storage.options import Options
from storage.runs import NewRefs, RunRecord
from storage.stages import Stage
from storage.store import Store
from tasks.caching import StagePolicy, adopt
from tasks.chunks import chunk_calls
from tasks.runtime import fan_out

logger = logging.getLogger(__name__)


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
        record = runs.load(opened, run)
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
        """A stage task as it is, or one that computes again where this part is forced."""
        return partial(self._call, task)

    def _call(self, task: Any, *args: Any, **arguments: Any) -> Any:
        self._adopt(task, arguments)
        return self._forced(task)(*args, **arguments)

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
        """`task(**common, **call)` for every call, `workers` at a time; see `tasks.runtime.fan_out`."""
        for call in calls:
            self._adopt(task, {**common, **call})
        again = self._forced(task)
        return fan_out(again, calls, workers=workers, address=address, tolerated=tolerated, **common)

    def chunks(self, stage: Stage, options: Options, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
        """Calls of a stage task that together make all wanted items (id -> digest of its input)."""
        if self.accepts(stage.name):
            older.accept_chunks(self.store, stage, options, wanted)
        size = self.resources.size_of_chunk(stage.name)
        return chunk_calls(self.store, stage, options, wanted, size, again=self.force)

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
        runs.save(self.store, self.record)


def steps_of(stage: str) -> Callable[[Work], None]:
    """What a flow does: its module's `steps(work)`."""
    found: Callable[[Work], None] = import_module(f"flows.{stage}").steps
    return found


def part_of(stage: str) -> Callable[..., None]:
    """The function that does a stage's work on a run in the ledger, noted there."""

    def part(store: str, run: str, force: Sequence[str] = (), accept_older_code: Sequence[str] = ()) -> None:
        steps_of(stage)(Work.load(store, run, stage, force, accept_older_code))

    return part


def collection_of(photos: str) -> str:
    """Name of the collection of photographs in a folder."""
    return Path(photos).name


def begin(
    store: Store,
    options: PipelineOptions,
    resources: PipelineResources,
    *,
    from_run: RunRecord | None = None,
    shared: Sequence[str] = (),
) -> RunRecord:
    """A new record in the ledger; it shares what the flows `shared` made in `from_run`."""
    names = [name for stage in shared for name in BY_NAME[stage].makes]
    refs = {name: ref for name, ref in (from_run.refs if from_run else {}).items() if name in names}
    collection = (
        collection_of(resources.photos) if resources.photos else (from_run.collection if from_run else "")
    )
    return runs.start(
        store,
        collection,
        options=options.model_dump(mode="json"),
        resources=resources.model_dump(mode="json"),
        from_run=from_run.id if from_run else None,
        refs=refs,
    )


@contextmanager
def recorded(store: Store, run: str) -> Iterator[None]:
    """The ledger says how the run ended, whatever happens in it; so does Prefect, by `flows.reconcile`."""
    try:
        supervise(prefect_home(store.root))
        with children_end_on_signals():
            yield
    except BaseException as error:
        status: runs.Status = "failed" if isinstance(error, Exception) else "cancelled"
        runs.save(store, runs.load(store, run).finished(status))
        raise
    runs.save(store, runs.load(store, run).finished("completed"))


def run_stage(
    stage: str,
    store: str,
    from_run: str,
    options: Options | None,
    resources: PipelineResources | None,
    *,
    force: bool,
    build_upstream: bool,
) -> RunRecord:
    """One stage alone: a new run that shares the upstream artifacts of an earlier one.

    options, resources: what is set in them is changed, of the options in the stage's own sections only; the
    rest is the earlier run's. Raises MissingUpstream where an upstream artifact is gone, unless
    `build_upstream`, and UnknownRun.
    """
    opened = Store.open(store)
    earlier = runs.load(opened, from_run)
    upstream = before(stage)
    whole = PipelineOptions.model_validate(earlier.options)
    if options is not None:
        mine = {name: changed(getattr(whole, name), getattr(options, name)) for name in sections_of(stage)}
        whole = whole.model_copy(update=mine)
    used = changed(PipelineResources.model_validate(earlier.resources), resources)
    gone = missing_upstream(opened, earlier, upstream, from_list=whole.selection.list is not None)
    if gone and not build_upstream:
        raise MissingUpstream(
            f"{stage} needs {gone[0]} of run {earlier.id}, which is missing or damaged; "
            "add --build-upstream to make it again"
        )
    record = begin(opened, whole, used, from_run=earlier, shared=() if gone else upstream)
    with recorded(opened, record.id):
        for name in upstream if gone else ():
            part_of(name)(store, record.id)
        part_of(stage)(store, record.id, [stage] if force else [])
        pages, made = import_module("flows.pages"), runs.load(opened, record.id)
        pages.show_stage(opened, made, stage)
        pages.show_stale(opened, made)
    pages.show_report(opened, record.id)
    return runs.load(opened, record.id)


def missing_upstream(
    store: Store, record: RunRecord, stages: Sequence[str], *, from_list: bool = False
) -> list[str]:
    """Artifacts that the flows `stages` made in a run and that are not intact any more.

    from_list: the selection is from a list, which needs nothing of `reconstruct` but the scan.
    """
    gone = []
    for stage in map(BY_NAME.__getitem__, stages):
        only_scanned = from_list and stage.name == "reconstruct"
        needed = ("scan",) if only_scanned else stage.needed
        for name in ("scan",) if only_scanned else stage.makes:
            refs = record.refs_of(name)
            gone += [ref.path for ref in refs if not store.is_intact(ref)]
            if not refs and name in needed:
                gone.append(name)
    return gone
