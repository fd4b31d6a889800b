"""Alpha query expansion, database-side augmentation, re-ranking: a descriptor becomes what its
neighbourhood says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from retrieval.nearest.topk import SCORES_PER_BLOCK, InvalidDescriptors, check_pair, top_k
from storage.keys.options import Options


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


class Reranking(Options):
    """Another order of the first images of each list, from descriptors alone; defaults: SuperGlobal's."""

    top: int = Field(400, ge=1, description="M: first images of each list that are put in another order")
    neighbours: int = Field(
        9, ge=0, description="K: of those, the nearest to each one, which its descriptor is averaged with"
    )
    beta: float = Field(
        0.15, ge=0, allow_inf_nan=False, description="factor of the similarity that weighs them"
    )

    @model_validator(mode="after")
    def _are_among_the_first(self) -> Reranking:
        _check_reranking(**dict(self))
        return self

    @property
    def text(self) -> str:
        """In tables."""
        return f"neighbours, M={self.top}, K={self.neighbours}, beta={self.beta:g}"


def rerank_by_neighbours(
    queries: NDArray[Any],
    database: NDArray[Any],
    ranks: NDArray[np.int64],
    *,
    top: int = 400,
    neighbours: int = 9,
    beta: float = 0.15,
) -> NDArray[np.int64]:
    """A new order of each query's first `top` images, from their descriptors alone; see `reranked`.

    queries: [Q, D], database: [N, D], unit rows; ranks: [Q, K] database positions, best first -> [Q, K], what
    is below `top` as it was. Raises InvalidDescriptors.
    """
    scores = np.zeros(ranks.shape, queries.dtype)
    return reranked(queries, database, ranks, scores, top=top, neighbours=neighbours, beta=beta)[1]


def reranked(
    queries: NDArray[Any],
    database: NDArray[Any],
    ranks: NDArray[np.int64],
    scores: NDArray[Any],
    *,
    top: int,
    neighbours: int,
    beta: float,
    leave_out: NDArray[np.int64] | None = None,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(scores, ranks) [Q, K] of lists whose first `top` images are put in a new order.

    queries: [Q, D], database: [N, D], unit rows; ranks: database positions, best first; scores: their
    similarities. Each of the first becomes the mean of itself and of its nearest `neighbours` (or all) among
    them, these weighed by beta * similarity; then the query is joined by the maximum over the best
    `neighbours` + 1 of those means, and the score is the mean of both similarities. Shorter lists are
    taken whole, equal scores keep their order, no score is below one behind it. leave_out: [Q] database
    position that takes no part for that query and keeps its place (the query's own photograph), -1 = none.
    Only rows in the first `top` + 1 of a list are read, one query's at a time, so that a database may be a
    memory map of any size. Peak memory beside the lists twice: top * (D + 4 * top) numbers. Raises
    InvalidDescriptors. Source: SuperGlobal, arXiv 2308.06954, sec. 3.3 and 3.4.
    """
    check_pair(queries, database, "queries", "database")
    if ranks.ndim != 2 or len(ranks) != len(queries) or ranks.shape != scores.shape:
        raise InvalidDescriptors(
            f"ranks {ranks.shape}, scores {scores.shape}: one row for each of {len(queries)} queries"
        )
    if ranks.size and (ranks.min() < 0 or ranks.max() >= len(database)):
        raise InvalidDescriptors(f"ranks name images that are none of the {len(database)} of the database")
    _check_reranking(top, neighbours, beta)
    new_ranks, new_scores = ranks.copy(), scores.copy()
    for q, (query, row) in enumerate(zip(queries, ranks, strict=True)):
        places = np.flatnonzero(row[: top + 1] != (-1 if leave_out is None else leave_out[q]))[:top]
        if len(places):
            found = _compared(query, np.asarray(database[row[places]]), neighbours, beta)
            order = np.argsort(-found, kind="stable")
            new_ranks[q, places], new_scores[q, places] = row[places[order]], found[order]
    return np.maximum.accumulate(new_scores[:, ::-1], axis=1)[:, ::-1], new_ranks


def _check_reranking(top: int, neighbours: int, beta: float) -> None:
    if top < 1 or not 0 <= neighbours <= top or not np.isfinite(beta):
        raise InvalidDescriptors(
            f"M (top) {top}, K (neighbours) {neighbours}, beta {beta}: M is 1 or more, K 0..M, beta a number"
        )


def _compared(query: NDArray[Any], nearest: NDArray[Any], neighbours: int, beta: float) -> NDArray[Any]:
    """[top] score of each of the query's nearest, [top, D]: the mean of the two similarities."""
    count = min(neighbours, len(nearest) - 1)
    weights, columns = np.empty((len(nearest), 0), nearest.dtype), np.empty((len(nearest), 0), np.int64)
    if count:
        similarities = nearest @ nearest.T
        np.fill_diagonal(similarities, -np.inf)
        weights, columns = top_k(similarities, count)
        weights *= beta
    total = 1 + weights.sum(axis=1)

    def of_means(similarities: NDArray[Any]) -> NDArray[Any]:
        return (similarities + (weights * similarities[columns]).sum(axis=1)) / total

    first = of_means(nearest @ query)
    if not np.isfinite(first).all():
        raise InvalidDescriptors("the descriptors hold nan or infinite values; extract them again")
    best = np.argsort(-first, kind="stable")[: count + 1]
    sums = nearest[best] + (weights[best, None] @ nearest[columns[best]])[:, 0]
    joined = (sums / total[best, None]).max(axis=0)
    return (first + of_means(nearest @ joined)) / 2


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
