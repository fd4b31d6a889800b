"""Local features of a chunk of photographs, in hloc's layout: COLMAP's SIFT on their working copies, or
learned ones that a file of hloc's brings."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.childprocess import ChildFailed, run_child, serve
from sfm.hloc_features import Frame, UnusableLocalFeatures, read_features
from sfm.outcomes import Outcome
from storage.hdf5 import ItemWriter
from storage.options import ContentPath, Options, Resources
from storage.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="features",
    version=1,
    schema_name="features",
    suffix=".h5",
    packages=("pycolmap", "numpy", "h5py"),
    modules=("sfm.features", "sfm.childprocess", "sfm.hloc_features", "sfm.outcomes"),
)
HLOC_FROM_COLMAP = -0.5  # hloc puts the centre of the first pixel at (0, 0), COLMAP at (0.5, 0.5)


class FeatureOptions(Options):
    """COLMAP's SIFT detector and descriptor, or a file in its place."""

    max_num_features: int = Field(
        8192, ge=64, le=65536, description="features per photograph, about (COLMAP keeps whole scales)"
    )
    peak_threshold: float = Field(
        0.02 / 3,
        gt=0,
        lt=1,
        description="contrast that a feature must have; lower finds more (grey values, 0..1)",
    )
    edge_threshold: float = Field(
        10.0, gt=1, description="ratio of curvatures above which a feature is an edge"
    )
    affine_shape: bool = Field(False, description="estimate an affine shape per feature (slower)")
    hloc_file: ContentPath | None = Field(
        None, description="learned local features of all photographs, as hloc writes them; none: SIFT"
    )
    hloc_frame: Frame = Field(
        "auto",
        description="picture that keypoints of hloc_file lie on: stored or upright as EXIF asks; auto: as "
        "its image_size says, stored where that fits both",
    )


class FeatureResources(Resources):
    """What extraction may use."""

    threads: int = Field(1, ge=1, description="threads of one chunk's process")
    time_limit_s: float = Field(1800.0, gt=0, description="a chunk that takes longer fails, seconds")


class MissingFeatures(ValueError):
    """Features were asked for photographs that cannot have any, or did not come back."""


def extract_features(
    working: Sequence[tuple[str, Path, Outcome]],
    options: FeatureOptions,
    out: Path,
    *,
    groups: Mapping[str, str] | None = None,
    resources: FeatureResources | None = None,
    inputs: Sequence[str] = (),
) -> dict[str, str]:
    """Write the local features of a chunk of photographs to `out` (schema features).

    working: (sha256, folder of its working copy `<sha256>.jpg`, outcome); groups: sha256 -> its group in
    options.hloc_file, where that is given. Returns sha256 -> digest of its features. A photograph on which
    native code aborts gets none and is logged; the others are not affected. Raises MissingFeatures,
    ChildFailed, UnusableLocalFeatures.
    """
    resources = resources or FeatureResources()
    started = time.monotonic()
    if options.hloc_file is not None:
        return _import(options.hloc_file, working, options, out, groups or {}, inputs)
    photographs = sorted((sha, str(folder / f"{sha}.jpg"), outcome) for sha, folder, outcome in working)
    request = {
        "photographs": [(sha, path, _camera(sha, outcome)) for sha, path, outcome in photographs],
        "options": options.model_dump(mode="json"),
        "out": str(out),
        "inputs": list(inputs),
        "threads": resources.threads,
    }
    digests = _run_without_bad(request, resources)
    logger.info("features of %d photographs in %.1f s", len(digests), time.monotonic() - started)
    return digests


def _import(
    file: Path,
    working: Sequence[tuple[str, Path, Outcome]],
    options: FeatureOptions,
    out: Path,
    groups: Mapping[str, str],
    inputs: Sequence[str],
) -> dict[str, str]:
    """The chunk's features from a file of hloc's."""
    outcomes = {sha: outcome for sha, _, outcome in working}
    for sha, outcome in outcomes.items():
        _camera(sha, outcome)
        if sha not in groups:
            raise UnusableLocalFeatures(f"{file}: no group is known for photograph {sha}; see group_names")
    wanted = {sha: groups[sha] for sha in outcomes}
    recorded = {"features": options.model_dump(mode="json")}
    with ItemWriter(out, "features", stage=STAGE.name, options=recorded, inputs=inputs) as writer:
        found = read_features(file, wanted, outcomes, options.hloc_frame)
        digests = {sha: writer.add(sha, **arrays) for sha, arrays in found}
    logger.info("features of %d photographs read from %s", len(digests), file)
    return digests


def _camera(sha: str, outcome: Outcome) -> tuple[int, int, float]:
    if outcome.status != "ok":
        raise MissingFeatures(f"photograph {sha}: it is {outcome.status} ({outcome.reason}); leave it out")
    return outcome.working_width, outcome.working_height, outcome.focal_prior_px


def _run_without_bad(request: dict[str, Any], resources: FeatureResources) -> dict[str, str]:
    """Extract the chunk; where native code aborts, find the photographs that cause it, leave them empty."""
    label = f"features of {len(request['photographs'])} photographs from {request['photographs'][0][0][:12]}"
    run = partial(
        run_child, "sfm.features", label=label, time_limit_s=resources.time_limit_s, threads=resources.threads
    )
    try:
        return run(request)["digests"]
    except ChildFailed as failure:
        if not failure.aborted:
            raise
        logger.warning("%s; trying the photographs one by one", failure)
    bad = [photograph[0] for photograph in request["photographs"] if _aborts(request, photograph, resources)]
    return run({**request, "empty": bad})["digests"]


def _aborts(request: dict[str, Any], photograph: Any, resources: FeatureResources) -> bool:
    alone = {**request, "photographs": [photograph], "out": request["out"] + ".probe"}
    label = f"features of photograph {photograph[0]}"
    try:
        run_child("sfm.features", alone, label=label, time_limit_s=resources.time_limit_s)
    except ChildFailed as failure:
        if not failure.aborted:
            raise
        logger.warning("%s; it gets no features", failure)
        return True
    finally:
        Path(alone["out"]).unlink(missing_ok=True)
    return False


def _extract(request: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """The child's work: import, extract, read back, write."""
    photographs = request["photographs"]
    empty = set(request.get("empty", ()))
    database, images = scratch / "features.db", scratch / "images"
    images.mkdir()
    for sha, path, _ in photographs:
        if sha not in empty:
            (images / f"{sha}.jpg").symlink_to(Path(path).resolve())
    names = sorted(path.name for path in images.iterdir())
    if names:
        _run_colmap(database, images, names, FeatureOptions(**request["options"]), request["threads"])
    found = _read_back(database, names)
    options = {"features": request["options"]}
    digests = {}
    with ItemWriter(
        Path(request["out"]), "features", stage=STAGE.name, options=options, inputs=request["inputs"]
    ) as writer:
        for sha, _, camera in photographs:
            keypoints, descriptors = found.get(
                sha, (np.zeros((0, 6), np.float32), np.zeros((0, 128), np.uint8))
            )
            digests[sha] = writer.add(sha, **_hloc_group(keypoints, descriptors, camera))
    return {"digests": digests}


def _run_colmap(
    database: Path, images: Path, names: list[str], options: FeatureOptions, threads: int
) -> None:
    import pycolmap

    pycolmap.Database.open(database).close()
    # Importing in sorted order first fixes the image ids, and with them the order of everything.
    pycolmap.import_images(database, images, pycolmap.CameraMode.PER_IMAGE, image_names=names)
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.num_threads = threads
    extraction.use_gpu = False
    extraction.sift.max_num_features = options.max_num_features
    extraction.sift.peak_threshold = options.peak_threshold
    extraction.sift.edge_threshold = options.edge_threshold
    extraction.sift.estimate_affine_shape = options.affine_shape
    pycolmap.extract_features(
        database,
        images,
        image_names=names,
        camera_mode=pycolmap.CameraMode.PER_IMAGE,
        extraction_options=extraction,
    )


def _read_back(database: Path, names: list[str]) -> dict[str, tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """Keypoints [n, 6] and descriptors [n, 128] by photograph; MissingFeatures where one is not there."""
    if not names:
        return {}
    import pycolmap

    found = {}
    with pycolmap.Database.open(database) as opened:
        for image in opened.read_all_images():
            if opened.exists_keypoints(image.image_id):
                keypoints = np.asarray(opened.read_keypoints(image.image_id), np.float32)
                descriptors = np.asarray(opened.read_descriptors(image.image_id).data, np.uint8)
                found[image.name.removesuffix(".jpg")] = (keypoints, descriptors)
    missing = sorted({name.removesuffix(".jpg") for name in names} - set(found))
    if missing:
        raise MissingFeatures(
            f"COLMAP gave no features for {len(missing)} working copies, first {missing[0]}; rebuild them"
        )
    return found


def _hloc_group(
    keypoints: NDArray[np.float32], descriptors: NDArray[np.uint8], camera: tuple[int, int, float]
) -> dict[str, Any]:
    """COLMAP's keypoints (x, y, 2x2 affine shape [n, 6]) and descriptors [n, 128] as a group of hloc's."""
    a11, a12, a21, a22 = keypoints[:, 2:6].T
    scales = (np.hypot(a11, a21) + np.hypot(a12, a22)) / 2
    return {
        "keypoints": keypoints[:, :2] + np.float32(HLOC_FROM_COLMAP),
        "descriptors": np.ascontiguousarray(descriptors.T),
        "scores": scales,  # COLMAP keeps the largest features when it has too many, so size is its score
        "scales": scales,
        "orientations": np.arctan2(a21, a11),
        "image_size": np.array(camera[:2], np.int64),
        "focal_prior_px": np.float64(camera[2]),
    }


if __name__ == "__main__":
    serve(_extract)
