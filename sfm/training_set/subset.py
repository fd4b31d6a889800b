"""A training set without some of its clusters: everything else stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from sfm.training_set.tables import Candidates, Negatives
from sfm.training_set.training_set import TrainingSet
from storage.schemas.table import Ragged
from storage.schemas.training_set import Benchmark, Images, Positives, Queries

Indices = NDArray[np.int64]


def without_clusters(chosen: TrainingSet, clusters: Indices) -> TrainingSet:
    """The training set without the photographs of `clusters` [K], as images, queries, negatives or answers.

    Clusters keep their numbers, the rest its splits and its order.
    """
    keep = ~np.isin(chosen.images.cluster, clusters)
    new = np.where(keep, np.cumsum(keep) - 1, -1)
    asked = keep[chosen.queries.image]
    images = Images(*(getattr(chosen.images, each.name)[keep] for each in fields(Images)))
    queries = Queries(new[chosen.queries.image[asked]], chosen.queries.split[asked])
    positives = Positives(
        _rows(chosen.positives.m1_pool, asked, new),
        _image(chosen.positives.m2[asked], new),
        _rows(chosen.positives.m3, asked, new),
    )
    return replace(
        chosen,
        images=images,
        queries=queries,
        candidates=_candidates(chosen.candidates, asked, new),
        positives=positives,
        negatives=_negatives(chosen.negatives, clusters, asked, new),
        benchmark=_benchmarks(chosen.benchmark, keep, new),
    )


def _image(image: Indices, new: Indices) -> Indices:
    """Images under their new numbers; -1 = none stays."""
    return np.where(image >= 0, new[image], -1)


def _rows(ragged: Ragged, rows: NDArray[np.bool_], new: Indices) -> Ragged:
    """Some rows, without the images that are gone."""
    row = np.repeat(np.arange(len(ragged)), np.diff(ragged.indptr))
    keep = rows[row] & (new[ragged.image] >= 0)
    counts = np.bincount(row[keep], minlength=len(ragged))[rows]
    return Ragged(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), new[ragged.image[keep]])


def _candidates(candidates: Candidates, rows: NDArray[np.bool_], new: Indices) -> Candidates:
    """Candidates are of their query's cluster: they go and stay with it."""
    keep = rows[candidates.query]
    counts = np.diff(candidates.indptr)[rows]
    return Candidates(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        new[candidates.image[keep]],
        candidates.shared_points[keep],
        candidates.overlap[keep],
        candidates.scale_change[keep],
        candidates.center_distance_rank[keep],
    )


def _negatives(negatives: Negatives, clusters: Indices, rows: NDArray[np.bool_], new: Indices) -> Negatives:
    keep = (new[negatives.image] >= 0) & ~np.isin(negatives.cluster, clusters)
    return Negatives(
        new[negatives.image[keep]],
        negatives.cluster[keep],
        negatives.max_inliers[keep],
        negatives.allowed[keep],
        None if negatives.excluded is None else _rows(negatives.excluded, rows, new),
    )


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
