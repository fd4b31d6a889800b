"""From COLMAP models to the tables of a scene.

Ordered by content, never by COLMAP's ids or by the order of folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfm.scene.colmap_model import NO_POINT, ColmapImage, ColmapModel, rotation_matrices
from sfm.scene.tables import NONE
from storage.schemas.scene import Cameras, Models, Points, Visibility


class Part(NamedTuple):
    """One COLMAP model: its cluster, its files, the photograph behind each image name."""

    cluster: int
    model: ColmapModel
    photo_of: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Built:
    """The tables that come from COLMAP models."""

    models: Models
    cameras: Cameras
    visibility: Visibility
    points: Points


class _Observations(NamedTuple):
    point: NDArray[np.int64]
    xy_px: NDArray[np.float64]
    keypoint: NDArray[np.int64]
    depth: NDArray[np.float64]


def tables_of_models(parts: Sequence[Part], sha256: NDArray[np.bytes_]) -> Built:
    """Models by (cluster, larger first, smallest sha256), cameras by photograph, points by COLMAP's id,
    stacked.
    """
    ordered = sorted(parts, key=lambda part: _rank(part, sha256))
    tables = [_images_by_photo(part) for part in ordered]
    sizes = np.array([part.model.points.id.size for part in ordered], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    seen = [
        _observations(image, part.model, int(start))
        for part, images, start in zip(ordered, tables, starts, strict=True)
        for _, image in images
    ]
    visibility = Visibility(
        np.cumsum([0, *(each.point.size for each in seen)], dtype=np.int64),
        _stack([each.point for each in seen], np.int64),
        _stack([each.xy_px for each in seen], np.float64, 2),
        _stack([each.keypoint for each in seen], np.int64),
        _stack([each.depth for each in seen], np.float64),
    )
    return Built(_models(ordered, sizes), _cameras(ordered, tables), visibility, _points(ordered, sizes))


def model_of_photos(built: Built, num_photos: int) -> NDArray[np.int64]:
    """[N] the model in which each photograph sees most points, the first of equals; -1 = in none."""
    cameras = built.cameras
    points_seen = np.diff(built.visibility.indptr)
    order = np.lexsort((cameras.model, -points_seen, cameras.photo))
    photo, first = np.unique(cameras.photo[order], return_index=True)
    result = np.full(num_photos, NONE, dtype=np.int64)
    result[photo] = cameras.model[order[first]]
    return result


def _rank(part: Part, sha256: NDArray[np.bytes_]) -> tuple[int, int, list[bytes], int]:
    shas = sorted(bytes(sha256[photo]) for photo in part.photo_of.values())
    return part.cluster, -len(shas), shas, -part.model.points.id.size


def _images_by_photo(part: Part) -> list[tuple[int, ColmapImage]]:
    return sorted(
        ((part.photo_of[image.name], image) for image in part.model.images.values()), key=lambda pair: pair[0]
    )


def _observations(image: ColmapImage, model: ColmapModel, start: int) -> _Observations:
    keypoint = np.flatnonzero(image.point != NO_POINT)
    local = np.searchsorted(model.points.id, image.point[keypoint])
    order = np.argsort(local, kind="stable")
    keypoint, local = keypoint[order], local[order]
    depth = model.points.xyz[local] @ image.rotation[2] + image.translation[2]
    return _Observations(local + start, image.xy_px[keypoint], keypoint, depth)


def _models(ordered: Sequence[Part], sizes: NDArray[np.int64]) -> Models:
    return Models(
        np.array([part.cluster for part in ordered], dtype=np.int64),
        np.array([len(part.photo_of) for part in ordered], dtype=np.int64),
        sizes,
        np.array([_mean_error(part.model) for part in ordered], dtype=np.float64),
    )


def _mean_error(model: ColmapModel) -> float:
    """Mean over observations, as COLMAP reports it; 0 where the model says no error."""
    ids = np.concatenate([image.point[image.point != NO_POINT] for image in model.images.values()])
    error = model.points.error_px[np.searchsorted(model.points.id, ids)]
    return float(error[error >= 0].mean()) if np.any(error >= 0) else 0.0


def _cameras(ordered: Sequence[Part], tables: Sequence[Sequence[tuple[int, ColmapImage]]]) -> Cameras:
    rows = [(number, photo, image) for number, images in enumerate(tables) for photo, image in images]
    intrinsics = [ordered[number].model.cameras[image.camera] for number, _, image in rows]
    rotation = rotation_matrices(_table([image.quaternion for _, _, image in rows], 4))
    translation = _table([image.translation for _, _, image in rows], 3)
    return Cameras(
        np.array([photo for _, photo, _ in rows], dtype=np.int64),
        np.array([number for number, _, _ in rows], dtype=np.int64),
        -np.einsum("rji,rj->ri", rotation, translation),
        np.concatenate([rotation, translation[:, :, None]], axis=2),
        np.array([camera.focal_px for camera in intrinsics], dtype=np.float64),
        np.array([camera.model for camera in intrinsics], dtype=object),
        np.cumsum([0, *(camera.params.size for camera in intrinsics)], dtype=np.int64),
        _stack([camera.params for camera in intrinsics], np.float64),
    )


def _points(ordered: Sequence[Part], sizes: NDArray[np.int64]) -> Points:
    points = [part.model.points for part in ordered]
    return Points(
        _stack([each.xyz for each in points], np.float64, 3),
        _stack([each.rgb for each in points], np.uint8, 3),
        _stack([each.error_px for each in points], np.float64),
        np.repeat(np.arange(len(points), dtype=np.int64), sizes),
    )


def _stack(arrays: Sequence[NDArray[Any]], dtype: type, width: int | None = None) -> NDArray[Any]:
    empty: NDArray[Any] = np.empty((0,) if width is None else (0, width), dtype=dtype)
    return np.concatenate([empty, *arrays]).astype(dtype, copy=False)


def _table(rows: Sequence[NDArray[np.float64]], width: int) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, width)
