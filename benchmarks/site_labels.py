"""Retrieval judged by site labels: the photographs of the query's site are right, all others wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.landmarks import average_precision
from retrieval.nearest.expansion import rerank_by_neighbours


def average_precisions(
    rows: NDArray[np.float32], queries: NDArray[np.int64], sites: NDArray[np.str_], reranked: int = 0
) -> NDArray[np.float64]:
    """AP [Q] of each query over all other photographs, 0..1, nan where its site has no other.

    rows: descriptors [N, D]; queries: photographs [Q]; sites: [N]; reranked: how many of the first are put in
    a new order by their neighbours.
    """
    order = np.argsort(-(rows[queries].astype(np.float64) @ rows.T.astype(np.float64)), axis=1, kind="stable")
    order = order[order != queries[:, None]].reshape(len(queries), len(rows) - 1)
    if reranked:
        order = rerank_by_neighbours(rows[queries], rows, order, top=reranked)
    right = sites[order] == sites[queries][:, None]
    return np.array(
        [average_precision(np.flatnonzero(row), n) if (n := row.sum()) else np.nan for row in right]
    )
