"""What two photographs of one 3D model share: points, overlap, scale change, neighbouring cameras.

A model is a bipartite visibility graph, a sparse [R, P] matrix: image r sees 3D point p. Every function
takes `rows`, so that at the size of a city only the rows of the queries are formed, never all [R, R].
Source: Radenovic, Tolias, Chum, TPAMI 2018, section 4.2.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from sfm.pairing.neighbours import smallest

_BLOCK_OBSERVATIONS = 4_000_000
_BLOCK_DISTANCES = 8_000_000


class EmptyImage(ValueError):
    """An image without a single 3D point has no overlap with anything."""


class BadGeometry(ValueError):
    """Arrays of a model that do not fit together."""


def visibility_matrix(indptr: ArrayLike, point: ArrayLike, num_points: int) -> csr_array:
    """Visibility graph from the CSR columns of scene.h5.

    indptr: [R+1], point: [E] in 0..num_points-1 -> [R, num_points] int32 of ones, sorted, a point counted
    once per image (COLMAP may let two keypoints of one image see the same point). Raises BadGeometry for
    indices out of range.
    """
    return visibility_and_depth(indptr, point, np.ones(np.size(point), dtype=np.float32), num_points)[0]


def visibility_and_depth(
    indptr: ArrayLike, point: ArrayLike, depth: ArrayLike, num_points: int
) -> tuple[csr_array, NDArray[np.floating]]:
    """The visibility graph as `visibility_matrix` makes it, and the depths [nnz] aligned with its entries."""
    offsets, points = np.asarray(indptr, dtype=np.int64), np.asarray(point)
    depths = np.asarray(depth)
    if offsets.ndim != 1 or offsets.size == 0 or offsets[0] != 0 or offsets[-1] != points.size:
        raise BadGeometry(f"visibility: indptr must run from 0 to {points.size}, the number of observations")
    if points.size and (points.min() < 0 or points.max() >= num_points):
        raise BadGeometry(
            f"visibility: points {points.min()}..{points.max()}, but the model has {num_points}; "
            "the scene file is damaged: verify the store"
        )
    row_of = np.repeat(np.arange(offsets.size - 1, dtype=np.int32), np.diff(offsets))
    later = (np.diff(points) > 0) | (np.diff(row_of) > 0)
    if not later.all():
        order = np.lexsort((points, row_of))
        points, depths = points[order], depths[order]
        once = np.concatenate([[True], (np.diff(points) != 0) | (np.diff(row_of) != 0)])
        points, depths = points[once], depths[once]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(row_of[once], minlength=offsets.size - 1))])
    small = np.int32 if max(points.size, num_points) < 2**31 else np.int64
    entries = (np.ones(points.size, dtype=np.int32), points.astype(small), offsets.astype(small))
    return csr_array(entries, shape=(offsets.size - 1, num_points)), depths


def _counts(visibility: csr_array) -> csr_array:
    """The same graph as int32 ones: a product of bool matrices would only say whether, not how many."""
    matrix = csr_array(visibility)
    if not matrix.has_canonical_format or not matrix.data.all():
        matrix = matrix.copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    ones = np.ones_like(matrix.data, dtype=np.int32)
    return csr_array((ones, matrix.indices, matrix.indptr), shape=matrix.shape)


def shared_points(visibility: csr_array, rows: NDArray[np.int64] | None = None) -> csr_array:
    """How many 3D points two images both see.

    visibility: [R, P], image r sees point p; rows: [Q] images to compute, None = all -> [Q, R] int32,
    diagonal = |P(i)|.
    """
    counts = _counts(visibility)
    left = counts if rows is None else counts[np.asarray(rows, dtype=np.int64)]
    shared = csr_array(left @ counts.T.tocsr())
    shared.sort_indices()
    return shared


def overlap(visibility: csr_array, rows: NDArray[np.int64] | None = None) -> csr_array:
    """Share of each image's 3D points that another image also sees.

    visibility: [R, P], image r sees point p; rows: [Q] images to compute, None = all -> [Q, R] float32,
    entry (i, j) = |P(i) n P(j)| / |P(i)|, zero (absent) diagonal. Not symmetric.
    Raises EmptyImage when an asked row sees no point. Source: TPAMI 2018, section 4.2.
    """
    shared = shared_points(visibility, rows)
    images = np.arange(shared.shape[0]) if rows is None else np.asarray(rows, dtype=np.int64)
    row_of = np.repeat(np.arange(images.size), np.diff(shared.indptr))
    own = shared.indices == images[row_of]
    seen = np.zeros(images.size, dtype=np.int64)
    seen[row_of[own]] = shared.data[own]
    if images.size and seen.min() == 0:
        raise EmptyImage(f"image {images[seen.argmin()]} sees no 3D point; leave it out of the rows")
    values = (shared.data / seen[row_of]).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row_of[~own], minlength=images.size))])
    return csr_array((values[~own], shared.indices[~own], indptr), shape=shared.shape)


def scale_change(
    visibility: csr_array,
    depth: NDArray[np.floating],
    focal_px: NDArray[np.floating],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> NDArray[np.float32]:
    """How much larger or smaller the same surface appears in one image than in another.

    visibility: [R, P] sorted; depth: [E] along the viewing axis, aligned with visibility.indices; focal_px:
    [R]; first, second: [K] images -> [K] float32 >= 1, the median over shared points of max(r, 1/r) with r
    = (depth_first / focal_first) / (depth_second / focal_second). nan where no point in front of both is
    shared. Symmetric. The paper names the measure without defining it: this definition is ours.
    """
    spacing = point_spacing(visibility, depth, focal_px)
    inverse = csr_array((1.0 / spacing.data, spacing.indices, spacing.indptr), shape=spacing.shape)
    first, second = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    if first.shape != second.shape:
        raise BadGeometry(f"scale change: {first.size} first images, {second.size} second images")
    seen = np.diff(spacing.indptr).astype(np.int64)
    result = np.empty(first.size, dtype=np.float32)
    for start, stop in _blocks(seen[first] + seen[second], _BLOCK_OBSERVATIONS):
        ratios = csr_array(spacing[first[start:stop]].multiply(inverse[second[start:stop]]))
        result[start:stop] = _median_change(ratios.data, ratios.indptr)
    return result


def scale_change_row(spacing: csr_array, image: int, others: NDArray[np.int64]) -> NDArray[np.float32]:
    """`scale_change` of one image to others [K], from a `point_spacing` computed once -> [K] float32, nan =
    none shared.
    """
    own = slice(*spacing.indptr[image : image + 2])
    inverse = np.zeros(spacing.shape[1])
    inverse[spacing.indices[own]] = 1.0 / spacing.data[own]
    rows = csr_array(spacing[np.asarray(others, dtype=np.int64)])
    ratio = rows.data * inverse[rows.indices]
    both = ratio > 0
    indptr = np.concatenate([[0], np.cumsum(both)])[rows.indptr]
    return _median_change(ratio[both], indptr)


def nearest_centers(
    centers: NDArray[np.float64], k: int, rows: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The k images whose camera centres lie closest, the image itself left out.

    centers: [R, 3] in the model's unit; rows: [Q], None = all -> [Q, min(k, R - 1)] int64, nearest first,
    ties by index.
    """
    centers = np.asarray(centers, dtype=np.float64)
    if centers.ndim != 2:
        raise BadGeometry(f"camera centres must be [R, 3], not {list(centers.shape)}")
    if k < 0:
        raise BadGeometry(f"nearest camera centres: k = {k}; ask for 0 or more")
    images = np.arange(len(centers)) if rows is None else np.asarray(rows, dtype=np.int64)
    width = min(k, max(len(centers) - 1, 0))
    result = np.empty((images.size, width), dtype=np.int64)
    step = max(1, _BLOCK_DISTANCES // max(1, len(centers)))
    for start in range(0, images.size if width else 0, step):
        block = images[start : start + step]
        result[start : start + step] = _nearest(centers, block, width)
    return result


def _nearest(centers: NDArray[np.float64], images: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    squared = np.zeros((images.size, len(centers)))
    for axis in range(centers.shape[1]):
        squared += np.square(centers[images, axis, None] - centers[None, :, axis])
    squared[np.arange(images.size), images] = np.inf
    return smallest(squared, width)


def point_spacing(
    visibility: csr_array, depth: NDArray[np.floating], focal_px: NDArray[np.floating]
) -> csr_array:
    """depth / focal per observation: the size in the world of one pixel at that point.

    Points behind a camera drop out.
    """
    depth, focal_px = np.asarray(depth, dtype=np.float64), np.asarray(focal_px, dtype=np.float64)
    if depth.shape != (visibility.nnz,) or focal_px.shape != (visibility.shape[0],):
        raise BadGeometry(
            f"scale change: {depth.size} depths for {visibility.nnz} observations, "
            f"{focal_px.size} focal lengths for {visibility.shape[0]} images"
        )
    if not visibility.has_canonical_format:
        raise BadGeometry(
            "scale change: observations must be sorted by point and unique; use visibility_matrix"
        )
    if focal_px.size and not focal_px.min() > 0:
        raise BadGeometry(
            f"image {focal_px.argmin()} has focal length {focal_px.min()} px; it must be positive"
        )
    values = depth / np.repeat(focal_px, np.diff(visibility.indptr))
    good = np.isfinite(values) & (values > 0)
    if good.all():
        return csr_array((values, visibility.indices, visibility.indptr), shape=visibility.shape)
    kept = np.concatenate([[0], np.cumsum(good)])[visibility.indptr]
    return csr_array((values[good], visibility.indices[good], kept), shape=visibility.shape)


def _median_change(ratio: NDArray[np.float64], indptr: NDArray[np.integer]) -> NDArray[np.float32]:
    """Median of max(r, 1/r) per row.

    One sort of 64-bit keys (row, bits of a positive float32, which sort like the number): faster than a
    lexsort.
    """
    counts = np.diff(indptr).astype(np.int64)
    change = np.maximum(ratio, 1.0 / ratio).astype(np.float32)
    row_of = np.repeat(np.arange(counts.size, dtype=np.uint64), counts)
    packed = (row_of << np.uint64(32)) | change.view(np.uint32)
    packed.sort()
    ordered = (packed & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32)
    result = np.full(counts.size, np.nan, dtype=np.float32)
    some = np.flatnonzero(counts)
    start, size = indptr[:-1][some].astype(np.int64), counts[some]
    result[some] = (ordered[start + (size - 1) // 2] + ordered[start + size // 2]) / 2
    return result


def _blocks(weights: NDArray[np.int64], limit: int) -> list[tuple[int, int]]:
    """Consecutive ranges of about `limit` total weight, each of at least one item."""
    if weights.size == 0:
        return []
    block = (np.cumsum(weights) - weights) // limit
    edges = np.flatnonzero(np.diff(block)) + 1
    bounds = [0, *edges.tolist(), int(weights.size)]
    return list(pairwise(bounds))
