"""Ranking a database that comes in blocks, the first images of each list in another order."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from retrieval.nearest.expansion import Reranking, reranked
from retrieval.official.ranking import Blocks, Rows, listed_in, rank_database, rows_at
from retrieval.official.readers.common import Benchmark, Ids, Ranking
from storage.files.scratch import scratch_rows


def rerank_database(
    queries: Rows, blocks: Blocks, depth: int, benchmark: Benchmark, options: Reranking, *, beside: Path
) -> Ranking:
    """`rank_database`, then a new order of the first `options.top` of each list, see `reranked`.

    A query's own image takes no part; labelled images move with their lists. One more pass over the blocks;
    the rows that any list names lie meanwhile in a temporary file beside that path, so that memory is that of
    `rank_database` and of one list. Raises InvalidDescriptors, OSError.
    """
    deeper = max(depth, options.top + 1)  # one may be the query's own
    found = rank_database(queries, blocks, deeper, benchmark.labelled if benchmark.whole else None)
    assert found.scores is not None
    wanted, places = np.unique(found.ranks, return_inverse=True)
    own = None
    if benchmark.own is not None:
        own = np.where(np.isin(benchmark.own, wanted), np.searchsorted(wanted, benchmark.own), -1)
    with tempfile.TemporaryDirectory(dir=beside.parent, prefix=f"{beside.name}-rows-") as folder:
        rows, start = scratch_rows(Path(folder) / "rows", (len(wanted), queries.shape[1])), 0
        for part in rows_at(blocks, wanted):
            rows[start : start + len(part)] = part
            start += len(part)
        places = places.reshape(found.ranks.shape)
        scores, places = reranked(queries, rows, places, found.scores, leave_out=own, **dict(options))
    ranks = wanted[places]
    listed = _moved(ranks, found, benchmark) if benchmark.whole else ()
    return Ranking(ranks[:, :depth], scores[:, :depth], listed)


def _moved(ranks: Ids, before: Ranking, benchmark: Benchmark) -> list[tuple[Ids, Ids]]:
    """Where the labelled images stand: by the new lists, below these as before."""
    moved = []
    for (near, first), (places, ids) in zip(listed_in(ranks, benchmark.labelled), before.listed, strict=True):
        below = places >= ranks.shape[1]
        moved.append((np.concatenate([near, places[below]]), np.concatenate([first, ids[below]])))
    return moved
