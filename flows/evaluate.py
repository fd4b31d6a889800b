"""How much better is it now: every network, whitening and set of scales on the geometry benchmark."""

from typing import Annotated, Any

from prefect import flow

from flows.forms import BuildUpstream, Changes, ForceStage, FromRun, ResourcesField, StoreField
from flows.options import EvaluateSections
from flows.whiten import METHODS, described
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
    whitenings = work.many("whiten")
    found = list(described(work))
    configurations: list[dict[str, Any]] = []
    for number, each in enumerate(found):
        learnt = whitenings[number * len(METHODS) : (number + 1) * len(METHODS)]
        for name, transform in zip(("raw", *METHODS), (None, *learnt), strict=True):
            configurations.append(
                {
                    "network": each.network,
                    "scales": each.scales,
                    "whitening": name,
                    "descriptors": each.descriptors,
                    "transform": transform,
                }
            )
    evaluation = work.task(evaluate_configurations)(
        store=work.root,
        options=work.options.evaluation,
        inputs=[each.digest for each in found],
        training_set=work.one("training_set"),
        whitenings=whitenings,
        configurations=configurations,
        sources=sources(work),
    )
    work.keep(evaluation=evaluation)


def sources(work: Work) -> list[str]:
    """Where the benchmark's labels come from: what proposed the pairs behind them, or who brought them."""
    if work.options.selection.list is not None:
        return [list_source(work.store, work.one("training_set"))]
    return pair_sources(work.store, work.many("proposed_pairs")) or ["imported COLMAP models"]
