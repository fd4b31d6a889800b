"""The tables of a scene: plain arrays, one dataclass per group of scene.h5. Indices are int64, -1 = none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE = -1


class BadScene(ValueError):
    """Parts of a scene that do not fit together."""


@dataclass(frozen=True, eq=False)
class Photos:
    """Every image file found [N], rejected ones too, in the catalogue's order. -1 = none."""

    name: NDArray[Any]
    sha256: NDArray[np.bytes_]
    width: NDArray[np.int64]
    height: NDArray[np.int64]
    orientation: NDArray[np.int64]
    working_width: NDArray[np.int64]
    working_height: NDArray[np.int64]
    status: NDArray[Any]
    reason: NDArray[Any]
    alias_of: NDArray[np.int64]
    focal_prior_px: NDArray[np.float64]
    cluster: NDArray[np.int64]
    model: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Models:
    """3D models [M], by cluster, then larger first, then smallest sha256."""

    cluster: NDArray[np.int64]
    num_photos: NDArray[np.int64]
    num_points: NDArray[np.int64]
    mean_reprojection_error_px: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cameras:
    """Registered photographs [R], by model, then photograph: one row per (photo, model)."""

    photo: NDArray[np.int64]
    model: NDArray[np.int64]
    center_in_world: NDArray[np.float64]
    cam_from_world: NDArray[np.float64]
    focal_px: NDArray[np.float64]
    colmap_model: NDArray[Any]
    params_indptr: NDArray[np.int64]
    params_value: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Visibility:
    """Which points each camera sees: CSR over cameras, by point, then keypoint.

    depth along the viewing axis, model unit.
    """

    indptr: NDArray[np.int64]
    point: NDArray[np.int64]
    xy_px: NDArray[np.float64]
    keypoint: NDArray[np.int64]
    depth: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Points:
    """3D points [P], by model."""

    xyz: NDArray[np.float64]
    rgb: NDArray[np.uint8]
    error_px: NDArray[np.float64]
    model: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of photographs [K], first < second, with their number of inliers; sorted."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    inliers: NDArray[np.int64]

    @classmethod
    def sorted(cls, first: Any, second: Any, inliers: Any) -> Pairs:
        """Pairs in either direction and any order -> each once, first < second.

        Of repeated pairs the most inliers.
        """
        one, other = (np.asarray(side, dtype=np.int64).reshape(-1) for side in (first, second))
        count = np.asarray(inliers, dtype=np.int64).reshape(-1)
        if np.any(one == other):
            raise BadScene(f"pair of photograph {one[one == other][0]} with itself")
        low, high = np.minimum(one, other), np.maximum(one, other)
        order = np.lexsort((-count, high, low))
        low, high, count = low[order], high[order], count[order]
        keep = np.ones(low.size, dtype=bool)
        keep[1:] = (np.diff(low) != 0) | (np.diff(high) != 0)
        return cls(low[keep], high[keep], count[keep])

    @classmethod
    def of_digests(cls, sha256: NDArray[np.bytes_], pairs: Sequence[tuple[str, str]], inliers: Any) -> Pairs:
        """Pairs of digests, as matching names photographs, over the accepted photographs of a scene or
        catalogue.

        sha256: [N], b"" where a photograph is not accepted. Raises BadScene for a digest that is not there.
        """
        index = {digest.decode(): photo for photo, digest in enumerate(sha256.tolist()) if digest}
        unknown = [digest for pair in pairs for digest in pair if digest not in index]
        if unknown:
            raise BadScene(f"a matched pair names {unknown[0]}, which is no accepted photograph")
        return cls.sorted([index[one] for one, _ in pairs], [index[other] for _, other in pairs], inliers)

    @classmethod
    def none(cls) -> Pairs:
        return cls.sorted([], [], [])


GROUPS: dict[str, type] = {
    "photos": Photos,
    "models": Models,
    "cameras": Cameras,
    "visibility": Visibility,
    "points": Points,
    "pairs": Pairs,
    "attempts": Pairs,
}


def dataset_paths() -> dict[str, tuple[str, str]]:
    """Dataset path -> (group, field); `params_indptr` is stored as `params/indptr`."""
    return {
        f"{group}/{field.name.replace('params_', 'params/')}": (group, field.name)
        for group, kind in GROUPS.items()
        for field in fields(kind)
    }
