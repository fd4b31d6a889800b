"""One stage alone, on what an earlier run left of the others."""

from collections.abc import Sequence
from typing import Annotated

from prefect import Flow, flow

from flows.options.forms import (
    BuildUpstream,
    Changes,
    ForceStage,
    FromRun,
    ResourcesField,
    StoreField,
    changed,
)
from flows.options.pipeline import PipelineOptions, PipelineResources, sections, sections_of
from flows.options.stages import BY_NAME, before
from flows.run.pages import show_report, show_stage, show_stale
from flows.run.record import begin, part_of, recorded
from flows.steps.work import MissingUpstream
from storage.keys.options import Options
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store


def stage_flow(stage: str, about: str | None) -> Flow[..., RunRecord]:
    """The flow that runs one stage alone, with a form of its own options; about: what its page says."""

    def alone(
        store: StoreField,
        from_run: FromRun = "latest",
        options: Options | None = None,
        resources: ResourcesField = None,
        force: ForceStage = False,
        build_upstream: BuildUpstream = False,
    ) -> RunRecord:
        return run_stage(
            stage, store, from_run, options, resources, force=force, build_upstream=build_upstream
        )

    words = Changes("of this stage; empty: as in that run")
    alone.__annotations__["options"] = Annotated[sections(stage) | None, words]  # type: ignore[valid-type]
    return flow(name=stage, description=about, persist_result=False)(alone)


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
    earlier = ledger.load(opened, from_run)
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
        made = ledger.load(opened, record.id)
        show_stage(opened, made, stage)
        show_stale(opened, made)
    show_report(opened, record.id)
    return ledger.load(opened, record.id)


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
