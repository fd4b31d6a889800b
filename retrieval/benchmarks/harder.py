"""The geometry benchmark made harder: altered queries against all photographs of a training set.

Easy and hard images of a query are those of the benchmark. Junk is what is junk there, the rest of the
query's cluster, and whatever no verdict allows as a negative of the cluster: images of clusters that may
match it, and photographs that are alone and were not looked at. All else is wrong, whatever its split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.geometry import GeometryBenchmark, Split, score
from retrieval.benchmarks.landmarks import JUNK
from retrieval.benchmarks.verdicts import forbidden_positions


def harder_precisions(
    arrays: Mapping[str, Any],
    split: Split,
    queries: Mapping[str, NDArray[np.float32]],
    database: NDArray[np.float32],
) -> dict[str, NDArray[np.float64]]:
    """Medium AP [Q] of the queries of a split, by change; nan = it has neither easy nor hard images.

    arrays: of training_set.h5 by path; queries: change -> [Q, D], altered; database: [N, D], all images as
    they are. One cluster at a time: memory of its queries times the images that are junk for them. Raises
    InvalidBenchmark.
    """
    standing = GeometryBenchmark.from_arrays(arrays, split)
    found = {change: np.full(len(standing.queries), np.nan) for change in queries}
    for cluster in np.unique(standing.clusters).tolist():
        rows = np.flatnonzero(standing.clusters == cluster)
        among = among_all(arrays, standing, rows, cluster)
        for change, altered in queries.items():
            found[change][rows] = score(among, altered[rows], database, ks=()).medium.average_precisions
    return found


def among_all(
    arrays: Mapping[str, Any], standing: GeometryBenchmark, rows: NDArray[np.int64], cluster: int
) -> GeometryBenchmark:
    """The benchmark of some queries (rows) of one cluster, with all images as database."""
    everything = np.arange(standing.num_images)
    common = np.zeros(standing.num_images, dtype=np.uint8)
    common[np.asarray(arrays["images/cluster"]) == cluster] = JUNK
    common[forbidden_positions(arrays, cluster, everything)] = JUNK
    positions, roles = [], []
    for row in rows.tolist():
        own = common.copy()
        labelled = slice(standing.indptr[row], standing.indptr[row + 1])
        own[standing.database[standing.positions[labelled]]] = standing.roles[labelled]
        positions.append(np.flatnonzero(own))
        roles.append(own[positions[-1]])
    return replace(
        standing,
        queries=standing.queries[rows],
        database=everything,
        clusters=standing.clusters[rows],
        indptr=np.cumsum([0, *map(len, positions)], dtype=np.int64),
        positions=np.concatenate(positions),
        roles=np.concatenate(roles),
        num_easy=standing.num_easy[rows],
        num_hard=standing.num_hard[rows],
    )
