"""How much better is it now: every network, whitening and set of scales on the geometry benchmark."""

from typing import Annotated

from prefect import flow

from flows.forms import BuildUpstream, Changes, ForceStage, FromRun, ResourcesField, StoreField
from flows.names import METHODS
from flows.options import EvaluateSections
from flows.whiten import described
from flows.whitenings import Learnt, whitenings
from flows.work import Work, run_stage
from storage.runs import RunRecord
from tasks.learning import evaluate_configurations
from tasks.matching import pair_sources
from tasks.selecting import list_source


@flow(name="evaluate", persist_result=False)
def evaluate(
    store: StoreField,
    from_run: FromRun = "latest",
    options: Annotated[EvaluateSections | None, Changes("of this stage; empty: as in that run")] = None,
    resources: ResourcesField = None,
    force: ForceStage = False,
    build_upstream: BuildUpstream = False,
) -> RunRecord:
    """Measure an earlier run's networks and whitenings anew, with other options of `evaluation`."""
    return run_stage(
        "evaluate", store, from_run, options, resources, force=force, build_upstream=build_upstream
    )


def steps(work: Work) -> None:
    """evaluation.h5, noted in the run."""
    learnt = whitenings(work.record)
    found = list(described(work))
    configurations = [
        {
            "network": each.network,
            "scales": each.scales,
            "whitening": method or "raw",
            "descriptors": each.descriptors,
            "transform": learnt[Learnt(each.network, each.scales, method)] if method else None,
        }
        for each in found
        for method in (None, *METHODS)
    ]
    evaluation = work.task(evaluate_configurations)(
        store=work.root,
        options=work.options.evaluation,
        inputs=[each.digest for each in found],
        training_set=work.one("training_set"),
        whitenings=list(learnt.values()),
        configurations=configurations,
        sources=sources(work),
    )
    work.keep(evaluation=evaluation)


def sources(work: Work) -> list[str]:
    """Where the benchmark's labels come from: what proposed the pairs behind them, or who brought them."""
    if work.options.selection.list is not None:
        return [list_source(work.store, work.one("training_set"))]
    return pair_sources(work.store, work.many("proposed_pairs")) or ["imported COLMAP models"]
