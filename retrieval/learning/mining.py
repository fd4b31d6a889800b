"""Negatives: the photographs of other clusters that a network finds nearest to a query, or any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse

from retrieval.nearest.topk import SCORES_PER_BLOCK, check_pair, top_k

FIRST_LOOK = 4
"""Candidates looked at first, per negative asked; queries that need more look at four times as many."""


class TooFewClusters(ValueError):
    """A query has fewer negatives to choose from than asked for."""


def hard_negatives(
    query_descriptors: NDArray[np.float32],
    pool_descriptors: NDArray[np.float32],
    query_clusters: ArrayLike,
    pool_clusters: ArrayLike,
    count: int,
    *,
    one_per_cluster: bool = True,
    forbidden: Any = None,
) -> NDArray[np.int64]:
    """For each query the `count` nearest of the pool from other clusters, hardest first.

    query_descriptors: [Q, D], pool_descriptors: [P, D], clusters: [Q] and [P] -> [Q, count] pool positions.
    `one_per_cluster`: N2, no cluster twice; else N1. `forbidden`: [Q, P] bool, dense or scipy sparse; true
    combinations are never chosen. Nearest = largest inner product, ties go to the lower position.
    Peak memory beside the inputs: SCORES_PER_BLOCK scores three times. Raises TooFewClusters before any
    product is computed, ValueError on shapes that differ.
    Source: TPAMI 2018, sec. 4.3; cirtorch `create_epoch_tuples`.
    """
    check_pair(query_descriptors, pool_descriptors, "query descriptors", "pool descriptors")
    own, pool = _clusters(query_clusters, query_descriptors), _clusters(pool_clusters, pool_descriptors)

    def similarities(rows: slice) -> NDArray[np.float32]:
        return query_descriptors[rows] @ pool_descriptors.T

    return _chosen(similarities, own, pool, count, one_per_cluster, forbidden)


def random_negatives(
    generator: np.random.Generator,
    query_clusters: ArrayLike,
    pool_clusters: ArrayLike,
    count: int,
    *,
    one_per_cluster: bool = True,
    forbidden: Any = None,
) -> NDArray[np.int64]:
    """For each query `count` of the pool from other clusters, each as likely: [Q, count] pool positions.

    As `hard_negatives`, in a random order in place of that of the descriptors. Source: TPAMI 2018, sec. 6.2.
    """
    own, pool = np.asarray(query_clusters, dtype=np.int64), np.asarray(pool_clusters, dtype=np.int64)

    def draws(rows: slice) -> NDArray[np.float32]:
        return generator.random((len(own[rows]), len(pool)), dtype=np.float32)

    return _chosen(draws, own, pool, count, one_per_cluster, forbidden)


def _chosen(
    scores_of: Callable[[slice], NDArray[np.float32]],
    own: NDArray[np.int64],
    pool: NDArray[np.int64],
    count: int,
    one_per_cluster: bool,
    forbidden: Any,
) -> NDArray[np.int64]:
    """The positions with the highest scores [B, P] of each block of queries, which may be written to."""
    barred = _barred(forbidden, len(own), len(pool))
    _check_supply(own, pool, barred, count, one_per_cluster)
    chosen = np.empty((len(own), count), dtype=np.int64)
    members = np.argsort(pool, kind="stable")
    first, last = (np.searchsorted(pool[members], own, side=side) for side in ("left", "right"))
    step = max(1, SCORES_PER_BLOCK // max(1, len(pool)))
    for start in range(0, len(own), step):
        rows = slice(start, start + step)
        scores = scores_of(rows)
        for q, row in enumerate(scores, start):
            row[members[first[q] : last[q]]] = -np.inf
        if barred is not None:
            scores[barred[rows].nonzero()] = -np.inf
        chosen[rows] = _walk(scores, pool, count, one_per_cluster)
    return chosen


def _walk(
    scores: NDArray[np.float32], pool: NDArray[np.int64], count: int, one_per_cluster: bool
) -> NDArray[np.int64]:
    """The first `count` of each row's order, skipping clusters already taken: [B, P] -> [B, count]."""
    if count == 0:
        return np.empty((len(scores), 0), dtype=np.int64)
    if not one_per_cluster:
        return top_k(scores, count)[1]
    chosen = np.empty((len(scores), count), dtype=np.int64)
    rows, look = np.arange(len(scores)), FIRST_LOOK * count
    while len(rows):
        look = min(look, scores.shape[1])
        values, columns = top_k(scores if len(rows) == len(scores) else scores[rows], look)
        clusters = pool[columns]
        fresh = _first_of_each(clusters) & (values > -np.inf)
        enough = np.count_nonzero(fresh, axis=1) >= count
        wanted = fresh[enough] & (np.cumsum(fresh[enough], axis=1) <= count)
        chosen[rows[enough]] = columns[enough][wanted].reshape(-1, count)
        rows, look = rows[~enough], 4 * look
    return chosen


def _first_of_each(clusters: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[B, K] -> [B, K] bool: whether no earlier entry of the row has the same value."""
    order = np.argsort(clusters, axis=1, kind="stable")
    ordered = np.take_along_axis(clusters, order, axis=1)
    starts = np.ones_like(ordered, dtype=bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    fresh = np.empty_like(starts)
    np.put_along_axis(fresh, order, starts, axis=1)
    return fresh


def _clusters(clusters: ArrayLike, descriptors: NDArray[np.float32]) -> NDArray[np.int64]:
    labels = np.asarray(clusters, dtype=np.int64)
    if labels.shape != (len(descriptors),):
        raise ValueError(f"{labels.shape} clusters for {len(descriptors)} descriptors; one label per row")
    return labels


def _barred(forbidden: Any, num_queries: int, num_pool: int) -> Any:
    if forbidden is None:
        return None
    if forbidden.shape != (num_queries, num_pool):
        raise ValueError(
            f"forbidden is {forbidden.shape}; expected [queries, pool] = ({num_queries}, {num_pool})"
        )
    matrix: Any = forbidden if issparse(forbidden) else np.asarray(forbidden)
    barred = csr_array(matrix, dtype=bool)
    barred.eliminate_zeros()
    return barred


def _check_supply(
    own: NDArray[np.int64],
    pool: NDArray[np.int64],
    barred: Any,
    count: int,
    one_per_cluster: bool,
) -> None:
    """Every query must have enough negatives."""
    if count < 0:
        raise ValueError(f"{count} negatives asked; 0 or more")
    clusters, photographs = supply_of(own, pool, barred)
    supply = clusters if one_per_cluster else photographs
    if len(own) and supply.min() < count:
        worst = int(supply.argmin())
        unit = "other clusters" if one_per_cluster else "photographs of other clusters"
        raise TooFewClusters(
            f"query {worst} (cluster {own[worst]}): {supply[worst]} {unit} in the pool, "
            f"{count} negatives asked; lower training.negatives, enlarge the pool or add photographs"
            + (", or give up one_per_cluster" if one_per_cluster else "")
        )


def supply_of(
    own: NDArray[np.int64], pool: NDArray[np.int64], barred: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Other clusters, and photographs of other clusters, that each query may have: [Q] each, counted exactly.

    own, pool: clusters [Q], [P]; barred: [Q, P] sparse bool, None: nothing is. No Q x P array is made.
    """
    labels, member, sizes = np.unique(pool, return_inverse=True, return_counts=True)
    place = np.searchsorted(labels, own)
    present = place < len(labels)
    present[present] = labels[place[present]] == own[present]
    clusters, photographs = np.full(len(own), len(labels)), np.full(len(own), len(pool))
    clusters[present] -= 1
    photographs[present] -= sizes[place[present]]
    if barred is not None:
        query, position = barred.nonzero()
        foreign = pool[position] != own[query]
        key, lost = np.unique(
            query[foreign].astype(np.int64) * len(labels) + member[position[foreign]], return_counts=True
        )
        queries, cluster = np.divmod(key, max(1, len(labels)))
        np.subtract.at(clusters, queries, lost == sizes[cluster])
        np.subtract.at(photographs, queries, lost)
    return clusters, photographs
