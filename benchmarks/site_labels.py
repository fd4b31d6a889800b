"""Retrieval judged by site labels: the photographs of the query's site are right, all others wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.landmarks import average_precision


def average_precisions(
    rows: NDArray[np.float32], queries: NDArray[np.int64], sites: NDArray[np.str_]
) -> NDArray[np.float64]:
    """AP [Q] of each query over all other photographs, 0..1, nan where its site has no other.

    rows: descriptors [N, D]; queries: photographs [Q]; sites: [N].
    """
    scores = rows[queries].astype(np.float64) @ rows.T.astype(np.float64)
    found = []
    for query, own in zip(queries, scores, strict=True):
        order = np.argsort(-own, kind="stable")
        right = np.flatnonzero(sites[order[order != query]] == sites[query])
        found.append(average_precision(right, len(right)) if len(right) else np.nan)
    return np.array(found)
