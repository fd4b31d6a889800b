"""Harder queries among all photographs: six images by hand, and no difference where nothing is added."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from retrieval.benchmarks.geometry import GeometryBenchmark, geometry_map
from retrieval.benchmarks.harder import AmongAll
from retrieval.benchmarks.verdicts import EXCLUDED

QUERY, EASY, HARD, OTHER_OF_VAL, OF_TRAIN, ALONE = range(6)


def world(**changes: Any) -> dict[str, Any]:
    """Cluster 0: query, easy and hard image (val); cluster 1: images 3 and 6 (val); cluster 2: images 4 and 7
    (train); image 5 alone, with an allowed verdict. The last two are only there so that no cluster is of one.
    """
    labels = {"easy": [EASY], "hard": [HARD], "junk": [QUERY]}
    return {
        "images/cluster": np.array([0, 0, 0, 1, 2, 3, 1, 2]),
        "negatives/image": np.array([ALONE]),
        "negatives/cluster": np.array([0]),
        "negatives/allowed": np.array([True]),
        "benchmark/val/queries": np.array([QUERY]),
        "benchmark/val/database": np.array([0, 1, 2, 3, 5, 6]),
        **{f"benchmark/val/{name}/image": np.array(row) for name, row in labels.items()},
        **{f"benchmark/val/{name}/indptr": np.array([0, 1]) for name in labels},
        **changes,
    }


def ap(arrays: dict[str, Any], first: int) -> float:
    """Medium AP of the order: one image, the easy one, the hard one, the rest."""
    closeness = np.linspace(0.4, 0.1, 8)
    closeness[[first, EASY, HARD]] = 0.95, 0.9, 0.8
    closeness[QUERY] = 1.0
    database = np.stack([closeness, np.sqrt(1 - closeness**2)], axis=1).astype(np.float32)
    (found,) = among_all(arrays).precisions(np.array([[1, 0]], np.float32), database)
    return float(found)


def among_all(arrays: dict[str, Any]) -> AmongAll:
    return AmongAll.of(arrays, GeometryBenchmark.from_arrays(arrays, "val"))


# a wrong image first: precision 0 then 1/2, 1/2 then 2/3, each over half the recall
ONE_WRONG = ((0 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2) / 2


@pytest.mark.parametrize("image", [OTHER_OF_VAL, OF_TRAIN, ALONE])
def test_a_photograph_of_any_split_is_wrong(image: int) -> None:
    assert ap(world(), image) == pytest.approx(ONE_WRONG)


def test_photographs_of_test_can_be_left_out() -> None:
    """Image 4 and 7 are of test; those behind them keep their labels."""
    arrays = world(**{"images/split": np.array([1, 1, 1, 1, 2, 0, 1, 2])})
    benchmark = GeometryBenchmark.from_arrays(arrays, "val")
    among = AmongAll.of(arrays, benchmark, without_test=True)
    assert among.images.tolist() == [0, 1, 2, 3, 5, 6]
    rows = np.array([[1, 0], [0.9, 0.4], [0.8, 0.6], [0, 1], [0, 1], [0.95, 0.3], [0, 1], [0, 1]], np.float32)
    np.testing.assert_allclose(among.precisions(rows[:1], rows[among.images]), [ONE_WRONG])


def test_what_no_verdict_allows_is_junk() -> None:
    refused = {
        "negatives/image": np.array([OTHER_OF_VAL, 6]),
        "negatives/cluster": np.array([0, 0]),
        "negatives/allowed": np.array([False, False]),
    }
    assert ap(world(**refused), OTHER_OF_VAL) == pytest.approx(1)
    assert ap(world(**refused), ALONE) == pytest.approx(1)  # nobody looked at it
    assert ap(world(**refused), OF_TRAIN) == pytest.approx(ONE_WRONG)


def test_a_verdict_concerns_its_cluster() -> None:
    of_another = {"negatives/cluster": np.array([1])}
    assert ap(world(**of_another), ALONE) == pytest.approx(1)


def test_the_rest_of_the_cluster_is_junk() -> None:
    clusters = np.array([0, 0, 0, 1, 0, 3, 1, 0])
    assert ap(world(**{"images/cluster": clusters}), OF_TRAIN) == pytest.approx(1)


def test_among_its_own_split_it_is_the_standing_benchmark() -> None:
    """No other split, no photograph alone, nothing refused: unaltered queries have their standing AP."""
    generator = np.random.default_rng(3)
    arrays = world(**{"images/cluster": np.array([0, 0, 0, 1, 1, 2, 1, 2])})
    arrays |= {"benchmark/val/database": np.arange(8), EXCLUDED: np.array([0])}
    for _ in range(20):
        rows = generator.normal(size=(8, 4)).astype(np.float32)
        found = among_all(arrays).precisions(rows[:1], rows)
        np.testing.assert_allclose(found, geometry_map(rows, arrays, "val").medium.average_precisions)
