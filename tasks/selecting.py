"""Guard pairs and the training set."""

from pathlib import Path
from typing import Any

from sfm import training_pairs
from sfm.scene import Scene
from sfm.scene_tables import Pairs
from sfm.training_pairs import SplitOptions
from storage.artifacts import ArtifactRef
from tasks.caching import artifact_path, publish, running, stage_task
from tasks.chunks import descriptor_rows, file_of_items
from tasks.matching import attempts_of


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


def accepted_digests(scene: Scene) -> Any:
    """[N] S64: sha256 of every file of a scene, empty where it is not an accepted photograph."""
    digests = scene.photos.sha256.astype("S64")
    digests[scene.photos.cluster < 0] = b""
    return digests
