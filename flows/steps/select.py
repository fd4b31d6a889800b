"""The scene to a training set: guarded negatives, then splits, queries, positives, geometry benchmark."""

from pathlib import Path

from flows.steps.reconstruct import describe_all, features_of, match_proposals, read_folder
from flows.steps.work import Work
from retrieval.training.contrast import require_contrast
from sfm.selection.decontamination import DecontaminationOptions
from storage.keys.artifacts import ArtifactRef
from tasks.engine.chunks import Items
from tasks.matching import matches_of
from tasks.photographs import accepted
from tasks.selecting import (
    drop_contaminated,
    propose_benchmark_pairs,
    propose_guard_pairs,
    select_from_list,
    select_training_set,
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
        options=options,
        scene=scene,
        descriptors=Items(descriptors, accepted(work.store, work.one("catalogue"))),
    )
    matches = match_proposals(work, [guard])
    chosen = work.task(select_training_set)(
        options=options,
        scene=scene,
        guard=guard,
        matches=matches_of(work.store, matches, [guard], work.many("features")),
    )
    if options.decontamination.benchmark is not None:
        chosen = without_benchmark(work, chosen, options.decontamination, options.decontamination.benchmark)
    work.keep(guard_pairs=guard, guard_matches=matches, training_set=chosen)


def select_listed(work: Work) -> None:
    """The training set of a list that somebody brings."""
    chosen = work.task(select_from_list)(
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
    described_all = [*work.many("proposal_descriptors"), *found]
    descriptors = Items(described_all, [*accepted(work.store, work.one("catalogue")), *shas])
    common = {"training_set": chosen, "catalogue": catalogue, "descriptors": descriptors}
    pairs = work.task(propose_benchmark_pairs)(options=options, **common)
    matches = match_proposals(work, [pairs], local)
    rest: ArtifactRef = work.task(drop_contaminated)(
        options=options,
        proposals=pairs,
        matches=matches_of(work.store, matches, [pairs], [*work.many("features"), *local]),
        **common,
    )
    work.keep(benchmark_scan=scan, benchmark_working=copies, benchmark_catalogue=catalogue)
    work.keep(benchmark_descriptors=found, benchmark_features=local)
    work.keep(benchmark_pairs=pairs, benchmark_matches=matches, whole_training_set=chosen)
    return rest
