"""Photographs in, measured network out: the five stages in a row."""

from collections.abc import Sequence
from typing import Annotated

from prefect import flow

from flows.options.forms import Changes, ConfigName, Help, ResourcesField, StoreField, changed
from flows.options.loading import load, named_config
from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.options.stages import StageName, up_to
from flows.run.background import aside
from flows.run.pages import import_what_draws, show_report, show_stage, show_stale
from flows.run.record import begin, collection_of, part_of, recorded
from flows.run.superseded import announce, check_names, notices
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store


@flow(name="end_to_end", persist_result=False)
def end_to_end(
    photos: Annotated[str, Help("folder of photographs, read recursively")],
    store: StoreField,
    options: Annotated[PipelineOptions | None, Changes("empty: as the configuration says")] = None,
    resources: ResourcesField = None,
    until: Annotated[StageName | None, Help("last stage to run; none: all")] = None,
    force: Annotated[Sequence[StageName], Help("stages to compute again")] = (),
    accept_older_code: Annotated[Sequence[str], Help("stages whose results of older code are used")] = (),
    config: Annotated[
        ConfigName | None, Help("configuration of what is left empty; none: the paper's")
    ] = "default",
) -> RunRecord:
    """Reconstruct, select, fine-tune, whiten, evaluate; what is done already comes from the cache.

    options, resources: what is set in them is changed, the rest is as `config` (a file in configs/) has it;
    until: last stage to run; force: stages that are computed again; accept_older_code: stages whose results
    of older code are used. Raises what the stages raise; the run's record says how it ended.
    """
    check_names(accept_older_code)
    opened = Store.create(store)
    whole, used = load(named_config(config), []) if config else (PipelineOptions(), PipelineResources())
    whole = changed(whole, options)
    used = changed(used, resources).model_copy(update={"photos": photos})
    wanted = up_to(until)
    announce(notices(opened, collection_of(photos), whole, used, wanted, [*accept_older_code, *force]))
    import_what_draws()
    record = begin(opened, whole, used)
    with recorded(opened, record.id), aside() as later:
        for stage in wanted:
            flow(name=stage, persist_result=False)(part_of(stage))(
                store, record.id, list(force), list(accept_older_code)
            )
            later(show_stage, opened, ledger.load(opened, record.id), stage)
        later(show_stale, opened, ledger.load(opened, record.id))
    show_report(opened, record.id)
    return ledger.load(opened, record.id)
