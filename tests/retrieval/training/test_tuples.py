"""Positives, pools and what may never be a negative."""

from typing import Any

import numpy as np
import pytest

from retrieval.benchmarks.verdicts import forbidden_positions, needs_verdict
from retrieval.describe.describe import DescriptorTable
from retrieval.learning.mining import TooFewClusters, hard_negatives
from retrieval.training.epoch_tuples import draw_epoch, draw_validation, mine, plan_of
from retrieval.training.options import TrainingOptions
from retrieval.training.positives import (
    draw_positives,
    nearest_positives,
    positive_choices,
    usable_queries,
)
from retrieval.training.tuples import (
    NegativePlan,
    Supply,
    draw,
    forbidden,
    negative_pool,
    negative_supply,
    plan_negatives,
)


def world() -> dict[str, Any]:
    """Clusters: 0 = images 0-2, 1 = 3-4, 2 = 5-6 (all train); singletons 7, 8, 9 (train); 3 = 10-11 (val).

    7 may serve clusters 0 and 1, 8 nobody, 9 was never looked at.
    """
    return {
        "images/cluster": np.array([0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 6]),
        "images/split": np.array([0] * 10 + [1, 1], dtype=np.int8),
        "queries/image": np.array([0, 1, 3, 5, 10]),
        "queries/split": np.array([0, 0, 0, 0, 1], dtype=np.int8),
        "positives/m2": np.array([1, -1, 4, 6, 11]),
        "positives/m1_pool/indptr": np.array([0, 2, 4, 5, 6, 7]),
        "positives/m1_pool/image": np.array([1, 2, 0, 2, 4, 6, 11]),
        "positives/m3/indptr": np.array([0, 2, 4, 4, 5, 6]),
        "positives/m3/image": np.array([1, 2, 0, 2, 6, 11]),
        "negatives/image": np.array([7, 7, 7, 8]),
        "negatives/cluster": np.array([0, 1, 2, 0]),
        "negatives/allowed": np.array([True, True, False, False]),
    }


def test_queries_with_a_positive() -> None:
    arrays = world()
    assert usable_queries(arrays, 0, "m1").tolist() == [0, 1, 2, 3]
    assert usable_queries(arrays, 0, "m2").tolist() == [0, 2, 3]
    assert usable_queries(arrays, 0, "m3").tolist() == [0, 1, 3]
    assert usable_queries(arrays, 1, "m2").tolist() == [4]


def test_choices_of_the_strategies() -> None:
    arrays = world()
    assert [c.tolist() for c in positive_choices(arrays, np.array([0, 3]), "m2")] == [[1], [6]]
    assert [c.tolist() for c in positive_choices(arrays, np.array([0, 3]), "m3")] == [[1, 2], [6]]
    assert [c.tolist() for c in positive_choices(arrays, np.array([1, 2]), "m1")] == [[0, 2], [4]]


def test_random_positives_reach_every_choice() -> None:
    choices = [np.array([4, 7, 9]), np.array([2])]
    drawn = np.array([draw_positives(choices, np.random.default_rng(seed))[:, 0] for seed in range(60)])
    assert set(drawn[:, 0]) == {4, 7, 9} and set(drawn[:, 1]) == {2}
    again = draw_positives(choices, np.random.default_rng(0))[:, 0]
    np.testing.assert_array_equal(again, drawn[0])


def test_nearest_positive_by_hand() -> None:
    table = DescriptorTable(np.array([0, 1, 2]), np.array([[1, 0], [0, 1], [0.8, 0.6]], dtype=np.float32))
    assert nearest_positives([np.array([1, 2])], np.array([0]), table).tolist() == [2]


def test_draws() -> None:
    items = np.arange(10, 30)
    assert sorted(draw(items, None, np.random.default_rng(0))) == items.tolist()
    few = draw(items, 5, np.random.default_rng(0))
    assert len(set(few)) == 5 and set(few) <= set(items)


def test_singletons_need_a_verdict() -> None:
    arrays = world()
    assert np.flatnonzero(needs_verdict(arrays)).tolist() == [7, 8, 9]
    assert negative_pool(arrays, 0).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert negative_pool(arrays, 1).tolist() == [10, 11]
    pool = np.arange(10)
    assert forbidden_positions(arrays, 0, pool).tolist() == [8, 9]
    assert forbidden_positions(arrays, 2, pool).tolist() == [7, 8, 9]
    dense = forbidden(arrays, np.array([0, 5, 3]), pool).toarray()
    assert [np.flatnonzero(row).tolist() for row in dense] == [[8, 9], [7, 8, 9], [8, 9]]


def excluding(rows: list[list[int]]) -> dict[str, Any]:
    """The world with exclusions, one row per query of its table."""
    arrays = world()
    indptr = np.cumsum([0, *map(len, rows)])
    flat = np.array([image for row in rows for image in row], dtype=np.int64)
    return arrays | {"negatives/excluded/indptr": indptr, "negatives/excluded/image": flat}


def test_exclusions_are_of_the_query_and_singletons_need_no_verdict_beside_them() -> None:
    arrays = excluding([[5, 9], [], [], [], []])
    assert negative_pool(arrays, 0).tolist() == list(range(10))
    pool = np.array([9, 3, 5, 1, 8])
    dense = forbidden(arrays, np.array([1, 0]), pool).toarray()
    assert [np.flatnonzero(row).tolist() for row in dense] == [[4], [0, 2, 4]]  # 8 was refused to both
    supply = negative_supply(arrays, np.array([1, 0]), pool)
    assert supply.photographs.tolist() == [3, 1] and supply.clusters.tolist() == [3, 1]


def test_tuples_of_an_epoch_keep_the_exclusions() -> None:
    arrays = excluding([[3, 5, 7], [4, 6], [0, 2, 9], [1], []])
    table = DescriptorTable(np.arange(12), np.ones((12, 2), dtype=np.float32))
    options = TrainingOptions(positives="m1", queries_per_epoch=None)
    drawn = draw_epoch(arrays, options, 1)
    mined = mine(arrays, drawn, table, plan_of(arrays, drawn, 2, False))
    indptr, image = arrays["negatives/excluded/indptr"], arrays["negatives/excluded/image"]
    rows = {query: row for row, query in enumerate(arrays["queries/image"].tolist())}
    assert len(mined.tuples) == 4
    for query, _, *negatives in mined.tuples.tolist():
        row = rows[query]
        assert set(negatives).isdisjoint(image[indptr[row] : indptr[row + 1]].tolist())


@pytest.mark.parametrize("excluded", [None, [[5, 9], [], [], [7, 8, 9], []]])
def test_supply_by_hand_and_as_mining_counts(excluded: list[list[int]] | None) -> None:
    arrays = world() if excluded is None else excluding(excluded)
    queries, pool = np.array([0, 5]), np.arange(10)
    supply = negative_supply(arrays, queries, pool)
    clusters, photographs = ([3, 2], [5, 5]) if excluded is None else ([3, 2], [4, 5])
    assert supply.clusters.tolist() == clusters and supply.photographs.tolist() == photographs
    clusters = arrays["images/cluster"]
    descriptors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    for row, query in enumerate(queries):
        for apart, most in ((True, supply.clusters[row]), (False, supply.photographs[row])):
            arguments = (descriptors[[query]], descriptors[pool], clusters[[query]], clusters[pool])
            barred = forbidden(arrays, np.array([query]), pool)
            hard_negatives(*arguments, int(most), one_per_cluster=apart, forbidden=barred)
            with pytest.raises(TooFewClusters):
                hard_negatives(*arguments, int(most) + 1, one_per_cluster=apart, forbidden=barred)


@pytest.mark.parametrize(
    ("clusters", "photographs", "negatives", "apart", "expected", "sentences"),
    [
        (9, 40, None, None, (5, True), 0),
        (3, 40, None, None, (5, False), 1),
        (1, 3, None, None, (3, False), 2),
        (3, 40, 4, None, (4, False), 1),
        (3, 40, None, True, (3, True), 1),
        (3, 40, 3, True, (3, True), 0),
    ],
)
def test_what_is_given_up(clusters, photographs, negatives, apart, expected, sentences) -> None:
    supply = Supply(np.array([clusters, 50]), np.array([photographs, 90]))
    plan = plan_negatives(supply, negatives, apart, ["a.jpg", "b.jpg"])
    assert (plan.count, plan.one_per_cluster) == expected
    assert len(plan.warnings) == sentences and all("a.jpg" in warning for warning in plan.warnings)
    assert isinstance(plan, NegativePlan)


@pytest.mark.parametrize(
    ("clusters", "photographs", "negatives", "apart"), [(3, 40, 4, True), (1, 3, 4, None), (0, 0, None, None)]
)
def test_what_the_user_set_is_an_error_instead(clusters, photographs, negatives, apart) -> None:
    supply = Supply(np.array([50, clusters]), np.array([90, photographs]))
    with pytest.raises(TooFewClusters, match=r"b\.jpg.*training\.negatives"):
        plan_negatives(supply, negatives, apart, ["a.jpg", "b.jpg"])


def test_an_epoch_depends_on_seed_and_number_only() -> None:
    arrays, options = world(), TrainingOptions(queries_per_epoch=2)
    first, again, later = (draw_epoch(arrays, options, epoch) for epoch in (1, 1, 2))
    np.testing.assert_array_equal(first.queries, again.queries)
    assert [c.tolist() for c in first.choices] == [c.tolist() for c in again.choices]
    others = [
        draw_epoch(arrays, options.model_copy(update={"seed": s}), 1).queries.tolist() for s in range(20)
    ]
    assert len({tuple(q) for q in others}) > 1 and len(later.queries) == 2


def test_fixed_positives_stay_over_the_epochs() -> None:
    arrays, options = world(), TrainingOptions(redraw_positives=False)
    seen: dict[int, set[int]] = {}
    for epoch in range(1, 12):
        drawn = draw_epoch(arrays, options, epoch)
        for query, choice in zip(drawn.queries, drawn.choices, strict=True):
            seen.setdefault(int(query), set()).add(int(choice[0]))
    assert sorted(seen) == [0, 1, 5] and all(len(positives) == 1 for positives in seen.values())


def test_mined_tuples_respect_everything() -> None:
    arrays = world()
    drawn = draw_epoch(arrays, TrainingOptions(positives="m1"), 1)
    generator = np.random.default_rng(3)
    rows = generator.normal(size=(len(drawn.images), 8)).astype(np.float32)
    table = DescriptorTable(drawn.images, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    mined = mine(arrays, drawn, table, plan_of(arrays, drawn, 2, True))
    clusters = arrays["images/cluster"]
    for query, positive, *negatives in mined.tuples:
        assert clusters[query] == clusters[positive] and query != positive
        assert len({clusters[query], *clusters[negatives]}) == 3
        assert not (set(negatives) & {8, 9, 10, 11}) and not (7 in negatives and clusters[query] == 2)
        distances = np.linalg.norm(table[np.array([query])] - table[np.array(negatives)], axis=1)
        assert (np.diff(distances) >= 0).all()
    assert 0 < mined.mean_negative_distance < 2


def test_validation_is_drawn_once() -> None:
    drawn = draw_validation(world(), TrainingOptions())
    assert drawn.queries.tolist() == [10] and drawn.pool.tolist() == [10, 11]
    assert [c.tolist() for c in drawn.choices] == [[11]]
