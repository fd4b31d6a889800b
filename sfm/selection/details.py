"""Details of the geometry benchmark's queries: the part of a query that its answers show too.

A query that is cropped to its detail keeps its answers, because the shared 3D points lie inside. Boxes are
robust: a few points far from the rest do not widen them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage.schemas.training_set import Benchmark, Harder

if TYPE_CHECKING:
    from sfm.scene.scene import Scene

SPREAD_PERCENT = (5, 95)
"""Of the shared points, along each axis: what the box spans."""
LEAST_SIDE = 1 / 3
"""Of the photograph's side: a box is never narrower."""


class Rows(Protocol):
    """An array, or one in a file, of which slices are read."""

    def __getitem__(self, rows: slice, /) -> Any: ...


def of_benchmarks(scene: Scene, benchmarks: Mapping[str, Benchmark], pixels: Rows) -> dict[str, Harder]:
    """The details of every split's queries. benchmarks: split -> labels, by image; pixels: [E, 2] of the
    scene's observations, px on the working copy."""
    return {split: Harder(boxes(scene, labels, pixels)) for split, labels in benchmarks.items()}


def boxes(scene: Scene, benchmark: Benchmark, pixels: Rows) -> NDArray[np.float32]:
    """[Q, 4] left, top, right, bottom of every query's detail, as shares of the photograph's sides.

    The box of the query's keypoints whose 3D points an easy or hard image of it sees; nan without one.
    Images are the accepted photographs in order. Memory: one flag per 3D point of the scene.
    """
    photo_of_image = np.flatnonzero(scene.photos.cluster >= 0)
    camera_of_image = _camera_of_photo(scene)[photo_of_image]
    sides = np.stack([scene.photos.working_width, scene.photos.working_height], axis=1)
    seen = np.zeros(scene.points.model.size, dtype=bool)
    result = np.full((benchmark.queries.size, 4), np.nan, dtype=np.float32)
    for row, query in enumerate(benchmark.queries.tolist()):
        answers = np.concatenate([benchmark.easy.row(row), benchmark.hard.row(row)])
        own = _observations(scene, int(camera_of_image[query]))
        points = [scene.visibility.point[_observations(scene, c)] for c in camera_of_image[answers].tolist()]
        for each in points:
            seen[each] = True
        shared = seen[scene.visibility.point[own]]
        for each in points:
            seen[each] = False
        if shared.any():
            result[row] = box_around(np.asarray(pixels[own])[shared] / sides[photo_of_image[query]])
    return result


def box_around(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """[4] left, top, right, bottom that span most of the points [K, 2], all in 0..1: SPREAD_PERCENT along
    each axis, widened about the middle to LEAST_SIDE, moved inside where it stands out."""
    low, high = np.percentile(np.clip(points, 0, 1), SPREAD_PERCENT, axis=0)
    side = np.maximum(high - low, LEAST_SIDE)
    begin = np.clip((low + high - side) / 2, 0, 1 - side)
    return np.clip(np.concatenate([begin, begin + side]), 0, 1)


def _camera_of_photo(scene: Scene) -> NDArray[np.int64]:
    """[N] the camera row of each photograph in the model that it belongs to; -1 = none."""
    mine = np.flatnonzero(scene.photos.model[scene.cameras.photo] == scene.cameras.model)
    result = np.full(scene.photos.model.size, -1, dtype=np.int64)
    result[scene.cameras.photo[mine]] = mine
    return result


def _observations(scene: Scene, camera: int) -> slice:
    """Where the observations of one camera row stand."""
    start, stop = scene.visibility.indptr[camera : camera + 2].tolist()
    return slice(start, stop)
