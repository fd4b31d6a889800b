"""Exact search by inner product over a database of any size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import SCORES_PER_BLOCK, InvalidDescriptors, check_pair, top_k

Rows = NDArray[np.float32]
ROWS_BYTES = 64 << 20
"""Database rows that are looked at together."""


def search(database: Rows, queries: Rows, k: int) -> tuple[Rows, NDArray[np.int64]]:
    """The k database rows with the largest inner product, best first; ties go to the lower position.

    database: [N, D], may be a memory map larger than memory; queries: [Q, D] -> scores [Q, k], ranks [Q, k].
    Peak memory beside the inputs: SCORES_PER_BLOCK scores twice, and 2 k per query; nothing is sorted but
    what enters the best k. Raises InvalidDescriptors when shapes differ, k is not in 1..N, or a similarity is
    not finite.
    """
    check_pair(queries, database, "queries", "database")
    check_depth(k, len(database))
    rows = min(SCORES_PER_BLOCK // max(1, len(queries)), ROWS_BYTES // (4 * max(1, database.shape[1])))
    step = max(k, rows)
    best, ranks = top_k(_scores(database[:step], queries), k)
    for start in range(step, len(database), step):
        scores = _scores(database[start : start + step], queries)
        # strictly larger: of equal ones the earlier, which is there already, stays
        query, column = np.nonzero(scores > best[:, -1:])
        if len(query):
            best, ranks = _merged(best, ranks, query, scores[query, column], column + start)
    return best, ranks


def _scores(block: Rows, queries: Rows) -> Rows:
    scores = queries @ block.T
    if not np.isfinite(scores).all():
        raise InvalidDescriptors("similarities hold nan or infinite values; check the descriptors")
    return scores


def _merged(
    best: Rows, ranks: NDArray[np.int64], query: NDArray[np.int64], scores: Rows, position: NDArray[np.int64]
) -> tuple[Rows, NDArray[np.int64]]:
    """The best k [Q, k] with newcomers (query, score, position) sorted in."""
    num_queries, k = best.shape
    rows = np.concatenate([np.repeat(np.arange(num_queries), k), query])
    values = np.concatenate([best.ravel(), scores])
    positions = np.concatenate([ranks.ravel(), position])
    order = np.lexsort((positions, -values, rows))
    first = np.searchsorted(rows[order], np.arange(num_queries))
    kept = order[first[:, None] + np.arange(k)]
    return values[kept], positions[kept]


def check_depth(k: int, num_rows: int) -> None:
    """Raises InvalidDescriptors for a k that is not in 1..num_rows."""
    if not 1 <= k <= num_rows:
        raise InvalidDescriptors(f"k is {k}; the database holds {num_rows}, so k is 1..{num_rows}")
