"""Alpha query expansion, database-side augmentation, re-ranking: a descriptor becomes what its
neighbourhood says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.nearest.topk import SCORES_PER_BLOCK, InvalidDescriptors, check_pair, top_k


def alpha_query_expansion(
    queries: NDArray[Any],
    database: NDArray[Any],
    k: int,
    alpha: float,
    *,
    leave_out: NDArray[np.int64] | None = None,
) -> NDArray[Any]:
    """q' = q + sum over the k nearest x of (q.x)^alpha x, then unit length.

    queries: [Q, D], database: [N, D], unit rows -> [Q, D] of the queries' type. leave_out: [Q] database
    position never used for that query (the query's own photograph), -1 = none. A negative similarity weighs
    (q.x)^alpha for whole alpha as in the reference, 0 for others (where the reference is nan). k = 0 changes
    nothing. Raises InvalidDescriptors.
    Source: TPAMI 2018, sec. 5.5; deep-image-retrieval `expand_descriptors`.
    """
    check_pair(queries, database, "queries", "database")
    available = len(database) - (leave_out is not None)
    if not 0 <= k <= available or not 0 <= alpha < np.inf:
        raise InvalidDescriptors(
            f"k {k}, alpha {alpha}: k is 0..{available} (database images), alpha 0 or more"
        )
    expanded = np.array(queries)
    step = max(1, SCORES_PER_BLOCK // max(1, len(database)))
    for start in range(0, len(queries) if k else 0, step):
        rows = slice(start, start + step)
        scores = queries[rows] @ database.T
        if leave_out is not None:
            own = leave_out[rows]
            scores[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
        expanded[rows] = _expand(queries[rows], database, scores, k, alpha)
    return expanded


def database_augmentation(
    database: NDArray[Any], k: int, alpha: float, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """The same for each database row with the others: [N, D] -> [N, D], in `out` where that is given.

    The row itself stands among its neighbours with similarity 0, so a neighbour of negative similarity is
    taken only where fewer than k others are nearer than that. Source: `expand_descriptors` with db=None.
    """
    check_pair(database, database, "database", "database")
    if not 0 <= k <= len(database) or not 0 <= alpha < np.inf:
        raise InvalidDescriptors(f"k {k}, alpha {alpha}: k is 0..{len(database)}, alpha 0 or more")
    augmented = np.empty_like(database) if out is None else out
    step = max(1, SCORES_PER_BLOCK // max(1, len(database)))
    for start in range(0, len(database), step):
        block = database[start : start + step]
        if not k:
            augmented[start : start + step] = block
            continue
        scores = block @ database.T
        rows = np.arange(len(block))
        scores[rows, start + rows] = 0
        augmented[start : start + step] = _expand(block, database, scores, k, alpha)
    return augmented


def rerank_by_neighbours(
    queries: NDArray[Any],
    database: NDArray[Any],
    ranks: NDArray[np.int64],
    *,
    top: int = 400,
    neighbours: int = 9,
    beta: float = 0.15,
) -> NDArray[np.int64]:
    """A new order of each query's first `top` images, from their descriptors alone.

    queries: [Q, D], database: [N, D], unit rows; ranks: [Q, K] database positions, best first -> [Q, K], what
    is below `top` as it was; equal scores keep their order. Each of the first becomes the mean of itself and
    of its nearest among them, these weighed by beta * similarity; then the query is joined by the maximum
    over the best of those means, and the score is the mean of both similarities.
    Memory: top * (D + 3 * top) numbers. Raises InvalidDescriptors.
    Source: SuperGlobal, arXiv 2308.06954, sec. 3.3 and 3.4.
    """
    check_pair(queries, database, "queries", "database")
    if ranks.ndim != 2 or len(ranks) != len(queries):
        raise InvalidDescriptors(f"ranks {ranks.shape}: one row for each of {len(queries)} queries")
    if ranks.size and (ranks.min() < 0 or ranks.max() >= len(database)):
        raise InvalidDescriptors(f"ranks name images that are none of the {len(database)} of the database")
    top = min(top, ranks.shape[1])
    neighbours = min(neighbours, top - 1)
    if top < 1 or neighbours < 0 or not np.isfinite(beta):
        raise InvalidDescriptors("top is 1 or more, neighbours 0 or more and beta a number")
    reordered = ranks.copy()
    for query, row, out in zip(queries, ranks[:, :top], reordered, strict=True):
        nearest = database[row]
        weights = _neighbour_weights(nearest, neighbours, beta)
        first = weights @ (nearest @ query)
        if not np.isfinite(first).all():
            raise InvalidDescriptors("the descriptors hold nan or infinite values; extract them again")
        best = np.argsort(-first, kind="stable")[: neighbours + 1]
        joined = (weights[best] @ nearest).max(axis=0)
        out[:top] = row[np.argsort(-(first + weights @ (nearest @ joined)), kind="stable")]
    return reordered


def _neighbour_weights(nearest: NDArray[Any], neighbours: int, beta: float) -> NDArray[Any]:
    """[top, top]: how much of each image the mean around each image has; rows sum to 1."""
    weights: NDArray[Any] = np.eye(len(nearest), dtype=nearest.dtype)
    if neighbours:
        similarities = nearest @ nearest.T
        np.fill_diagonal(similarities, -np.inf)
        values, columns = top_k(similarities, neighbours)
        np.put_along_axis(weights, columns, beta * values, axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _expand(
    queries: NDArray[Any], database: NDArray[Any], scores: NDArray[Any], k: int, alpha: float
) -> NDArray[Any]:
    similarities, neighbours = top_k(scores, k)
    if not float(alpha).is_integer():
        similarities = np.maximum(similarities, 0)
    weights = similarities**alpha
    total = queries.copy()
    for column in range(k):  # one neighbour of every query at a time: no [Q, k, D] array
        total += weights[:, column, None] * database[neighbours[:, column]]
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.array(queries), where=length > 0)
