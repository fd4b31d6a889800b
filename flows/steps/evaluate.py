"""How much better is it now: every network, whitening and set of scales on the geometry benchmark."""

from dataclasses import replace

from flows.options.names import METHODS
from flows.steps.whiten import described
from flows.steps.whitenings import Learnt, whitenings
from flows.steps.work import Work
from tasks.learning import evaluate_configurations
from tasks.matching import pair_sources
from tasks.selecting import list_source


def steps(work: Work) -> None:
    """evaluation.h5, noted in the run."""
    learnt = whitenings(work.record)
    evaluation = work.task(evaluate_configurations)(
        options=work.options.evaluation,
        training_set=work.one("training_set"),
        whitenings=list(learnt.values()),
        described=[
            replace(
                each,
                whitenings={method: learnt[Learnt(each.network, each.scales, method)] for method in METHODS},
            )
            for each in described(work)
        ],
        sources=sources(work),
    )
    work.keep(evaluation=evaluation)


def sources(work: Work) -> list[str]:
    """Where the benchmark's labels come from: what proposed the pairs behind them, or who brought them."""
    if work.options.selection.list is not None:
        return [list_source(work.store, work.one("training_set"))]
    return pair_sources(work.store, work.many("proposed_pairs")) or ["imported COLMAP models"]
