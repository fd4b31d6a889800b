"""Guard pairs, the training set, and the training set without what a benchmark shows."""

from pathlib import Path
from typing import Any

from sfm import decontamination, training_lists, training_pairs
from sfm.decontamination import BenchmarkImages, DecontaminationOptions
from sfm.scene import Scene
from sfm.scene_tables import Pairs
from sfm.training_lists import ListOptions
from sfm.training_pairs import SplitOptions
from sfm.training_set import TrainingSet
from storage import hdf5
from storage.artifacts import ArtifactRef
from storage.store import Store
from tasks.caching import artifact_path, publish, running, stage_task
from tasks.chunks import descriptor_rows, file_of_items
from tasks.matching import attempts_of
from tasks.photographs import photo_source, scanned_files


@stage_task(training_pairs.GUARD_STAGE, labels=("descriptors",))
def propose_guard_pairs(
    store: str, options: SplitOptions, inputs: list[str], scene: ArtifactRef, descriptors: list[ArtifactRef]
) -> ArtifactRef:
    """Pairs of photographs that must be matched before one may be a negative of the other's cluster."""
    files = file_of_items(running().store, descriptors)

    def build(out: Path) -> None:
        loaded = Scene.from_h5(artifact_path(scene), for_selection=True)
        rows = descriptor_rows(files, loaded.photos.sha256.astype(str).tolist())
        training_pairs.guard_pairs(loaded, rows, options, out, inputs=inputs)

    return publish(build)


@stage_task(training_pairs.STAGE, labels=("guard", "matches"))
def select_training_set(
    store: str,
    options: SplitOptions,
    inputs: list[str],
    scene: ArtifactRef,
    guard: ArtifactRef,
    matches: list[ArtifactRef],
) -> ArtifactRef:
    """Splits, queries, positives, guarded negatives, geometry benchmark."""

    def build(out: Path) -> dict[str, Any]:
        loaded = Scene.from_h5(artifact_path(scene), for_selection=True)
        pairs = Pairs.of_digests(accepted_digests(loaded), *attempts_of([guard], matches))
        summary = training_pairs.select_training_set(loaded, pairs, options, out, inputs=inputs)
        return {"sidecar": {"summary": dict(summary)}}

    return publish(build)


@stage_task(training_lists.STAGE, labels=("photos",))
def select_from_list(store: str, options: ListOptions, scan: ArtifactRef, photos: str) -> ArtifactRef:
    """The training set of a list of photographs (scan: of their folder)."""

    def build(out: Path) -> dict[str, Any]:
        files, source = scanned_files(artifact_path(scan)), photo_source(running().store, photos)
        chosen = training_lists.select_from_list(options, files, source.path)
        described = options.model_dump(mode="json")
        chosen.to_h5(out, stage=training_lists.STAGE.name, options=described, inputs=running().inputs)
        return {"sidecar": {"summary": dict(chosen.summary)}}

    return publish(build)


def selected(store: Store, training_set: ArtifactRef) -> list[str]:
    """sha256 of the images of a training set, sorted."""
    columns = hdf5.read(store.path(training_set), "training_set", ["images/sha256"])
    return sorted(columns["images/sha256"].astype(str).tolist())


def list_source(store: Store, training_set: ArtifactRef) -> str:
    """What a training set that was selected from a list has its labels from, for the evaluation's record."""
    sidecar = store.sidecar(training_set)
    kind = sidecar.facts.get("summary", {}).get("list", "unknown") if sidecar else "unknown"
    return f"a given list: {kind}"


def accepted_digests(scene: Scene) -> Any:
    """[N] S64: sha256 of every file of a scene, empty where it is not an accepted photograph."""
    digests = scene.photos.sha256.astype("S64")
    digests[scene.photos.cluster < 0] = b""
    return digests


@stage_task(decontamination.PAIRS_STAGE, labels=("catalogue", "descriptors"))
def propose_benchmark_pairs(
    store: str,
    options: DecontaminationOptions,
    inputs: list[str],
    training_set: ArtifactRef,
    catalogue: ArtifactRef,
    descriptors: list[ArtifactRef],
) -> ArtifactRef:
    """Images of a benchmark with the training photographs nearest to them (catalogue: of its folder)."""

    def build(out: Path) -> None:
        chosen, rows, benchmark = _with_benchmark(training_set, catalogue, descriptors)
        decontamination.propose_benchmark_pairs(chosen, rows, benchmark, options, out, inputs=inputs)

    return publish(build)


@stage_task(decontamination.STAGE, labels=("descriptors", "proposals", "matches"))
def drop_contaminated(
    store: str,
    options: DecontaminationOptions,
    inputs: list[str],
    training_set: ArtifactRef,
    catalogue: ArtifactRef,
    descriptors: list[ArtifactRef],
    proposals: ArtifactRef,
    matches: list[ArtifactRef],
) -> ArtifactRef:
    """The training set without the clusters that verified pairs with the benchmark's images give away."""

    def build(out: Path) -> dict[str, Any]:
        chosen, rows, benchmark = _with_benchmark(training_set, catalogue, descriptors)
        matched = attempts_of([proposals], matches)
        rest = decontamination.decontaminate(chosen, rows, benchmark, matched, options)
        described = options.model_dump(mode="json")
        rest.to_h5(out, stage=decontamination.STAGE.name, options=described, inputs=inputs)
        return {"sidecar": {"summary": dict(rest.summary)}}

    return publish(build)


def _with_benchmark(
    training_set: ArtifactRef, catalogue: ArtifactRef, descriptors: list[ArtifactRef]
) -> tuple[TrainingSet, Any, BenchmarkImages]:
    """The training set, descriptors of its images, and the benchmark's accepted images."""
    chosen = TrainingSet.from_h5(artifact_path(training_set))
    files = file_of_items(running().store, descriptors)
    columns = hdf5.read(
        artifact_path(catalogue), "catalogue", [f"photos/{n}" for n in ("sha256", "name", "status")]
    )
    good = columns["photos/status"] == "ok"
    shas = columns["photos/sha256"][good].astype(str)
    found = sorted(zip(shas.tolist(), columns["photos/name"][good].tolist(), strict=True))
    shas, names = [sha for sha, _ in found], [str(name) for _, name in found]
    rows = descriptor_rows(files, chosen.images.sha256.astype(str).tolist())
    return chosen, rows, BenchmarkImages(shas, names, descriptor_rows(files, shas))
