"""Where the negatives of a tuple may come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from retrieval.benchmarks.verdicts import EXCLUDED, forbidden_positions, needs_verdict
from retrieval.learning.mining import TooFewClusters, supply_of
from retrieval.training.options import DEFAULT_NEGATIVES
from retrieval.training.positives import Indices, rows_of_queries

TRAIN, VAL = 0, 1
SPLIT_NAMES = {TRAIN: "train", VAL: "val"}


@dataclass(frozen=True)
class NegativePlan:
    """How negatives are mined, after what the pool can give; the sentences say what had to be given up."""

    count: int
    one_per_cluster: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Supply:
    """Of every query: other clusters, and photographs of other clusters, that may serve as negatives. [Q]
    each."""

    clusters: Indices
    photographs: Indices


def draw(items: Indices, count: int | None, generator: np.random.Generator) -> Indices:
    """`count` of the items in random order, all of them where count is None or larger."""
    return generator.permutation(items)[:count]


def negative_pool(arrays: Mapping[str, Any], split: int) -> Indices:
    """Images of the split that can be a negative of some query; a singleton needs at least one allowed
    verdict."""
    members = np.flatnonzero(np.asarray(arrays["images/split"]) == split)
    cleared = np.asarray(arrays["negatives/image"])[np.asarray(arrays["negatives/allowed"], dtype=bool)]
    return members[~needs_verdict(arrays)[members] | np.isin(members, cleared)]


def excluded_positions(arrays: Mapping[str, Any], queries: Indices, pool: Indices) -> list[Indices]:
    """Positions in the pool (images, each once) that each query (image) alone must not have."""
    if EXCLUDED not in arrays:
        return [np.empty(0, dtype=np.int64)] * len(queries)
    indptr, image = np.asarray(arrays[EXCLUDED]), np.asarray(arrays["negatives/excluded/image"])
    position = np.full(len(np.asarray(arrays["images/cluster"])), -1, dtype=np.int64)
    position[pool] = np.arange(len(pool))
    rows = rows_of_queries(arrays, queries)
    found = [position[image[indptr[row] : indptr[row + 1]]] for row in rows.tolist()]
    return [each[each >= 0] for each in found]


def forbidden(arrays: Mapping[str, Any], queries: Indices, pool: Indices) -> csr_array:
    """[Q, P] bool, sparse: combinations that are never a (query, negative)."""
    clusters = np.asarray(arrays["images/cluster"], dtype=np.int64)[queries]
    barred = {
        int(cluster): forbidden_positions(arrays, int(cluster), pool) for cluster in np.unique(clusters)
    }
    own = excluded_positions(arrays, queries, pool)
    rows = [np.union1d(barred[int(cluster)], mine) for cluster, mine in zip(clusters, own, strict=True)]
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    columns = np.concatenate([*rows, np.empty(0, dtype=np.int64)])
    return csr_array((np.ones(len(columns), dtype=bool), columns, indptr), shape=(len(queries), len(pool)))


def negative_supply(arrays: Mapping[str, Any], queries: Indices, pool: Indices) -> Supply:
    """What the pool can give to each query."""
    clusters = np.asarray(arrays["images/cluster"], dtype=np.int64)
    own = clusters[queries]
    _, first, position = np.unique(own, return_index=True, return_inverse=True)
    if EXCLUDED in arrays:  # queries of one cluster differ
        first = position = np.arange(len(queries))
    counts = supply_of(own[first], clusters[pool], forbidden(arrays, queries[first], pool))
    return Supply(*(each[position] for each in counts))


def plan_negatives(
    supply: Supply,
    negatives: int | None,
    one_per_cluster: bool | None,
    names: list[str],
    where: str = "train",
) -> NegativePlan:
    """Fit the wanted negatives to the supply: first one_per_cluster is given up, then the number falls.

    What the user set (not None) is not touched: then TooFewClusters is raised, naming the scarcest query
    (`names` [Q]).
    """
    wanted = DEFAULT_NEGATIVES if negatives is None else negatives
    apart = True if one_per_cluster is None else one_per_cluster
    scarcest = int(np.argmin(supply.clusters if apart else supply.photographs))
    fewest_clusters, fewest = int(supply.clusters.min()), int(supply.photographs.min())
    if (fewest_clusters if apart else fewest) >= wanted:
        return NegativePlan(wanted, apart)
    warnings = []
    if apart and one_per_cluster is None:
        apart = False
        warnings.append(
            f"{where}: query {names[scarcest]!r} has {fewest_clusters} other clusters for {wanted} "
            "negatives; several negatives of a query may come from one cluster"
        )
    available = fewest_clusters if apart else fewest
    if available >= wanted:
        return NegativePlan(wanted, apart, tuple(warnings))
    scarcest = int(np.argmin(supply.clusters if apart else supply.photographs))
    if negatives is not None or available == 0:
        raise TooFewClusters(
            f"{where}: query {names[scarcest]!r} has {fewest_clusters} other clusters with {fewest} "
            f"photographs to take negatives from, {wanted} {'from different clusters ' if apart else ''}"
            "asked; lower training.negatives or add photographs of other places"
        )
    warnings.append(
        f"{where}: query {names[scarcest]!r} has {available} possible negatives; {available} instead of "
        f"{wanted}"
    )
    return NegativePlan(available, apart, tuple(warnings))
