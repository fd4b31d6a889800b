"""One configuration on one official benchmark: descriptors or ranks in, `benchmark.h5` out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from retrieval.describe.options import STAGE as EXTRACTION
from retrieval.describe.rows import CACHED_BYTES, ROWS_PER_BLOCK, Files, descriptor_rows, row_blocks
from retrieval.nearest.expansion import alpha_query_expansion
from retrieval.official.options import BenchmarkOptions
from retrieval.official.rank_files import read_ranks
from retrieval.official.ranking import Blocks, Rows, listed_in, rank_database, rows_at
from retrieval.official.readers.common import Benchmark, Ids, Ranking, Score
from retrieval.official.reranking import rerank_database
from retrieval.whitening.whitening import Whitening
from storage.hdf5.file import write
from storage.keys.stages import Stage

logger = logging.getLogger(__name__)
PUBLISHED_LW = "retrieval-SfM-120k"

STAGE = Stage(
    name="benchmark",
    schema_name="benchmark",
    suffix=".h5",
    packages=(*EXTRACTION.packages, "scipy", "h5py", "pandas"),
    code=__name__,
)


@dataclass(frozen=True, eq=False)
class DescribedBenchmark:
    """Descriptors of a benchmark's images, as a network gives them.

    queries: [Q * query_frames, D]; blocks: of the database and then the distractors, whole entries in each;
    distractors: names of those, in their order.
    """

    queries: Rows
    blocks: Blocks
    distractors: Sequence[str] = ()

    @classmethod
    def of(cls, files: Files, listing: Mapping[str, list[str]], frames: int) -> DescribedBenchmark:
        """From files and a listing: items of queries and database, items and names of distractors."""
        database = [*listing["database"], *listing.get("items", [])]
        step = ROWS_PER_BLOCK - ROWS_PER_BLOCK % frames  # whole sequences
        blocks = row_blocks(files, database, step, cached_bytes=CACHED_BYTES)
        return cls(descriptor_rows(files, listing["queries"]), blocks, listing.get("names", []))


def score_descriptors(
    benchmark: Benchmark,
    described: DescribedBenchmark,
    options: BenchmarkOptions,
    *,
    out: Path,
    inputs: Sequence[str] = (),
    attributes: Mapping[str, Any] | None = None,
) -> Score:
    """Whiten, expand, rank, re-rank, score; writes `out` in the layout `benchmark`.

    attributes: facts for the file's root, such as the network's name. Memory: see `rank_database`,
    `rerank_database`.
    Raises InvalidDescriptors, ValueError.
    """
    started = perf_counter()
    transform = read_whitening(options)

    def entries(rows: Rows, frames: int) -> Rows:
        return sequence_mean(rows if transform is None else transform.apply(rows, options.dimensions), frames)

    def blocks() -> Iterator[Rows]:
        return (entries(rows, benchmark.database_frames) for rows in described.blocks())

    queries = entries(described.queries, benchmark.query_frames)
    total = len(benchmark.database_names) + len(described.distractors)
    if options.expansion_neighbours:
        queries = expanded(queries, blocks, total, benchmark.own, options)
    depth = min(max(options.depth, benchmark.depth), total)
    if options.reranking is None:
        ranking = rank_database(queries, blocks, depth, benchmark.labelled if benchmark.whole else None)
    else:
        ranking = rerank_database(queries, blocks, depth, benchmark, options.reranking, beside=out)
    found = benchmark.score(ranking)
    if benchmark.labels is not None and options.protocol.probe_epochs:
        add_probe(found, benchmark.labels, queries, blocks, options.protocol.probe_epochs)
    _write(out, benchmark, ranking, found, options, described.distractors, inputs, attributes)
    logger.info(
        "%s: %d queries, %d images, %.1f s",
        benchmark.name, len(benchmark.query_names), total, perf_counter() - started,
    )  # fmt: skip
    return found


def score_ranks(
    benchmark: Benchmark,
    options: BenchmarkOptions,
    *,
    out: Path,
    inputs: Sequence[str] = (),
    attributes: Mapping[str, Any] | None = None,
) -> Score:
    """Score the file `options.ranks`; the rest as `score_descriptors`. Raises InvalidRankLists."""
    assert options.ranks is not None
    ranks = read_ranks(options.ranks, benchmark)
    listed = listed_in(ranks, benchmark.labelled) if benchmark.whole else ()
    ranking = Ranking(ranks, None, listed)
    found = benchmark.score(ranking)
    _write(out, benchmark, ranking, found, options, (), inputs, attributes)
    return found


def read_whitening(options: BenchmarkOptions) -> Whitening | None:
    """The whitening of the options; of a published .pth the one for its number of scales.

    Raises ValueError where the file holds none.
    """
    path = options.whitening
    if path is None:
        return None
    if path.suffix != ".pth":
        return Whitening.load(path)
    from retrieval.networks.files import published_whitenings

    kind = "ms" if len(options.description.scales) > 1 else "ss"
    learnt = published_whitenings(path)
    name = PUBLISHED_LW if PUBLISHED_LW in learnt else next(iter(sorted(learnt)), "")
    if kind not in learnt.get(name, {}):
        raise ValueError(f"'{path}' holds no learnt whitening ({kind}); give a whitening.h5")
    return Whitening(*learnt[name][kind])


def sequence_mean(rows: Rows, frames: int) -> Rows:
    """[N * frames, D] -> [N, D]: mean over the frames of each sequence, unit length."""
    if frames == 1:
        return rows
    mean = rows.reshape(-1, frames, rows.shape[1]).mean(axis=1)
    return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)


def expanded(queries: Rows, blocks: Blocks, total: int, own: Ids | None, options: BenchmarkOptions) -> Rows:
    """Alpha query expansion over a database in blocks; a query's own image never expands it."""
    available = total - (own is not None)
    k = min(options.expansion_neighbours, available)
    near = rank_database(queries, blocks, min(k + 1, total)).ranks
    wanted = np.unique(near if own is None else np.concatenate([near.ravel(), own[own >= 0]]))
    rows = np.concatenate(list(rows_at(blocks, wanted)))
    leave_out = None if own is None else np.where(own >= 0, np.searchsorted(wanted, own), -1)
    return alpha_query_expansion(queries, rows, k, options.expansion_alpha, leave_out=leave_out)


def add_probe(found: Score, labels: tuple[Ids, Ids], queries: Rows, blocks: Blocks, epochs: int) -> None:
    """A linear probe's rows. labels: classes of the database and of the queries."""
    from retrieval.official.linear_probe import linear_probe

    train, wanted = labels
    best = linear_probe(blocks, train, queries, epochs=epochs, num_classes=int(train.max()) + 1)
    right = best == wanted[:, None]
    values = {f"top-{k}": float(right[:, :k].any(axis=1).mean()) for k in (1, 5)}
    first = {"top-1 linear probe": right[:, 0].astype(np.float64)}
    found.add(f"linear probe, {epochs} epochs", values, len(wanted), first)


def _write(
    out: Path,
    benchmark: Benchmark,
    ranking: Ranking,
    found: Score,
    options: BenchmarkOptions,
    distractors: Sequence[str],
    inputs: Sequence[str],
    attributes: Mapping[str, Any] | None,
) -> None:
    ranks = np.ascontiguousarray(ranking.ranks[:, : options.depth], dtype=np.int64)
    beyond = np.unique(ranks[ranks >= len(benchmark.database_names)])
    names = [
        distractors[i - len(benchmark.database_names)] if distractors else f"distractor {i}"
        for i in beyond.tolist()
    ]
    arrays: dict[str, Any] = {
        "rows/protocol": [row.protocol for row in found.rows],
        "rows/metric": [row.metric for row in found.rows],
        "rows/value": np.minimum(np.array([row.value for row in found.rows], dtype=np.float64), 1.0),
        "rows/num_queries": np.array([row.num_queries for row in found.rows], dtype=np.int64),
        "queries/name": list(benchmark.query_names),
        "database/name": list(benchmark.database_names),
        "distractors/position": beyond,
        "distractors/name": names,
        "ranks": ranks,
    }
    if ranking.scores is not None:
        arrays["scores"] = ranking.scores[:, : options.depth]
    for name, values in found.per_query.items():
        arrays[f"per_query/{name}"] = np.minimum(np.asarray(values, dtype=np.float64), 1.0)
    facts = {
        "benchmark": benchmark.name,
        "distractors": len(distractors),
        "notes": "; ".join(benchmark.notes),
        "measures": list(found.per_query),
        **(attributes or {}),
    }
    settings = options.model_dump(mode="json")
    write(out, "benchmark", arrays, stage=STAGE.name, options=settings, inputs=inputs, attributes=facts)
