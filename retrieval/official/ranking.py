"""Ranking a database that comes in blocks: the best of each query, and where its labelled images stand.

Nothing of the size queries x database is ever held: a database of a million passes through in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retrieval.benchmarks.lookup import places_up_to
from retrieval.nearest.topk import SCORES_PER_BLOCK, InvalidDescriptors, top_k
from retrieval.official.readers.common import Ids, Ranking

Rows = NDArray[np.float32]
Blocks = Callable[[], Iterable[Rows]]
"""Gives the rows of the database, from the first to the last, in blocks that are the same every time."""


class InvalidRankLists(ValueError):
    """Somebody's ranks that do not fit the benchmark."""


def rank_database(
    queries: Rows, blocks: Blocks, depth: int, labelled: Sequence[Ids] | None = None
) -> Ranking:
    """The best `depth` rows of each query, and the places of its labelled rows in the whole list.

    queries: [Q, D]; blocks: rows [n, D] of the database; labelled: [Q] ids, None = no places wanted. Larger
    inner product = nearer, ties go to the lower position, exactly as one sort of everything would have it.
    Peak memory: two blocks, SCORES_PER_BLOCK scores a few times, the best 2 depth per query. Raises
    InvalidDescriptors.
    """
    counting = _Places(queries, blocks, labelled) if labelled is not None else None
    best = _Best(len(queries), depth)
    for start, scores in _scored(queries, blocks):
        best.add(scores, start)
        if counting is not None:
            counting.add(scores, start)
    if best.ranks.shape[1] == 0:
        raise InvalidDescriptors("the database has no images; nothing to rank")
    return Ranking(best.ranks, best.scores, counting.listed() if counting else ())


def listed_in(ranks: ArrayLike, labelled: Sequence[Ids]) -> list[tuple[Ids, Ids]]:
    """Where labelled ids stand in given lists [Q, K]: per query (positions ascending, ids there).

    One table is looked up along a list: no search, no sort. Ids above every labelled one are passed over.
    """
    listed = np.asarray(ranks)
    table = np.zeros(max((int(ids[-1]) for ids in labelled if ids.size), default=-1) + 2, dtype=bool)
    found = []
    for (places, images), ids in zip(places_up_to(listed, len(table) - 2), labelled, strict=True):
        table[ids] = True
        wanted = table[images]  # -1 pads look at the table's last slot, which stays False
        found.append((places[wanted].astype(np.int64), images[wanted].astype(np.int64)))
        table[ids] = False
    return found


def rows_at(blocks: Blocks, positions: Ids) -> Iterator[Rows]:
    """The rows of a database at ascending positions, a piece from each block."""
    start = 0
    for block in blocks():
        inside = positions[(positions >= start) & (positions < start + len(block))]
        yield block[inside - start]
        start += len(block)


def checked_ranks(ranks: ArrayLike, num_queries: int, num_database: int | None) -> Ids:
    """Integers [Q, K] within the database (None = of any size), -1 pads. Raises InvalidRankLists."""
    listed = np.asanyarray(ranks)
    if listed.ndim != 2 or listed.dtype.kind not in "iu":
        raise InvalidRankLists(
            f"ranks are {listed.dtype} {listed.shape}; expected integers [queries, depth], best first"
        )
    if len(listed) != num_queries:
        transposed = listed.shape[1] == num_queries
        raise InvalidRankLists(
            f"ranks hold {len(listed)} rows for {num_queries} queries; one row is one query"
            + (" (transpose the official column layout)" if transposed else "")
        )
    low = int(listed.min()) if listed.size else 0
    high = int(listed.max()) if listed.size else -1
    if low < -1 or (num_database is not None and high >= num_database):
        last = "" if num_database is None else num_database - 1
        raise InvalidRankLists(f"ranks hold {low if low < -1 else high}; positions are 0..{last}, -1 pads")
    return listed


def _scored(queries: Rows, blocks: Blocks, end: int | None = None) -> Iterator[tuple[int, Rows]]:
    """(position of the first row, similarities [Q, n]) of one part of the database after the other."""
    step, start = max(1, SCORES_PER_BLOCK // max(1, len(queries))), 0
    for block in blocks():
        if block.ndim != 2 or block.shape[1] != queries.shape[1]:
            raise InvalidDescriptors(
                f"queries {queries.shape} and database {block.shape} differ in dimension; describe both alike"
            )
        for first in range(0, len(block), step):
            scores = queries @ block[first : first + step].T
            if not np.isfinite(scores).all():
                raise InvalidDescriptors(
                    "similarities hold nan or infinite values; check the network's output"
                )
            yield start + first, scores
        start += len(block)
        if end is not None and start >= end:
            return


class _Best:
    """The best rows so far: ranks, scores [Q, <= depth], best first, ties by lower position."""

    def __init__(self, num_queries: int, depth: int) -> None:
        self.ranks = np.empty((num_queries, 0), dtype=np.int64)
        self.scores = np.empty((num_queries, 0), dtype=np.float32)
        self._depth = depth

    def add(self, scores: Rows, start: int) -> None:
        if not len(scores):
            return
        values, columns = top_k(scores, min(self._depth, scores.shape[1]))
        merged = np.concatenate([self.scores, values], axis=1)
        ids = np.concatenate([self.ranks, columns + start], axis=1)
        order = np.argsort(-merged, axis=1, kind="stable")[:, : self._depth]
        self.scores, self.ranks = (np.take_along_axis(each, order, axis=1) for each in (merged, ids))


class _Places:
    """Counts, for each labelled row, the rows of the database that stand before it."""

    def __init__(self, queries: Rows, blocks: Blocks, labelled: Sequence[Ids]) -> None:
        end = max((int(ids.max()) + 1 for ids in labelled if ids.size), default=0)
        self._ids = [np.unique(ids) for ids in labelled]
        self._values = [np.empty(len(ids), dtype=np.float32) for ids in self._ids]
        # the same products as in the counting pass, so that a row is never before itself by rounding
        for start, scores in _scored(queries, blocks, end) if end else ():
            for q, ids in enumerate(self._ids):
                inside = slice(*np.searchsorted(ids, (start, start + scores.shape[1])))
                self._values[q][inside] = scores[q, ids[inside] - start]
        for q, (ids, values) in enumerate(zip(self._ids, self._values, strict=True)):
            order = np.lexsort((-ids, values))  # the worst first; of equal ones the higher position
            self._ids[q], self._values[q] = ids[order], values[order]
        self._before = [np.zeros(len(ids) + 1, dtype=np.int64) for ids in self._ids]

    def add(self, scores: Rows, start: int) -> None:
        for row, ids, values, before in zip(scores, self._ids, self._values, self._before, strict=True):
            if not len(ids):
                continue
            columns = np.flatnonzero(row >= values[0])
            near = row[columns]
            passed = np.searchsorted(values, near, side="left")
            before += np.bincount(passed, minlength=len(before))
            equal = passed < len(values)
            equal[equal] = values[passed[equal]] == near[equal]
            for column, first in zip(columns[equal], passed[equal], strict=True):
                last = np.searchsorted(values, row[column], side="right")
                higher = int(
                    (ids[first:last] > start + column).sum()
                )  # those come first in the run of equals
                before[first] -= 1
                before[first + higher] += 1

    def listed(self) -> list[tuple[Ids, Ids]]:
        """Per query (positions ascending, ids)."""
        found = []
        for ids, before in zip(self._ids, self._before, strict=True):
            positions = before[::-1].cumsum()[::-1][1:]  # rows that passed more labelled ones than this
            found.append((positions[::-1].copy(), ids[::-1].copy()))
        return found
