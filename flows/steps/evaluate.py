"""How much better is it now: every network, whitening and set of scales on the geometry benchmark."""

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
