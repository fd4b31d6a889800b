"""The scene to a training set: guarded negatives, then splits, queries, positives, geometry benchmark."""

from pathlib import Path
from typing import Annotated

from prefect import flow

from flows.forms import BuildUpstream, Changes, ForceStage, FromRun, ResourcesField, StoreField
from flows.options import SelectSections
from flows.reconstruct import describe_all, features_of, match_proposals, read_folder
from flows.work import Work, run_stage
from retrieval.contrast import require_contrast
from sfm.decontamination import DecontaminationOptions
from storage.artifacts import ArtifactRef
from storage.runs import RunRecord
from tasks.chunks import items_input
from tasks.matching import pairs_wanted
from tasks.photographs import accepted
from tasks.selecting import (
    drop_contaminated,
    propose_benchmark_pairs,
    propose_guard_pairs,
    select_from_list,
    select_training_set,
)


@flow(name="select", persist_result=False)
def select(
    store: StoreField,
    from_run: FromRun = "latest",
    options: Annotated[SelectSections | None, Changes("of this stage; empty: as in that run")] = None,
    resources: ResourcesField = None,
    force: ForceStage = False,
    build_upstream: BuildUpstream = False,
) -> RunRecord:
    """Select anew from the scene of an earlier run, with other options of `selection`."""
    return run_stage(
        "select", store, from_run, options, resources, force=force, build_upstream=build_upstream
    )


def steps(work: Work) -> None:
    """From scene.h5 or a list to training_set.h5, noted in the run. Raises OnePlace."""
    if work.options.selection.list is not None:
        select_listed(work)
    else:
        select_from_scene(work)
    require_contrast(work.store.path(work.one("training_set")))


def select_from_scene(work: Work) -> None:
    """The training set of the 3D models."""
    options, scene = work.options.selection.of_scene(), work.one("scene")
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
    if options.decontamination.benchmark is not None:
        chosen = without_benchmark(work, chosen, options.decontamination, options.decontamination.benchmark)
    work.keep(guard_pairs=guard, guard_matches=matches, training_set=chosen)


def select_listed(work: Work) -> None:
    """The training set of a list that somebody brings."""
    chosen = work.task(select_from_list)(
        store=work.root,
        options=work.options.selection.of_list(),
        scan=work.one("scan"),
        photos=work.photos,
    )
    work.keep(training_set=chosen)


def without_benchmark(
    work: Work, chosen: ArtifactRef, options: DecontaminationOptions, folder: Path
) -> ArtifactRef:
    """The training set without what the images in a benchmark's folder show."""
    scan, copies, catalogue = read_folder(work, str(folder))
    shas = accepted(work.store, catalogue)
    described = work.options.reconstruction.description
    found = describe_all(work, work.one("proposal_network"), shas, described, str(folder))
    local = features_of(work, shas, copies, catalogue)
    descriptors = [*work.many("proposal_descriptors"), *found]
    digest = items_input(work.store, descriptors, [*accepted(work.store, work.one("catalogue")), *shas])
    common = {"training_set": chosen, "catalogue": catalogue, "descriptors": descriptors}
    pairs = work.task(propose_benchmark_pairs)(store=work.root, options=options, inputs=[digest], **common)
    matches = match_proposals(work, [pairs], local)
    wanted = pairs_wanted(work.store, [pairs], [*work.many("features"), *local])
    rest: ArtifactRef = work.task(drop_contaminated)(
        store=work.root,
        options=options,
        inputs=[digest, items_input(work.store, matches, list(wanted))],
        proposals=pairs,
        matches=matches,
        **common,
    )
    work.keep(benchmark_scan=scan, benchmark_working=copies, benchmark_catalogue=catalogue)
    work.keep(benchmark_descriptors=found, benchmark_features=local)
    work.keep(benchmark_pairs=pairs, benchmark_matches=matches, whole_training_set=chosen)
    return rest
