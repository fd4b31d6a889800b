"""Every photograph of a cluster asks for the rest of it: judges that need no 3D model.

Matching verified what is in a cluster, of other light, scale and detail too, where no model holds it. There
are more such clusters than models, and their answers are harder; their labels are less sure: photographs of
one cluster need not see each other, and one of the same place may be outside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.geometry import GeometryBenchmark, InvalidBenchmark

QUERIES_PER_CLUSTER = 30
LEAST_PHOTOGRAPHS = 3
"""Of a cluster; where one photograph alone is right its AP is 1 over its rank, and hangs on chance."""
MATCHED = "matched/first"


def has_clusters(arrays: Mapping[str, Any]) -> bool:
    """Whether the clusters of a training set are those of matched photographs; of lists they are not."""
    return MATCHED in arrays


def of_clusters(arrays: Mapping[str, Any], split: int) -> GeometryBenchmark:
    """Queries: photographs of the clusters that have LEAST_PHOTOGRAPHS in a split (0 train, 1 val, 2 test),
    at most QUERIES_PER_CLUSTER of each, evenly spread; easy: the rest of the cluster; database: the split.

    arrays: of training_set.h5 by path. Raises InvalidBenchmark.
    """
    if not has_clusters(arrays):
        raise InvalidBenchmark(
            "this training set does not say which photographs matching verified (it is a list, or of an "
            "earlier version), so that its clusters are no labels; select it again, or use val_queries=models"
        )
    cluster = np.asarray(arrays["images/cluster"])
    database = np.flatnonzero(np.asarray(arrays["images/split"]) == split)
    queries, right = [], []
    for members in _groups(cluster[database], database):
        spread = np.linspace(0, len(members) - 1, min(len(members), QUERIES_PER_CLUSTER))
        for query in members[np.unique(spread.round().astype(np.int64))].tolist():
            queries.append(query)
            right.append(members[members != query])
    order = np.argsort(queries)
    none = np.zeros(len(queries) + 1, np.int64), np.empty(0, np.int64)
    easy = np.cumsum([0, *(len(right[row]) for row in order)]), _joined([right[row] for row in order])
    made: dict[str, Any] = {"images/cluster": cluster}
    made |= {
        "benchmark/clusters/queries": np.array(queries, dtype=np.int64)[order],
        "benchmark/clusters/database": database,
    }
    for label, (indptr, image) in {"easy": easy, "hard": none, "junk": none}.items():
        made |= {f"benchmark/clusters/{label}/indptr": indptr, f"benchmark/clusters/{label}/image": image}
    return GeometryBenchmark.from_arrays(made, "clusters")


def _groups(cluster: NDArray[np.int64], images: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Images of each cluster that has enough."""
    order = np.argsort(cluster, kind="stable")
    parts = np.split(images[order], np.flatnonzero(np.diff(cluster[order])) + 1)
    return [part for part in parts if len(part) >= LEAST_PHOTOGRAPHS]


def _joined(rows: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *rows])
