"""Photographs in, measured network out: the five stages in a row."""

from collections.abc import Sequence

from prefect import flow

from flows.older import announce, check_names, notices
from flows.options import STAGES, PipelineOptions, PipelineResources
from flows.pages import show_stage
from flows.reports import report_run
from flows.work import begin, collection_of, part_of, recorded
from storage import runs
from storage.runs import RunRecord
from storage.store import Store


@flow(name="end_to_end", persist_result=False)
def end_to_end(
    photos: str,
    store: str,
    options: PipelineOptions | None = None,
    resources: PipelineResources | None = None,
    until: str | None = None,
    force: Sequence[str] = (),
    accept_older_code: Sequence[str] = (),
) -> RunRecord:
    """Reconstruct, select, fine-tune, whiten, evaluate; what is done already comes from the cache.

    until: last stage to run; force: stages that are computed again; accept_older_code: stages whose results
    of older code are used. Raises what the stages raise; the run's record says how it ended.
    """
    check_names(accept_older_code)
    opened = Store.create(store)
    used = (resources or PipelineResources()).model_copy(update={"photos": photos})
    whole = options or PipelineOptions()
    wanted = STAGES[: STAGES.index(until) + 1] if until else STAGES
    announce(notices(opened, collection_of(photos), whole, used, wanted, [*accept_older_code, *force]))
    record = begin(opened, whole, used)
    with recorded(opened, record.id):
        for stage in wanted:
            flow(name=stage, persist_result=False)(part_of(stage))(
                store, record.id, list(force), list(accept_older_code)
            )
            show_stage(opened, runs.load(opened, record.id), stage)
    report_run(opened, record.id)
    return runs.load(opened, record.id)
