"""The paper's three strategies for positives, each a filter on the candidates of a training set.

m1 depends on the network (the nearest descriptor of its pool), m2 takes the image with most shared points,
m3 draws one of those with enough overlap at a similar scale. Source: TPAMI 2018, section 4.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sfm.training_set.known_truth import grouped
from sfm.training_set.tables import Candidates
from storage.schemas.table import Ragged

if TYPE_CHECKING:
    from sfm.selection.choosing import SelectionOptions

NONE = -1
Values = NDArray[np.float32]


def good(overlap: Values, scale_change: Values, options: SelectionOptions) -> NDArray[np.bool_]:
    """Enough overlap at a similar scale: what makes a candidate a positive of m3. nan is never good."""
    return alike(overlap, scale_change, options.min_overlap, options.max_scale_change)


def near_duplicates(overlap: Values, scale_change: Values, options: SelectionOptions) -> NDArray[np.bool_]:
    """Nearly the same picture as the query: nothing can be learnt from it."""
    least, most = options.near_duplicate_overlap, options.near_duplicate_scale_change
    return alike(overlap, scale_change, least, most)


def alike(overlap: Values, scale_change: Values, least: float, most: float) -> NDArray[np.bool_]:
    """At least this overlap at no more than this change of scale, as float32; nan never is."""
    return (overlap >= np.float32(least)) & (scale_change <= np.float32(most))


def m1_pool(candidates: Candidates, pool_k: int = 100) -> Ragged:
    """The `pool_k` images with the nearest camera centres, per query.

    M1 is the one with the nearest descriptor.
    """
    return _filtered(candidates, candidates.center_distance_rank < pool_k)


def m2(candidates: Candidates, options: SelectionOptions) -> NDArray[np.int64]:
    """[Q] the image of the pool with most shared points, -1 = none shares one.

    The nearer camera among equals.

    Near duplicates of the query are passed over while it has another positive.
    """
    query, count = candidates.query, candidates.indptr.size - 1
    usable = (candidates.center_distance_rank < options.pool_k) & (candidates.shared_points > 0)
    twin = near_duplicates(candidates.overlap, candidates.scale_change, options)
    other = usable & ~twin & good(candidates.overlap, candidates.scale_change, options)
    has_other = np.bincount(query[other], minlength=count) > 0
    usable &= ~(twin & has_other[query])
    order = np.lexsort((candidates.center_distance_rank, -candidates.shared_points, query))
    order = order[usable[order]]
    found, first = np.unique(query[order], return_index=True)
    result = np.full(count, NONE, dtype=np.int64)
    result[found] = candidates.image[order[first]]
    return result


def m3(candidates: Candidates, options: SelectionOptions) -> Ragged:
    """The images of the pool with enough overlap at a similar scale, nearest camera first.

    One is drawn when asked.
    """
    keep = good(candidates.overlap, candidates.scale_change, options)
    return _filtered(candidates, keep & (candidates.center_distance_rank < options.pool_k))


def _filtered(candidates: Candidates, keep: NDArray[np.bool_]) -> Ragged:
    return grouped(candidates.query[keep], candidates.image[keep], candidates.indptr.size - 1)
