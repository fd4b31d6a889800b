"""Whitenings judged by clusters that had no part in them, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from retrieval.benchmarks.geometry import GeometryBenchmark, folds
from retrieval.benchmarks.harder import AmongAll
from retrieval.benchmarks.train import of_train
from retrieval.whitening.crossed import crossed
from retrieval.whitening.whitening import LwOptions, learn_pca_whitening, learn_whitening, training_pairs
from tests.retrieval.whitening.test_whitening import split_collection

OPTIONS = LwOptions(shrinkage_grid=(0.1, 1.0))


def collection() -> tuple[dict[str, Any], np.ndarray]:
    """12 clusters of train, 6 of val, 6 of test; the mates of every query are its candidates, all easy."""
    arrays, rows = split_collection(np.random.default_rng(8))
    mates = np.asarray(arrays["positives/m3/image"])
    candidates = {
        "indptr": arrays["positives/m3/indptr"],
        "image": mates,
        "shared_points": np.full(mates.size, 20),
        "overlap": np.full(mates.size, 0.5, np.float32),
        "scale_change": np.ones(mates.size, np.float32),
        "center_distance_rank": np.zeros(mates.size, np.int64),
    }
    return {**arrays, **{f"candidates/{name}": values for name, values in candidates.items()}}, rows


def test_a_cluster_is_judged_by_whitenings_of_the_others() -> None:
    arrays, rows = collection()
    found = crossed(arrays, rows, OPTIONS)
    assert found is not None and found.lw.shape == (2, 18)
    cluster, split = np.asarray(arrays["images/cluster"]), np.asarray(arrays["images/split"])
    np.testing.assert_array_equal(found.clusters, np.unique(cluster[split != 2]))
    pairs, fold = training_pairs(arrays, "m2+m3"), folds(found.clusters)
    benchmarks = of_train(arrays), GeometryBenchmark.from_arrays(arrays, "val")
    for place, query in enumerate(np.arange(0, 18 * 4, 4)):
        left_out = found.clusters[fold == fold[place]]
        others = pairs[~np.isin(cluster[pairs[:, 0]], left_out)]
        rest = np.flatnonzero((split == 0) & ~np.isin(cluster, left_out))
        assert len(others) < len(pairs) and found.clusters[place] in left_out
        position = np.full(len(rows), -1)
        position[rest] = np.arange(rest.size)
        lw = learn_whitening(rows[rest], position[others[:, 0]], position[others[:, 1]], shrinkage=1.0)
        among = AmongAll.of(arrays, benchmarks[int(split[query])], without_test=True)
        own = among.standing.queries.tolist().index(query)
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
    empty: dict[str, Any] = {
        f"benchmark/val/{label}/{part}": np.zeros(1 if part == "indptr" else 0, np.int64)
        for label in ("easy", "hard", "junk")
        for part in ("indptr", "image")
    }
    empty |= {f"benchmark/val/{name}": np.empty(0, np.int64) for name in ("queries", "database")}
    alone = {**arrays, **empty, "images/split": split, "queries/split": split[::4]}
    assert crossed(alone, rows, OPTIONS) is None
