"""A COLMAP model in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from storage.schemas.scene import CAMERA_MODELS

NO_POINT = -1
_MOST_SIDE_PX = 1 << 20


class BadModel(ValueError):
    """A folder that is no COLMAP model, or one whose files are damaged or disagree."""


@dataclass(frozen=True, eq=False)
class ColmapCamera:
    """Intrinsics: model name, size in px, parameters in COLMAP's order."""

    model: str
    width: int
    height: int
    params: NDArray[np.float64]

    @property
    def focal_px(self) -> float:
        """Mean of the one or two focal lengths."""
        return float(self.params[: CAMERA_MODELS[self.model][2]].mean())


@dataclass(frozen=True, eq=False)
class ColmapImage:
    """A registered image: world-to-camera pose, camera id, name.

    Keypoints xy [K, 2] px and their 3D point ids [K], -1 = none.
    """

    quaternion: NDArray[np.float64]  # w, x, y, z
    translation: NDArray[np.float64]
    camera: int
    name: str
    xy_px: NDArray[np.float64]
    point: NDArray[np.int64]

    @property
    def rotation(self) -> NDArray[np.float64]:
        """[3, 3] world to camera."""
        found: NDArray[np.float64] = rotation_matrices(self.quaternion[None])[0]
        return found


@dataclass(frozen=True, eq=False)
class ColmapPoints:
    """3D points by rising id.

    Id [P], xyz [P, 3] float64, rgb [P, 3] uint8, error_px [P] float64 (-1 = unknown).
    """

    id: NDArray[np.int64]
    xyz: NDArray[np.float64]
    rgb: NDArray[np.uint8]
    error_px: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """One reconstruction: cameras and images by id, points as arrays."""

    cameras: dict[int, ColmapCamera]
    images: dict[int, ColmapImage]
    points: ColmapPoints


def camera_of(name: str, width: int, height: int, params: NDArray[np.float64]) -> ColmapCamera:
    """A camera of a known model with as many parameters as it has. Raises BadModel."""
    if name not in CAMERA_MODELS:
        raise BadModel(f"camera model {name!r} is not known; known: {', '.join(CAMERA_MODELS)}")
    if params.size != CAMERA_MODELS[name][1]:
        raise BadModel(
            f"camera model {name} has {CAMERA_MODELS[name][1]} parameters, the file gives {params.size}"
        )
    return ColmapCamera(name, width, height, params)


def rotation_matrices(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R, 4] (w, x, y, z), any length but 0 -> [R, 3, 3] rotations.

    By hand: scipy's differ in the last bit, and scenes that were made before would no longer be equal.
    """
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def quaternion_of(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """[3, 3] -> [4] unit quaternion (w, x, y, z), w >= 0."""
    found: NDArray[np.float64] = Rotation.from_matrix(rotation).as_quat(canonical=True, scalar_first=True)
    return found


def points_of(ids: NDArray, xyz: NDArray, rgb: NDArray, error: NDArray) -> ColmapPoints:
    """Points sorted by id; a negative error is unknown."""
    order = np.argsort(ids, kind="stable")
    found = np.ascontiguousarray(error[order], dtype=np.float64)
    return ColmapPoints(
        ids[order].astype(np.int64),
        np.ascontiguousarray(xyz[order]),
        np.ascontiguousarray(rgb[order]),
        np.where(found < 0, -1.0, found),
    )
