"""The scene to a training set: guarded negatives, then splits, queries, positives, geometry benchmark."""

from prefect import flow

from flows.options import PipelineResources, SelectSections
from flows.reconstruct import match_proposals
from flows.work import Work, run_stage
from storage.runs import RunRecord
from tasks.chunks import items_input
from tasks.matching import pairs_wanted
from tasks.photographs import accepted
from tasks.selecting import propose_guard_pairs, select_training_set


@flow(name="select", persist_result=False)
def select(
    store: str,
    from_run: str = "latest",
    options: SelectSections | None = None,
    resources: PipelineResources | None = None,
    force: bool = False,
    build_upstream: bool = False,
) -> RunRecord:
    """Select anew from the scene of an earlier run, with other options of `selection`."""
    return run_stage(
        "select", store, from_run, options, resources, force=force, build_upstream=build_upstream
    )


def steps(work: Work) -> None:
    """From scene.h5 to training_set.h5, noted in the run."""
    options, scene = work.options.selection, work.one("scene")
    descriptors = work.many("proposal_descriptors")
    guard = work.task(propose_guard_pairs)(
        store=work.root,
        options=options,
        inputs=[items_input(work.store, descriptors, accepted(work.store, work.one("catalogue")))],
        scene=scene,
        descriptors=descriptors,
    )
    matches = match_proposals(work, [guard])
    wanted = pairs_wanted(work.store, [guard], work.many("features"))
    chosen = work.task(select_training_set)(
        store=work.root,
        options=options,
        inputs=[items_input(work.store, matches, list(wanted))],
        scene=scene,
        guard=guard,
        matches=matches,
    )
    work.keep(guard_pairs=guard, guard_matches=matches, training_set=chosen)
