"""A training set without some of its clusters: everything else stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sfm.training_set.tables import Candidates, Negatives
from sfm.training_set.training_set import TrainingSet
from storage.schemas.table import Ragged
from storage.schemas.training_set import Benchmark, Matched

Indices = NDArray[np.int64]


def without_clusters(chosen: TrainingSet, clusters: Indices) -> TrainingSet:
    """The training set without the photographs of `clusters` [K], as images, queries, negatives or answers.

    Clusters keep their numbers, the rest its splits and its order.
    """
    keep = ~np.isin(chosen.images.cluster, clusters)
    new = np.where(keep, np.cumsum(keep) - 1, -1)
    asked = keep[chosen.queries.image]
    queries, positives = chosen.queries.taken(asked), chosen.positives.taken(asked)
    return replace(
        chosen,
        images=chosen.images.taken(keep),
        queries=replace(queries, image=new[queries.image]),
        candidates=_candidates(chosen.candidates, asked, new),
        positives=replace(
            positives,
            m1_pool=_rows(positives.m1_pool, asked, new),
            m2=np.where(positives.m2 >= 0, new[positives.m2], -1),
            m3=_rows(positives.m3, asked, new),
        ),
        negatives=_negatives(chosen.negatives, clusters, asked, new),
        matched=_matched(chosen.matched, new),
        benchmark=_benchmarks(chosen.benchmark, keep, new),
        harder={
            split: details.taken(keep[chosen.benchmark[split].queries])
            for split, details in chosen.harder.items()
        },
    )


def _rows(ragged: Ragged, rows: NDArray[np.bool_], new: Indices) -> Ragged:
    """Some rows, without the images that are gone."""
    row = np.repeat(np.arange(len(ragged)), np.diff(ragged.indptr))
    keep = rows[row] & (new[ragged.image] >= 0)
    counts = np.bincount(row[keep], minlength=len(ragged))[rows]
    return Ragged(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), new[ragged.image[keep]])


def _candidates(candidates: Candidates, rows: NDArray[np.bool_], new: Indices) -> Candidates:
    """Candidates are of their query's cluster: they go and stay with it."""
    counts = np.diff(candidates.indptr)[rows]
    kept = candidates.taken(rows[candidates.query])
    return replace(kept, indptr=np.cumsum([0, *counts], dtype=np.int64), image=new[kept.image])


def _negatives(negatives: Negatives, clusters: Indices, rows: NDArray[np.bool_], new: Indices) -> Negatives:
    keep = (new[negatives.image] >= 0) & ~np.isin(negatives.cluster, clusters)
    kept = negatives.taken(keep)
    excluded = None if kept.excluded is None else _rows(kept.excluded, rows, new)
    return replace(kept, image=new[kept.image], excluded=excluded)


def _matched(matched: Matched | None, new: Indices) -> Matched | None:
    if matched is None:
        return None
    kept = matched.taken((new[matched.first] >= 0) & (new[matched.second] >= 0))
    return replace(kept, first=new[kept.first], second=new[kept.second])


def _benchmarks(
    benchmarks: Mapping[str, Benchmark], keep: NDArray[np.bool_], new: Indices
) -> dict[str, Benchmark]:
    found = {}
    for split, labels in benchmarks.items():
        asked = keep[labels.queries]
        found[split] = Benchmark(
            new[labels.queries[asked]],
            new[labels.database[keep[labels.database]]],
            *(_rows(part, asked, new) for part in (labels.easy, labels.hard, labels.junk)),
        )
    return found
