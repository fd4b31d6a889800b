"""A run in the ledger: how it begins, its parts, how it ends."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.options.stages import BY_NAME
from flows.server.reconcile import supervise
from flows.server.settings import prefect_home
from flows.steps.table import STEPS
from flows.steps.work import Work
from flows.terminal.interrupts import children_end_on_signals
from storage.keys.options import Options, Resources
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store


def part_of(stage: str) -> Callable[..., None]:
    """The function that does a stage's work on a run in the ledger, noted there."""

    def part(store: str, run: str, force: Sequence[str] = (), accept_older_code: Sequence[str] = ()) -> None:
        STEPS[stage](Work.load(store, run, stage, force, accept_older_code))

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
    return started(
        store, collection, options, resources, from_run=from_run.id if from_run else None, refs=refs
    )


def started(store: Store, collection: str, options: Options, resources: Resources, **more: Any) -> RunRecord:
    """A new record in the ledger. more: of `ledger.start`."""
    asked, used = options.model_dump(mode="json"), resources.model_dump(mode="json")
    return ledger.start(store, collection, options=asked, resources=used, **more)


@contextmanager
def recorded(store: Store, run: str) -> Iterator[None]:
    """The ledger says how the run ended, whatever happens; so does Prefect, by `flows.server.reconcile`."""
    try:
        supervise(prefect_home(store.root))
        with children_end_on_signals():
            yield
    except BaseException as error:
        status: ledger.Status = "failed" if isinstance(error, Exception) else "cancelled"
        ledger.save(store, ledger.load(store, run).finished(status))
        raise
    ledger.save(store, ledger.load(store, run).finished("completed"))
