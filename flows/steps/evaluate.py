"""How much better is it now: every network, whitening and set of scales on the geometry benchmark."""

from dataclasses import replace
from typing import Any

from flows.options.names import METHODS, NETWORKS
from flows.steps.whiten import described
from flows.steps.whitenings import Learnt, whitenings
from flows.steps.work import Work
from storage.keys.artifacts import ArtifactRef
from tasks.describing import altered_queries, describe_altered, network_digest
from tasks.engine.chunks import Chunk
from tasks.learning import DescribedBy, evaluate_configurations
from tasks.matching import pair_sources
from tasks.selecting import list_source


def steps(work: Work) -> None:
    """evaluation.h5, noted in the run, with the descriptors of the altered queries behind its harder rows."""
    learnt, harder = whitenings(work.record), altered(work)
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
        altered=harder,
        finetune=work.one("finetune"),
    )
    if harder:
        work.keep(altered_descriptors=[ref for each in harder for ref in each.refs])
    work.keep(evaluation=evaluation)


def altered(work: Work) -> list[DescribedBy]:
    """Altered queries of val and test by both networks at the single scale; [] without any."""
    if not work.options.evaluation.harder:
        return []
    queries = {query.item: query for query in altered_queries(work.store, work.one("training_set"))}
    if not queries:
        return []
    scales, options = next(iter(work.options.description.scale_sets().items()))

    def described_by(name: str, network: ArtifactRef) -> DescribedBy:
        digest = network_digest(work.store, network)

        def given(chunk: Chunk) -> dict[str, Any]:
            own = [queries[item] for item in chunk.made_from if item in queries]
            return {"chunk": replace(chunk, refs=[network]), "queries": own}

        refs = work.in_chunks(
            describe_altered,
            {item: query.made_from(digest) for item, query in queries.items()},
            given,
            workers=1,
            options=options,
            photos=work.photos,
            resources=work.resources.extraction(),
            slot=work.resources.gpu_slot,
        )
        return DescribedBy(refs, list(queries), network=name, scales=scales)

    return [described_by(name, work.one(artifact)) for name, artifact in NETWORKS.items()]


def sources(work: Work) -> list[str]:
    """Where the benchmark's labels come from: what proposed the pairs behind them, or who brought them."""
    if work.options.selection.list is not None:
        return [list_source(work.store, work.one("training_set"))]
    return pair_sources(work.store, work.many("proposed_pairs")) or ["imported COLMAP models"]
