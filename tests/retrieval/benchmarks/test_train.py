"""Judges out of train: the same labels as select would give train if it were held back."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.benchmarks.geometry import GeometryBenchmark
from retrieval.benchmarks.landmarks import EASY, HARD, JUNK
from retrieval.benchmarks.train import of_train
from sfm.selection import labels
from sfm.selection.choosing import SelectionOptions, assign_splits, select
from sfm.selection.model_views import ModelView
from tests.retrieval.whitening.test_whitening import split_collection
from tests.sfm.conftest import scene_of, wall

TRAIN = 0


def roles(benchmark: GeometryBenchmark, row: int) -> dict[int, list[int]]:
    mine = slice(benchmark.indptr[row], benchmark.indptr[row + 1])
    positions, role = benchmark.positions[mine], benchmark.roles[mine]
    return {bit: benchmark.database[positions[(role & bit) > 0]].tolist() for bit in (EASY, HARD, JUNK)}


@pytest.mark.parametrize("views", [4, 9])
def test_labels_are_those_that_select_gives_a_split_that_is_held_back(views: int) -> None:
    walls = {f"place{p}": wall(views, prefix=f"p{p:02d}_") for p in range(12)}
    scene = scene_of(walls, singletons=["alone0.jpg", "alone1.jpg"])
    options = SelectionOptions(query_fraction=1.0)
    found = of_train(select(scene, options, 0).arrays())
    splits = assign_splits(scene, options, 0)
    seen = [ModelView.of(scene, model) for model in range(scene.num_models)]
    everyone = np.arange(scene.photos.cluster.size)
    wanted = labels.label(scene, seen, splits, TRAIN, {}, everyone)
    np.testing.assert_array_equal(found.database, wanted.database)
    assert found.queries.size and set(found.queries) <= set(wanted.queries)
    for row, query in enumerate(found.queries):
        (place,) = np.flatnonzero(wanted.queries == query)
        expected = {EASY: wanted.easy, HARD: wanted.hard, JUNK: wanted.junk}
        assert roles(found, row) == {bit: sorted(expected[bit].row(place)) for bit in expected}


def test_without_candidates_there_is_no_query() -> None:
    arrays, _ = split_collection(np.random.default_rng(0))
    found = of_train(arrays)
    assert found.queries.size == 0 and found.database.size == 48
