"""Exact search by inner product over a database of any size.

Every block of the database is screened by products in the cheapest arithmetic that the processor has, whose
error is bounded; only rows that may be among the best are then compared in full. So nothing is sorted but
those, and scores depend neither on blocks nor on the arithmetic of the screening.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.nearest.topk import SCORES_PER_BLOCK, InvalidDescriptors, check_pair

if TYPE_CHECKING:
    from torch import Tensor

Rows = NDArray[np.float32]
Ids = NDArray[np.int64]
Screen = Callable[[Rows], tuple[Rows, Rows]]
"""Block [n, D] -> (similarities [Q, n], bound of their error [Q]). Raises InvalidDescriptors."""

ROWS_BYTES = 64 << 20
"""Database rows that are screened together."""
PAIRS_BYTES = 16 << 20
"""Rows that are compared in full at once."""
COARSE_FROM, COARSE_QUERIES = 20_000, 16
"""Rows of a database, and queries, from which on bfloat16 is worth its conversion and the import of torch."""
COARSE_BYTES = 16 << 20
"""Rows that are converted at once: few, so that they stay in the processor's cache."""
BLOCKS_AT_ONCE = 8
"""Blocks that threads screen at the same time, in some 40 MB each."""
COARSE_SHARE = 0.02
"""Where more of a block than that stands too near to tell in bfloat16, it is screened again."""
LARGEST = 1e38
"""Similarities beyond that are taken for infinite."""


def search(database: Rows, queries: Rows, k: int) -> tuple[Rows, Ids]:
    """The k database rows with the largest inner product, best first; ties go to the lower position.

    database: [N, D], may be a memory map larger than memory; queries: [Q, D] -> scores [Q, k], ranks
    [Q, k]. Peak memory beside the inputs: SCORES_PER_BLOCK scores twice, 2 k per query. Raises
    InvalidDescriptors where shapes differ, k is not in 1..N, or a similarity is not finite.
    """
    check_pair(queries, database, "queries", "database")
    check_depth(k, len(database))
    fine, coarse = _fine(queries), _coarse(queries, len(database))
    rows = min(SCORES_PER_BLOCK // max(1, len(queries)), ROWS_BYTES // (4 * max(1, database.shape[1])))
    step = max(k, rows)
    best = np.empty((len(queries), 0), dtype=np.float32)
    ranks = np.empty((len(queries), 0), dtype=np.int64)

    def compared(start: int) -> tuple[int, Ids, Ids, Rows]:
        block = database[start : start + step]
        query, column = _candidates(block, best, k, fine, coarse)  # best may lack a block: more candidates
        return start, query, column, _scores(queries, block, query, column)

    starts = range(0, len(database), step)
    blocks = map(compared, starts) if coarse is None else _side_by_side(starts, compared)
    for start, query, column, scores in blocks:
        if best.size:
            new = scores > best[query, -1]  # strictly: of equal ones the earlier, which is there, stays
            query, column, scores = query[new], column[new], scores[new]
        if len(query) or not best.size:
            best, ranks = _merged(best, ranks, query, scores, column + start, k)
    return best, ranks


def _side_by_side(
    starts: range, compared: Callable[[int], tuple[int, Ids, Ids, Rows]]
) -> Iterator[tuple[int, Ids, Ids, Rows]]:
    """compared(start) of blocks in order, each with one of a few threads: nothing waits after every step."""
    import torch

    from retrieval.describe.compute import side_by_side

    return side_by_side(starts, compared, min(torch.get_num_threads(), BLOCKS_AT_ONCE))


def check_depth(k: int, num_rows: int) -> None:
    """Raises InvalidDescriptors for a k that is not in 1..num_rows."""
    if not 1 <= k <= num_rows:
        raise InvalidDescriptors(f"k is {k}; the database holds {num_rows}, so k is 1..{num_rows}")


def _candidates(block: Rows, best: Rows, k: int, fine: Screen, coarse: Screen | None) -> tuple[Ids, Ids]:
    """(queries, columns) of the block's rows that may be among the best k of the query."""
    mask = None
    if coarse is not None:
        mask = _near(*coarse(block), best, k)
        allowed = max(COARSE_SHARE * mask.size, 4 * k * len(mask))
    if mask is None or np.count_nonzero(mask) > allowed:
        mask = _near(*fine(block), best, k)
    query, column = np.nonzero(mask)
    return query, column


def _near(scores: Rows, error: Rows, best: Rows, k: int) -> NDArray[np.bool_]:
    if best.size:
        return np.asarray(scores > (best[:, -1] - error)[:, None])
    last = scores.shape[1] - k
    if last < 0:
        return np.ones_like(scores, dtype=np.bool_)
    worst = np.partition(scores, last, axis=1)[:, last]
    return np.asarray(scores >= (worst - 2 * error)[:, None])


def _fine(queries: Rows) -> Screen:
    """Products in the descriptors' own precision."""
    lengths = np.linalg.norm(queries, axis=1)
    unit = queries.shape[1] * 2.0**-22  # this product and the full comparison, each D roundings of 2^-24

    def screen(block: Rows) -> tuple[Rows, Rows]:
        scores = queries @ block.T
        if not np.isfinite(scores).all():
            raise InvalidDescriptors("similarities hold nan or infinite values; check the descriptors")
        longest = np.sqrt(np.vecdot(block, block).max(initial=0.0))
        return scores, (unit * lengths * longest).astype(np.float32)

    return screen


def _coarse(queries: Rows, num_rows: int) -> Screen | None:
    """Products in bfloat16, several times as fast where the processor has them; None elsewhere."""
    few = num_rows < COARSE_FROM or len(queries) < COARSE_QUERIES
    if few or queries.dtype != np.float32 or not np.isfinite(queries).all():
        return None
    import torch

    has = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if has is None or not has():
        return None
    dimension = queries.shape[1]
    asked = torch.from_numpy(np.array(queries)).bfloat16()
    lengths = np.linalg.norm(queries, axis=1)
    # both factors and the sum are rounded to 8 bits; the sum is taken in float32
    unit = 3 * 2.0**-8 + 2.0**-14 + dimension * 2.0**-22
    floor = dimension * 2.0**-125  # products below the normal numbers count as zero there
    step = max(1, COARSE_BYTES // (4 * dimension))
    own = threading.local()

    def screen(block: Rows) -> tuple[Rows, Rows]:
        if not hasattr(own, "converted"):
            own.converted = torch.empty((step, dimension), dtype=torch.bfloat16)
        converted = own.converted
        scores = np.empty((len(queries), len(block)), dtype=np.float32)
        longest = 0.0
        for start in range(0, len(block), step):
            part = block[start : start + step]
            rows, given = converted[: len(part)], _tensor(part)
            rows.copy_(given)
            scores[:, start : start + len(part)] = (asked @ rows.T).float().numpy()
            longest = np.maximum(longest, float(torch.linalg.vector_norm(given, dim=1).max()))
        largest = lengths.astype(np.float64) * longest * (1 + dimension * 2.0**-22)  # its own roundings
        if not (largest < LARGEST).all():
            raise InvalidDescriptors("descriptors or similarities hold nan or infinite values; check them")
        return scores, (unit * largest + floor).astype(np.float32)

    return screen


def _tensor(rows: Rows) -> Tensor:
    """The rows as a tensor that is only read; torch warns of memory maps that cannot be written."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(rows)


def _scores(queries: Rows, block: Rows, query: Ids, column: Ids) -> Rows:
    """Similarity of each (query, column): always summed in the same order, whatever else is compared."""
    found = np.empty(len(query), dtype=np.float32)
    step = max(1, PAIRS_BYTES // (4 * max(1, queries.shape[1])))
    for start in range(0, len(query), step):
        some = slice(start, start + step)
        found[some] = np.vecdot(queries[query[some]], block[column[some]])
    if not np.isfinite(found).all():
        raise InvalidDescriptors("similarities hold nan or infinite values; check the descriptors")
    return found


def _merged(best: Rows, ranks: Ids, query: Ids, scores: Rows, position: Ids, k: int) -> tuple[Rows, Ids]:
    """The best k [Q, k] of those that there are and of newcomers (query, score, position)."""
    num_queries, there = best.shape
    rows = np.concatenate([np.repeat(np.arange(num_queries), there), query])
    values = np.concatenate([best.ravel(), scores])
    positions = np.concatenate([ranks.ravel(), position])
    order = np.lexsort((positions, -values, rows))
    first = np.searchsorted(rows[order], np.arange(num_queries))
    kept = order[first[:, None] + np.arange(k)]
    return values[kept], positions[kept]
