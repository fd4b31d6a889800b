"""One 3D model as selection sees it.

Who sees what, how near the cameras are, in which order queries are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sfm.scene import geometry

if TYPE_CHECKING:
    from sfm.scene.scene import Scene


class CandidateRow(NamedTuple):
    """The candidates of one query, nearest camera first.

    Images of the view and what they share with the query.
    """

    image: NDArray[np.int64]
    shared_points: NDArray[np.int64]
    overlap: NDArray[np.float32]
    scale_change: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ModelView:
    """The photographs [R] whose `model` this is, with their part of the visibility graph [R, P]."""

    photo: NDArray[np.int64]
    sha256: NDArray[np.bytes_]
    visibility: csr_array
    depth: NDArray[np.floating]
    focal_px: NDArray[np.float64]
    centers: NDArray[np.float64]

    @classmethod
    def of(cls, scene: Scene, model: int) -> ModelView:
        """A photograph that stands in several models belongs to the one in which it sees most points, and
        only to that.
        """
        rows = scene.camera_rows(model)
        photo = scene.cameras.photo[rows]
        visibility, depth = scene.visibility_of_model(model)
        mine = scene.photos.model[photo] == model
        if not mine.all():
            kept = np.repeat(mine, np.diff(visibility.indptr))
            visibility, depth = csr_array(visibility[np.flatnonzero(mine)]), depth[kept]
        return cls(
            photo[mine],
            scene.photos.sha256[photo[mine]],
            visibility,
            depth,
            scene.cameras.focal_px[rows][mine],
            scene.cameras.center_in_world[rows][mine],
        )

    @cached_property
    def points_seen(self) -> NDArray[np.int64]:
        """[R] |P(i)|."""
        return np.diff(self.visibility.indptr).astype(np.int64)

    @cached_property
    def tracks(self) -> csr_array:
        """[P, R] which images see each point."""
        return csr_array(self.visibility.astype(np.int8, copy=False).T.tocsr())

    @cached_property
    def spacing(self) -> csr_array:
        """[R, P] size in the world of one pixel at each observation."""
        return geometry.point_spacing(self.visibility, self.depth, self.focal_px)

    def release(self) -> None:
        """Forget what can be computed again, so that thousands of models fit in memory."""
        for name in ("tracks", "spacing"):
            self.__dict__.pop(name, None)

    def shared_with(self, image: int) -> NDArray[np.int64]:
        """[R] points that each image shares with one image."""
        start, stop = self.visibility.indptr[image : image + 2]
        seen = self.tracks[self.visibility.indices[start:stop]]
        return np.bincount(seen.indices, minlength=self.photo.size)

    def candidates(self, image: int, pool_k: int, shared: NDArray[np.int64]) -> CandidateRow:
        """The pool M(q): the `pool_k` images with the nearest camera centres.

        shared: [R] of `shared_with(image)`.
        """
        pool = geometry.nearest_centers(self.centers, pool_k, np.array([image]))[0]
        overlap = (shared[pool] / self.points_seen[image]).astype(np.float32)
        return CandidateRow(pool, shared[pool], overlap, geometry.scale_change_row(self.spacing, image, pool))

    def spread(self) -> Iterator[tuple[int, NDArray[np.int64], Callable[[], None]]]:
        """Images in farthest-point order on co-visibility, well-seeing ones first among equals.

        Yields (image, points it shares with each image, accept); call `accept()` when the image becomes a
        query, so that later ones keep away from it: distance = 1 - shared / min(|P(i)|, |P(j)|). Images
        without a point are skipped.
        """
        nearness = np.zeros(self.photo.size)
        priority = np.lexsort((self.sha256, -self.points_seen))
        waiting = priority[self.points_seen[priority] > 0]
        while waiting.size:
            place = int(np.argmin(nearness[waiting]))
            image = int(waiting[place])
            waiting = np.delete(waiting, place)
            shared = self.shared_with(image)
            yield image, shared, partial(self._accept, nearness, shared)

    def _accept(self, nearness: NDArray[np.float64], shared: NDArray[np.int64]) -> None:
        smaller = np.minimum(self.points_seen, shared.max())
        np.maximum(nearness, shared / np.maximum(smaller, 1), out=nearness)
