"""Local features of a chunk of photographs, in hloc's layout: COLMAP's SIFT on their working copies, or
learned ones that a file of hloc's brings."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.features.imported import Frame, UnusableLocalFeatures, group_names, read_features
from sfm.photographs.outcome import Outcome
from storage.children.child import run_child
from storage.children.errors import ChildKilled
from storage.children.patience import patiently, twice
from storage.files.scratch import scratch_folder
from storage.hdf5.file import ItemWriter, read_items
from storage.keys.options import ContentPath, Options, Resources
from storage.keys.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="features",
    version=1,
    schema_name="features",
    suffix=".h5",
    packages=("pycolmap", "numpy", "h5py"),
    code=__name__,
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

    @property
    def learned(self) -> bool:
        """Whether they are none of COLMAP's SIFT."""
        return self.hloc_file is not None


class FeatureResources(Resources):
    """What extraction may use."""

    threads: int = Field(1, ge=1, description="threads of one chunk's process")
    time_limit_s: float = Field(1800.0, gt=0, description="a chunk that takes longer fails, seconds")


class MissingFeatures(ValueError):
    """Features were asked for photographs that cannot have any, or did not come back."""


class PhotographKills(ValueError):
    """A photograph at which the process that extracts its features is killed each time."""


def extract_features(
    working: Sequence[tuple[str, Path, Outcome]],
    options: FeatureOptions,
    out: Path,
    *,
    groups: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    resources: FeatureResources | None = None,
    inputs: Sequence[str] = (),
) -> dict[str, str]:
    """Write the local features of a chunk of photographs to `out` (schema features).

    working: (sha256, folder of its working copy `<sha256>.jpg`, outcome); groups: sha256 -> its group in
    options.hloc_file, where that is given; names: sha256 -> file name, for errors. Returns sha256 -> digest
    of its features. Raises MissingFeatures, PhotographKills, ChildFailed, UnusableLocalFeatures.
    """
    resources = resources or FeatureResources()
    started = time.monotonic()
    described = options.model_dump(mode="json")
    request: dict[str, Any] = {"options": described, "out": str(out), "inputs": list(inputs)}
    if options.hloc_file is not None:
        digests = _write(request, _imported(options.hloc_file, working, options.hloc_frame, groups or {}))
        logger.info("features of %d photographs read from %s", len(digests), options.hloc_file)
        return digests
    photographs = sorted((sha, str(folder / f"{sha}.jpg"), outcome) for sha, folder, outcome in working)
    request["photographs"] = [(sha, path, _camera(sha, outcome)) for sha, path, outcome in photographs]
    request["threads"] = resources.threads
    digests = _extracted(request, names or {}, resources)
    logger.info("features of %d photographs in %.1f s", len(digests), time.monotonic() - started)
    return digests


def groups_of(options: FeatureOptions, names: Mapping[str, str], shas: Sequence[str]) -> dict[str, str]:
    """sha256 -> its group in options.hloc_file, {} without one; see `imported.groups_of`."""
    return {} if options.hloc_file is None else group_names(options.hloc_file, names, shas)


def _imported(
    file: Path, working: Sequence[tuple[str, Path, Outcome]], frame: Frame, groups: Mapping[str, str]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """The chunk's features from a file of hloc's."""
    outcomes = {sha: outcome for sha, _, outcome in working}
    for sha, outcome in outcomes.items():
        _camera(sha, outcome)
        if sha not in groups:
            raise UnusableLocalFeatures(f"{file}: no group is known for photograph {sha}; see group_names")
    return read_features(file, {sha: groups[sha] for sha in outcomes}, outcomes, frame)


def _camera(sha: str, outcome: Outcome) -> tuple[int, int, float]:
    if outcome.status != "ok":
        raise MissingFeatures(f"photograph {sha}: it is {outcome.status} ({outcome.reason}); leave it out")
    return outcome.working_width, outcome.working_height, outcome.focal_prior_px


def _extracted(
    request: dict[str, Any], names: Mapping[str, str], resources: FeatureResources
) -> dict[str, str]:
    """Extract the chunk, sha256 -> digest; where the process is killed again and again, one photograph after
    the other."""
    label = f"features of {len(request['photographs'])} photographs from {request['photographs'][0][0][:12]}"
    return patiently(lambda: _run(request, label, resources), lambda: _one_by_one(request, names, resources))


def _run(request: dict[str, Any], label: str, resources: FeatureResources) -> dict[str, str]:
    found: dict[str, str] = run_child(
        "sfm.features.sift:_extract",
        request,
        label=label,
        total_limit_s=resources.time_limit_s,
        threads=resources.threads,
    )
    return found


def _one_by_one(
    request: dict[str, Any], names: Mapping[str, str], resources: FeatureResources
) -> dict[str, str]:
    with scratch_folder("features") as folder:
        files = []
        for photograph in request["photographs"]:
            files.append(folder / f"{photograph[0]}.h5")
            one = {**request, "photographs": [photograph], "out": str(files[-1])}
            _alone(one, names.get(photograph[0], photograph[0]), resources)
        return _write(request, (group for file in files for group in read_items(file)))


def _alone(request: dict[str, Any], name: str, resources: FeatureResources) -> None:
    """Extract one photograph. Raises PhotographKills: nothing is said of a photograph that its process did
    not say, so that it is not left without features."""
    label = f"features of photograph {name!r}"
    try:
        twice(lambda: _run(request, label, resources))
    except ChildKilled as killed:
        memory = "free memory, lower resources.workers or reconstruction.working.working_size, or "
        raise PhotographKills(
            f"{label}: {killed.what}, alone too; {'' if killed.crashed else memory}leave the photograph out "
            f"(move it out of the folder), and run again: what is finished is kept\n  {killed.log}"
        ) from killed


def _extract(request: dict[str, Any], scratch: Path) -> dict[str, str]:
    """The child's work: import, extract, read back, write."""
    photographs = request["photographs"]
    database, images = scratch / "features.db", scratch / "images"
    images.mkdir()
    for sha, path, _ in photographs:
        (images / f"{sha}.jpg").symlink_to(Path(path).resolve())
    names = sorted(path.name for path in images.iterdir())
    _run_colmap(database, images, names, FeatureOptions(**request["options"]), request["threads"])
    found = _read_back(database, names)
    return _write(request, ((sha, _hloc_group(*found[sha], camera)) for sha, _, camera in photographs))


def _write(request: dict[str, Any], groups: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, str]:
    """Write (sha256, group) in the order of the chunk -> sha256 -> digest."""
    with ItemWriter(
        Path(request["out"]),
        "features",
        stage=STAGE.name,
        options={"features": request["options"]},
        inputs=request["inputs"],
    ) as writer:
        return {sha: writer.add(sha, **group) for sha, group in groups}


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
