"""Whitenings judged by clusters that had no part in them, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from retrieval.benchmarks.clusters import of_clusters
from retrieval.benchmarks.geometry import folds
from retrieval.benchmarks.harder import AmongAll
from retrieval.whitening.crossed import crossed
from retrieval.whitening.whitening import LwOptions, learn_pca_whitening, learn_whitening, training_pairs
from tests.retrieval.whitening.test_whitening import split_collection

OPTIONS = LwOptions(shrinkage_grid=(0.1, 1.0))


def collection() -> tuple[dict[str, Any], np.ndarray]:
    """12 clusters of train, 6 of val, 6 of test, of four photographs that matching verified."""
    arrays, rows = split_collection(np.random.default_rng(8))
    none = np.empty(0, np.int64)
    return {**arrays, "matched/first": none, "matched/second": none, "matched/inliers": none}, rows


def test_a_cluster_is_judged_by_whitenings_of_the_others() -> None:
    arrays, rows = collection()
    found = crossed(arrays, rows, OPTIONS)
    assert found is not None and found.lw.shape == (2, 72)
    cluster, split = np.asarray(arrays["images/cluster"]), np.asarray(arrays["images/split"])
    np.testing.assert_array_equal(found.clusters, cluster[split != 2])
    pairs, fold = training_pairs(arrays, "m2+m3"), folds(found.clusters)
    benchmarks = of_clusters(arrays, 0), of_clusters(arrays, 1)
    for place in range(0, 72, 5):  # queries are images 0 to 71
        left_out = found.clusters[fold == fold[place]]
        others = pairs[~np.isin(cluster[pairs[:, 0]], left_out)]
        rest = np.flatnonzero((split == 0) & ~np.isin(cluster, left_out))
        assert len(others) < len(pairs) and found.clusters[place] in left_out
        position = np.full(len(rows), -1)
        position[rest] = np.arange(rest.size)
        lw = learn_whitening(rows[rest], position[others[:, 0]], position[others[:, 1]], shrinkage=1.0)
        among = AmongAll.of(arrays, benchmarks[int(split[place])], without_test=True)
        own = among.standing.queries.tolist().index(place)
        for got, transform in ((found.lw[0], lw), (found.pcaw, learn_pca_whitening(rows[rest]))):
            described = transform.apply(rows)
            wanted = among.precisions(described[among.standing.queries], described[among.images])
            assert abs(got[place] - wanted[own]) < 1e-9
    assert found.raw.std() > 0 and (found.lw[0] != found.lw[1]).any()


def test_test_is_never_read() -> None:
    arrays, rows = collection()
    before = crossed(arrays, rows, OPTIONS)
    rows[np.asarray(arrays["images/split"]) == 2] = np.nan
    after = crossed(arrays, rows, OPTIONS)
    assert before is not None and after is not None
    np.testing.assert_array_equal(before.lw, after.lw)
    np.testing.assert_array_equal(before.pcaw, after.pcaw)


def test_one_cluster_of_train_leaves_no_pairs_to_learn_from() -> None:
    arrays, rows = collection()
    split = np.where(np.asarray(arrays["images/cluster"]) == 0, 0, 2).astype(np.int8)
    alone = {**arrays, "images/split": split, "queries/split": split[::4]}
    assert crossed(alone, rows, OPTIONS) is None


def test_without_what_matching_verified_clusters_are_no_judges() -> None:
    arrays, rows = split_collection(np.random.default_rng(8))
    assert crossed(arrays, rows, OPTIONS) is None
