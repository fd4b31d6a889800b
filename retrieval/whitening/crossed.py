"""Whitenings of a network that learnt nothing yet, judged by clusters that had no part in them.

Train and val are cut into folds of whole clusters; the queries of a fold are searched among all photographs
of train and val by whitenings that are learnt from the other folds' photographs of train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.clusters import has_clusters, of_clusters
from retrieval.benchmarks.geometry import folds
from retrieval.benchmarks.harder import AmongAll
from retrieval.whitening.moments import pair_statistics
from retrieval.whitening.whitening import (
    LwOptions,
    Whitening,
    learn_pca_whitening,
    training_pairs,
    unrotated,
)

Precisions = NDArray[np.float64]
TRAIN_AND_VAL = (0, 1)


@dataclass(frozen=True, eq=False)
class Crossed:
    """Medium AP of the queries of train and val that have a positive, raw [W], by PCAw [W] and by Lw [G, W],
    the largest ridge first; clusters [W]."""

    clusters: NDArray[np.int64]
    raw: Precisions
    pcaw: Precisions
    lw: Precisions


def crossed(
    arrays: Mapping[str, Any], descriptors: NDArray[np.float32], options: LwOptions
) -> Crossed | None:
    """arrays: of training_set.h5 by path; descriptors: [N, D], row i belongs to image i.

    None without clusters of matched photographs, or where train has no pairs outside some fold. Test is never
    read.
    """
    if not has_clusters(arrays):
        return None
    judges = [AmongAll.of(arrays, of_clusters(arrays, split), without_test=True) for split in TRAIN_AND_VAL]
    images, of_image = judges[0].images, np.asarray(arrays["images/cluster"])
    clusters = np.concatenate([each.standing.clusters for each in judges])
    pairs, train = training_pairs(arrays, options.positives), np.flatnonzero(arrays["images/split"] == 0)

    def asked(transform: Whitening | None, of: NDArray[np.int64]) -> Precisions:
        rows = descriptors[images] if transform is None else transform.apply(descriptors[images])
        found = []
        for each in judges:
            queries = rows[np.searchsorted(images, each.standing.queries)]
            found.append(each.only(of).precisions(queries, rows))
        return np.concatenate(found)

    raw = asked(None, clusters)
    known = np.isfinite(raw)
    if not known.any():
        return None
    fold = np.full(clusters.size, -1)
    fold[known] = folds(clusters[known])
    ridges = sorted(set(options.shrinkage_grid), reverse=True)
    pcaw, lw = np.full(clusters.size, np.nan), np.full((len(ridges), clusters.size), np.nan)
    for each in np.unique(fold[known]).tolist():
        mine = fold == each
        left_out = np.unique(clusters[mine])
        others = pairs[~np.isin(of_image[pairs[:, 0]], left_out)]
        rest = train[~np.isin(of_image[train], left_out)]
        if not len(others):
            return None
        pcaw[mine] = asked(learn_pca_whitening(descriptors[rest]), left_out)[mine]
        statistics = pair_statistics(descriptors, others[:, 0], others[:, 1], rest)
        for place, ridge in enumerate(ridges):
            lw[place, mine] = asked(unrotated(statistics, ridge), left_out)[mine]
    return Crossed(clusters[known], raw[known], pcaw[known], lw[:, known])
