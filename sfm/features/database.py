"""COLMAP's SQLite database as a scratch file of one child process: features and matches in, two-view
geometries out.

Never an artifact: its bytes depend on the run. Image ids follow the photographs' sorted digests, so that
nothing depends on the order or the company in which photographs are given. pycolmap is imported inside, in
child processes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from storage.hdf5.file import read_items
from storage.hdf5.open import open_artifact

COLMAP_FROM_HLOC = 0.5
FOCAL_WITHOUT_PRIOR = 1.2  # times the longer side: COLMAP's own default
CAMERA_MODEL = "SIMPLE_RADIAL"
File = TypeVar("File", str, Path)
_FIELDS = ("keypoints", "descriptors", "scores", "image_size", "focal_prior_px")


class MixedFeatures(ValueError):
    """SIFT and learned features side by side."""


@dataclass(frozen=True)
class PairGeometry:
    """What verification found for a pair; `matches` [I, 2]: keypoints of first and second, inliers only."""

    matches: NDArray[np.uint32]
    configuration: int
    fundamental: NDArray[np.float64] | None = None
    essential: NDArray[np.float64] | None = None
    homography: NDArray[np.float64] | None = None


def image_name(sha: str) -> str:
    """The name under which COLMAP knows a photograph: that of its working copy."""
    return f"{sha}.jpg"


def write_features(
    database: Path, files: Mapping[str, str], *, with_descriptors: bool, largest: int | None = None
) -> dict[str, int]:
    """Create a database with the photographs' cameras, rigs, frames, images and features.

    files: sha256 -> features file that holds it; `largest`: only so many features of a photograph, those of
    the highest score. Returns sha256 -> image id, 1.. in sorted order of the digests.
    """
    import pycolmap

    identifiers = {sha: position for position, sha in enumerate(sorted(files), start=1)}
    fields = [name for name in _FIELDS if with_descriptors or name != "descriptors"]
    items = (item for file, shas in by_file(files) for item in read_items(file, shas, fields))
    with pycolmap.Database.open(database) as opened, pycolmap.DatabaseTransaction(opened):
        for sha, features in items:
            identifier = identifiers[sha]
            _write_image(opened, identifier, sha, features)
            kept = _highest(features["scores"], largest)
            opened.write_keypoints(identifier, colmap_keypoints(features["keypoints"][kept]))
            if with_descriptors:
                rows = np.ascontiguousarray(features["descriptors"][:, kept].T)
                sift = pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, rows)
                opened.write_descriptors(identifier, sift)
    return identifiers


def by_file(files: Mapping[str, File]) -> list[tuple[File, list[str]]]:
    """(file, photographs that it holds), both sorted. files: sha256 -> file."""
    found: dict[File, list[str]] = {}
    for sha in sorted(files):
        found.setdefault(files[sha], []).append(sha)
    return sorted(found.items())


def hold_sift(files: Mapping[str, Path]) -> bool:
    """Whether features (sha256 -> file) are COLMAP's SIFT, and not learned ones; also where there are none.

    Raises MixedFeatures where some are and some are not.
    """
    found: dict[bool, str] = {}
    for file, shas in sorted(by_file(files), key=lambda held: held[1]):
        with open_artifact(file, "features") as artifact:
            for sha in shas:
                found.setdefault(artifact.dataset(f"{sha}/descriptors").dtype == np.uint8, sha)
    if len(found) > 1:
        raise MixedFeatures(
            f"photograph {found[True]} has SIFT, {found[False]} learned features; they cannot be matched "
            "with each other, extract all in one way"
        )
    return next(iter(found), True)


def colmap_keypoints(keypoints: NDArray[Any]) -> NDArray[np.float32]:
    """hloc's keypoints [n, 2] px in COLMAP's convention: the first pixel's centre at (0.5, 0.5)."""
    return np.asarray(keypoints, np.float32) + np.float32(COLMAP_FROM_HLOC)


def read_geometries(database: Path, identifiers: Mapping[str, int]) -> dict[tuple[str, str], PairGeometry]:
    """The two-view geometries of a database by (smaller sha, larger sha)."""
    import pycolmap

    shas = {identifier: sha for sha, identifier in identifiers.items()}
    with pycolmap.Database.open(database) as opened:
        pair_ids, geometries = opened.read_two_view_geometries()
    found = {}
    for pair_id, geometry in zip(pair_ids, geometries, strict=True):
        first, second = pycolmap.pair_id_to_image_pair(pair_id)
        found[shas[first], shas[second]] = PairGeometry(
            matches=np.asarray(geometry.inlier_matches, np.uint32).reshape(-1, 2),
            configuration=int(geometry.config),
            fundamental=geometry.F,
            essential=geometry.E,
            homography=geometry.H,
        )
    return found


def write_geometries(
    database: Path, identifiers: Mapping[str, int], pairs: Iterable[tuple[str, str, PairGeometry]]
) -> None:
    """Add verified pairs (first, second, geometry) to a database that has their photographs."""
    import pycolmap

    with pycolmap.Database.open(database) as opened, pycolmap.DatabaseTransaction(opened):
        for first, second, pair in pairs:
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = pair.configuration
            geometry.inlier_matches = pair.matches
            for name, matrix in (("F", pair.fundamental), ("E", pair.essential), ("H", pair.homography)):
                if matrix is not None:
                    setattr(geometry, name, matrix)
            opened.write_matches(identifiers[first], identifiers[second], pair.matches)
            opened.write_two_view_geometry(identifiers[first], identifiers[second], geometry)


def _highest(scores: NDArray[np.float32], count: int | None) -> Any:
    """Positions of the highest scores in rising order, or everything."""
    if count is None or len(scores) <= count:
        return slice(None)
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def _write_image(opened: Any, identifier: int, sha: str, features: Mapping[str, Any]) -> None:
    import pycolmap

    width, height = (int(side) for side in features["image_size"])
    prior = float(features["focal_prior_px"])
    focal = prior or FOCAL_WITHOUT_PRIOR * max(width, height)
    camera = pycolmap.Camera.create_from_model_name(identifier, CAMERA_MODEL, focal, width, height)
    camera.has_prior_focal_length = prior > 0
    opened.write_camera(camera, use_camera_id=True)
    rig = pycolmap.Rig(rig_id=identifier)
    rig.add_ref_sensor(camera.sensor_id)
    opened.write_rig(rig, use_rig_id=True)
    image = pycolmap.Image(name=image_name(sha), camera_id=identifier, image_id=identifier)
    opened.write_image(image, use_image_id=True)
    frame = pycolmap.Frame(frame_id=identifier, rig_id=identifier)
    frame.add_data_id(image.data_id)
    opened.write_frame(frame, use_frame_id=True)
