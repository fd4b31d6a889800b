"""The geometry benchmark: easy, hard and junk by hand; every image of a split has exactly one role."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sfm.scene.scene import Scene
from sfm.selection import labels
from sfm.selection.choosing import SelectionOptions, select
from sfm.selection.model_views import ModelView
from storage.schemas.training_set import Benchmark

MakeScene = Callable[..., Scene]
VAL, TEST = 1, 2

TOWER = {
    "query.jpg": range(100),
    "easy.jpg": range(80, 140),  # 20 of 100 at the same scale
    "far.jpg": range(60, 120),  # 40 of 100 at twice the scale
    "hard.jpg": range(85, 140),  # 15 of 100
    "little.jpg": range(86, 140),  # 14 of 100
    "twin.jpg": range(10, 100),  # 90 of 100 at the same scale
    "zoom.jpg": range(5, 100),  # 95 of 100 at 1.4 times the scale
    "apart.jpg": range(200, 260),
}


def labels_of(scene: Scene, benchmark: Benchmark, query: str) -> dict[str, set[str]]:
    name = scene.photos.name
    row = [str(name[image]) for image in benchmark.queries].index(query)
    return {
        kind: {str(name[image]) for image in getattr(benchmark, kind).row(row)}
        for kind in ("easy", "hard", "junk")
    }


def label(
    scene: Scene, splits: list[int], split: int, uncleared: dict[int, np.ndarray] | None = None, **more: int
) -> Benchmark:
    views = [ModelView.of(scene, model) for model in range(scene.num_models)]
    everyone = np.arange(scene.photos.cluster.size)
    return labels.label(scene, views, np.array(splits), split, uncleared or {}, everyone, **more)


class TestByHand:
    @pytest.fixture(scope="class")
    def scene(self, make_scene: MakeScene) -> Scene:
        return make_scene(
            {"tower": TOWER, "gate": {f"g{n}.jpg": range(n * 10, n * 10 + 30) for n in range(3)}},
            singletons=["cleared.jpg", "doubtful.jpg", "elsewhere.jpg"],
            unregistered={"cellar.jpg": "tower"},
            depth={"far.jpg": 20.0, "zoom.jpg": 14.0},
        )

    @pytest.fixture(scope="class")
    def benchmark(self, scene: Scene) -> Benchmark:
        doubtful = np.array([scene.photos.name.tolist().index("doubtful.jpg")])
        return label(scene, [TEST, TEST, TEST, TEST, VAL], TEST, {0: doubtful})

    def test_labels_of_one_query(self, scene: Scene, benchmark: Benchmark) -> None:
        assert labels_of(scene, benchmark, "query.jpg") == {
            "easy": {"easy.jpg", "zoom.jpg"},
            "hard": {"far.jpg", "hard.jpg"},
            "junk": {"query.jpg", "little.jpg", "twin.jpg", "apart.jpg", "cellar.jpg", "doubtful.jpg"},
        }

    def test_the_doubt_about_a_singleton_concerns_one_cluster(
        self, scene: Scene, benchmark: Benchmark
    ) -> None:
        assert labels_of(scene, benchmark, "g0.jpg") == {
            "easy": {"g1.jpg", "g2.jpg"},
            "hard": set(),
            "junk": {"g0.jpg"},
        }

    def test_the_database_is_the_split(self, scene: Scene, benchmark: Benchmark) -> None:
        names = {str(scene.photos.name[image]) for image in benchmark.database}
        assert names == {*TOWER, "g0.jpg", "g1.jpg", "g2.jpg", "cellar.jpg", "cleared.jpg", "doubtful.jpg"}

    def test_an_image_without_an_answer_is_no_query(self, scene: Scene, benchmark: Benchmark) -> None:
        names = {str(scene.photos.name[image]) for image in benchmark.queries}
        assert "apart.jpg" not in names and "cellar.jpg" not in names and "query.jpg" in names

    def test_rows_rise_and_labels_exclude_each_other(self, benchmark: Benchmark) -> None:
        for row in range(benchmark.queries.size):
            parts = [getattr(benchmark, kind).row(row) for kind in ("easy", "hard", "junk")]
            assert all((np.diff(part) > 0).all() for part in parts)
            together = np.concatenate(parts)
            assert np.unique(together).size == together.size
            assert np.isin(together, benchmark.database).all()
            assert benchmark.queries[row] in parts[2]


def test_near_duplicates_only_is_no_query(make_scene: MakeScene) -> None:
    scene = make_scene({"gate": {f"g{n}.jpg": range(30) for n in range(3)}})
    assert label(scene, [TEST], TEST).queries.size == 0


def test_larger_models_give_spread_queries(make_scene: MakeScene) -> None:
    views = {f"l{n:02d}.jpg": range(n * 2, n * 2 + 40) for n in range(20)}
    views |= {f"s{n}.jpg": range(500 + n * 9, 540 + n * 9) for n in range(3)}
    scene = make_scene({"place": views})
    benchmark = label(scene, [VAL], VAL, max_queries_per_model=2)
    assert sorted(str(scene.photos.name[image])[0] for image in benchmark.queries) == ["l", "s"]
    assert label(scene, [VAL], VAL).queries.size == 23
    assert label(scene, [VAL], TEST).queries.size == 0


def test_labels_do_not_depend_on_the_order_of_photographs(make_scene: MakeScene) -> None:
    rng = np.random.default_rng(0)
    views = {f"{n:02d}.jpg": np.sort(rng.choice(80, 40, replace=False)) for n in range(12)}
    depth = {name: float(rng.uniform(8, 16)) for name in views}
    renamed = {name: f"{n:02d}x.jpg" for n, name in enumerate(rng.permutation(list(views)).tolist())}
    scene = make_scene({"p": views}, depth=depth)
    moved = make_scene(
        {"p": {renamed[name]: points for name, points in views.items()}},
        depth={renamed[name]: value for name, value in depth.items()},
    )
    one, other = label(scene, [VAL], VAL), label(moved, [VAL], VAL)
    assert one.easy.image.size and one.hard.image.size
    for name in views:
        expected = {
            kind: {renamed[each] for each in found} for kind, found in labels_of(scene, one, name).items()
        }
        assert labels_of(moved, other, renamed[name]) == expected


def test_select_writes_the_benchmark_of_val_and_test(many_places: MakeScene) -> None:
    chosen = select(many_places(), SelectionOptions(query_fraction=0.3))
    for split, name in ((VAL, "val"), (TEST, "test")):
        benchmark = chosen.benchmark[name]
        np.testing.assert_array_equal(benchmark.database, np.flatnonzero(chosen.images.split == split))
        assert benchmark.queries.size and (chosen.images.split[benchmark.queries] == split).all()
        right = np.concatenate([benchmark.easy.image, benchmark.hard.image])
        assert right.size
        for row, query in enumerate(benchmark.queries):
            cluster = chosen.images.cluster[query]
            answers = np.concatenate([benchmark.easy.row(row), benchmark.hard.row(row)])
            assert (chosen.images.cluster[answers] == cluster).all()
            # singletons without a verdict are junk: only other clusters with a model are negatives
            roles = np.concatenate([answers, benchmark.junk.row(row)])
            negatives = np.setdiff1d(benchmark.database, roles)
            assert negatives.size and chosen.images.registered[negatives].all()
            assert not np.any(chosen.images.cluster[negatives] == cluster)
