"""Clusters of matched photographs as labels, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.benchmarks.clusters import QUERIES_PER_CLUSTER, of_clusters
from retrieval.benchmarks.geometry import InvalidBenchmark, score
from retrieval.benchmarks.landmarks import EASY, JUNK

ARRAYS = {
    "images/cluster": np.array([4, 0, 4, 1, 0, 2, 4, 3, 3, 3]),
    "images/split": np.array([1, 1, 1, 0, 1, 1, 1, 0, 0, 0]),
    "matched/first": np.array([0]),
}


def test_a_photograph_asks_for_the_rest_of_its_cluster() -> None:
    found = of_clusters(ARRAYS, 1)
    assert found.queries.tolist() == [0, 2, 6]  # image 5 is alone, 1 and 4 are two
    assert found.clusters.tolist() == [4, 4, 4]
    assert found.database.tolist() == [0, 1, 2, 4, 5, 6]
    labels = [slice(*found.indptr[row : row + 2]) for row in range(3)]
    answers = [found.positions[each][found.roles[each] == EASY].tolist() for each in labels]
    assert answers == [[2, 5], [0, 5], [0, 2]]
    assert all(found.positions[each][found.roles[each] == JUNK].size == 1 for each in labels)  # itself
    assert of_clusters(ARRAYS, 0).queries.tolist() == [7, 8, 9] and of_clusters(ARRAYS, 2).queries.size == 0


def test_its_ap_is_that_of_the_cluster() -> None:
    angle = np.array([0.0, 0.5, 0.1, 9, 2.0, 0.2, 0.3, 9, 9, 9])
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    found = of_clusters(ARRAYS, 1)
    precisions = score(found, rows[found.queries], rows[found.database]).medium.average_precisions
    # of image 0: 2, 5 (wrong), 6: precisions 1 and 1 (recall 1/2), then 1/2 and 2/3
    assert precisions[0] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)


def test_queries_of_a_large_cluster_are_spread() -> None:
    many = 100
    arrays = {"images/cluster": np.zeros(many, int), "images/split": np.ones(many), "matched/first": []}
    found = of_clusters(arrays, 1)
    assert len(found.queries) == QUERIES_PER_CLUSTER and np.diff(found.queries).max() <= 4
    assert found.queries[[0, -1]].tolist() == [0, 99] and (found.num_easy == 99).all()


def test_a_list_has_no_such_clusters() -> None:
    listed = {name: array for name, array in ARRAYS.items() if name != "matched/first"}
    with pytest.raises(InvalidBenchmark, match="val_queries=models"):
        of_clusters(listed, 1)
