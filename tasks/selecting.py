"""Guard pairs, the training set, and the training set without what a benchmark shows."""

from pathlib import Path
from typing import Any

from retrieval.describe.rows import descriptor_rows
from sfm.lists import select
from sfm.lists.select import ListOptions
from sfm.photographs.catalogue import read_catalogue
from sfm.scene.scene import Scene
from sfm.selection import decontamination, stages
from sfm.selection.decontamination import BenchmarkImages, DecontaminationOptions
from sfm.selection.stages import SplitOptions
from sfm.training_set.training_set import TrainingSet
from storage.hdf5 import file as hdf5
from storage.keys.artifacts import ArtifactRef
from storage.keys.options import Options
from storage.store.store import Store
from tasks.engine.caching import artifact_path, running, stage_task
from tasks.engine.chunks import Items, file_of_items
from tasks.matching import attempts_of
from tasks.photographs import photo_source, scanned_files


@stage_task(stages.GUARD_STAGE)
def propose_guard_pairs(out: Path, options: SplitOptions, scene: ArtifactRef, descriptors: Items) -> None:
    """Pairs of photographs that must be matched before one may be a negative of the other's cluster."""
    call, loaded = running(), Scene.from_h5(artifact_path(scene), for_selection=True)
    files = file_of_items(call.store, descriptors.refs)
    rows = descriptor_rows(files, loaded.photos.sha256.astype(str).tolist())
    stages.guard_pairs(loaded, rows, options, out, inputs=call.inputs)


@stage_task(stages.STAGE, labels=("guard",))
def select_training_set(
    out: Path, options: SplitOptions, scene: ArtifactRef, guard: ArtifactRef, matches: Items
) -> dict[str, Any]:
    """Splits, queries, positives, guarded negatives, geometry benchmark."""
    loaded = Scene.from_h5(artifact_path(scene), for_selection=True)
    attempts = attempts_of([guard], matches)
    with hdf5.open_artifact(artifact_path(scene), "scene") as file:
        pixels, inputs = file.dataset("visibility/xy_px"), running().inputs
        summary = stages.select_training_set(loaded, attempts, options, out, pixels=pixels, inputs=inputs)
    return {"sidecar": {"summary": dict(summary)}}


@stage_task(select.STAGE, labels=("photos",))
def select_from_list(out: Path, options: ListOptions, scan: ArtifactRef, photos: str) -> dict[str, Any]:
    """The training set of a list of photographs (scan: of their folder)."""
    files, source = scanned_files(artifact_path(scan)), photo_source(running().store, photos)
    return _written(select.select_from_list(options, files, source.path), out, options)


def _written(chosen: TrainingSet, out: Path, options: Options) -> dict[str, Any]:
    """Inside a stage task: what it says of the training set that it wrote."""
    call, described = running(), options.model_dump(mode="json")
    chosen.to_h5(out, stage=call.stage.name, options=described, inputs=call.inputs)
    return {"sidecar": {"summary": dict(chosen.summary)}}


def selected(store: Store, training_set: ArtifactRef) -> list[str]:
    """sha256 of the images of a training set, sorted."""
    columns = hdf5.read(store.path(training_set), "training_set", ["images/sha256"])
    return sorted(columns["images/sha256"].astype(str).tolist())


def list_source(store: Store, training_set: ArtifactRef) -> str:
    """What a training set that was selected from a list has its labels from, for the evaluation's record."""
    sidecar = store.sidecar(training_set)
    kind = sidecar.facts.get("summary", {}).get("list", "unknown") if sidecar else "unknown"
    return f"a given list: {kind}"


@stage_task(decontamination.PAIRS_STAGE, labels=("catalogue",))
def propose_benchmark_pairs(
    out: Path,
    options: DecontaminationOptions,
    training_set: ArtifactRef,
    catalogue: ArtifactRef,
    descriptors: Items,
) -> None:
    """Images of a benchmark with the training photographs nearest to them (catalogue: of its folder)."""
    chosen, rows, benchmark = _with_benchmark(training_set, catalogue, descriptors)
    inputs = running().inputs
    decontamination.propose_benchmark_pairs(chosen, rows, benchmark, options, out, inputs=inputs)


@stage_task(decontamination.STAGE, labels=("proposals",))
def drop_contaminated(
    out: Path,
    options: DecontaminationOptions,
    training_set: ArtifactRef,
    catalogue: ArtifactRef,
    descriptors: Items,
    proposals: ArtifactRef,
    matches: Items,
) -> dict[str, Any]:
    """The training set without the clusters that verified pairs with the benchmark's images give away."""
    chosen, rows, benchmark = _with_benchmark(training_set, catalogue, descriptors)
    matched = attempts_of([proposals], matches)
    return _written(decontamination.decontaminate(chosen, rows, benchmark, matched, options), out, options)


def _with_benchmark(
    training_set: ArtifactRef, catalogue: ArtifactRef, descriptors: Items
) -> tuple[TrainingSet, Any, BenchmarkImages]:
    """The training set, descriptors of its images, and the benchmark's accepted images."""
    chosen = TrainingSet.from_h5(artifact_path(training_set))
    files = file_of_items(running().store, descriptors.refs)
    rows = descriptor_rows(files, chosen.images.sha256.astype(str).tolist())
    found = read_catalogue(artifact_path(catalogue))
    images = BenchmarkImages(found.shas, found.names, descriptor_rows(files, found.shas))
    return chosen, rows, images
