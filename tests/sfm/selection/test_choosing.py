"""Queries, candidates and positives: by hand, by property, and what must never happen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sfm.scene.scene import Scene
from sfm.selection import stages
from sfm.selection.choosing import NoModels, NoQueries, SelectionOptions, select
from sfm.selection.strategies import m1_pool, m2, m3
from sfm.training_set.tables import Candidates
from sfm.training_set.training_set import TrainingSet
from storage.keys.code import closure

MakeScene = Callable[..., Scene]


def candidates_of(*rows: list[tuple[int, int, float, float]]) -> Candidates:
    """Rows of (image, shared points, overlap, scale change), nearest camera first."""
    flat = [entry for row in rows for entry in row]
    return Candidates(
        np.cumsum([0, *(len(row) for row in rows)]),
        np.array([entry[0] for entry in flat], dtype=np.int64),
        np.array([entry[1] for entry in flat], dtype=np.int64),
        np.array([entry[2] for entry in flat], dtype=np.float32),
        np.array([entry[3] for entry in flat], dtype=np.float32),
        np.array([rank for row in rows for rank in range(len(row))], dtype=np.int64),
    )


OPTIONS = SelectionOptions()


class TestStrategies:
    def test_m1_pool_is_the_nearest_cameras_even_without_shared_points(self) -> None:
        candidates = candidates_of(
            [(4, 0, 0.0, np.nan), (2, 9, 0.5, 1.0), (7, 3, 0.2, 1.0)], [(1, 1, 0.1, 1.0)]
        )
        pool = m1_pool(candidates, 2)
        assert [pool.row(q).tolist() for q in range(2)] == [[4, 2], [1]]

    def test_m2_is_most_shared_points_the_nearer_of_equals(self) -> None:
        candidates = candidates_of(
            [(4, 5, 0.3, 1.0), (2, 9, 0.5, 1.0), (7, 9, 0.5, 1.0)], [(1, 0, 0.0, np.nan)], []
        )
        assert m2(candidates, OPTIONS).tolist() == [2, -1, -1]

    def test_m2_looks_only_into_the_pool(self) -> None:
        candidates = candidates_of([(4, 5, 0.3, 1.0), (2, 9, 0.5, 1.0)])
        assert m2(candidates, SelectionOptions(pool_k=1)).tolist() == [4]

    def test_m2_passes_over_a_near_duplicate_while_there_is_another_positive(self) -> None:
        twin, good, far = (3, 95, 0.95, 1.05), (5, 30, 0.3, 1.2), (6, 30, 0.3, 4.0)
        assert m2(candidates_of([twin, good]), OPTIONS).tolist() == [5]
        assert m2(candidates_of([twin, far]), OPTIONS).tolist() == [3]  # far is no positive
        assert m2(candidates_of([twin]), OPTIONS).tolist() == [3]
        zoomed = (3, 95, 0.95, 1.2)
        assert m2(candidates_of([zoomed, good]), OPTIONS).tolist() == [3]

    def test_m3_thresholds_include_their_ends(self) -> None:
        candidates = candidates_of(
            [(1, 2, 0.2, 1.5), (2, 2, 0.19, 1.0), (3, 9, 0.9, 1.51), (4, 9, 0.9, np.nan), (5, 9, 1.0, 1.0)]
        )
        assert m3(candidates, OPTIONS).row(0).tolist() == [1, 5]
        strict = SelectionOptions(min_overlap=0.95, max_scale_change=1.0)
        assert m3(candidates, strict).row(0).tolist() == [5]


class TestByHand:
    """One place: a sees 10 points; b shares 4 of them, c shares 1, d shares 5 from four times as far."""

    @pytest.fixture(scope="class")
    def chosen(self, make_scene: MakeScene) -> TrainingSet:
        scene = make_scene(
            {
                "tower": {
                    "a.jpg": range(10),
                    "b.jpg": range(6, 16),
                    "c.jpg": range(9, 19),
                    "d.jpg": range(5),
                }
            },
            depth={"d.jpg": 40.0},
            position={"a.jpg": 0.0, "b.jpg": 2.0, "c.jpg": -1.0, "d.jpg": 0.5},
            rejected=["0.txt"],
        )
        return select(scene, SelectionOptions(query_fraction=1.0))

    def test_images_are_the_accepted_photographs(self, chosen: TrainingSet) -> None:
        assert chosen.images.name.tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
        assert chosen.images.registered.all() and chosen.images.model.tolist() == [0, 0, 0, 0]

    def test_candidates_hold_what_was_computed_by_hand(self, chosen: TrainingSet) -> None:
        row = int(np.flatnonzero(chosen.queries.image == 0)[0])
        mine = slice(*chosen.candidates.indptr[row : row + 2])
        assert chosen.candidates.image[mine].tolist() == [2, 1, 3]
        assert chosen.candidates.center_distance_rank[mine].tolist() == [0, 1, 2]
        assert chosen.candidates.shared_points[mine].tolist() == [1, 4, 5]
        np.testing.assert_allclose(chosen.candidates.overlap[mine], [0.1, 0.4, 0.5])
        np.testing.assert_allclose(chosen.candidates.scale_change[mine], [1.0, 1.0, 4.0], rtol=1e-6)

    def test_positives(self, chosen: TrainingSet) -> None:
        row = int(np.flatnonzero(chosen.queries.image == 0)[0])
        assert chosen.positives.m1_pool.row(row).tolist() == [2, 1, 3]
        assert chosen.positives.m2[row] == 3
        assert chosen.positives.m3.row(row).tolist() == [1]

    def test_an_image_without_a_positive_is_no_query_and_counted(self, chosen: TrainingSet) -> None:
        """d shares half of a's points but at four times the scale."""
        assert chosen.queries.image.tolist() == [0, 1, 2]
        reasons = chosen.summary["not_queries"]
        assert reasons["no positive: no near image with enough overlap at a similar scale"] == 1
        assert sum(reasons.values()) == 1

    def test_one_cluster_warns_that_there_are_no_negatives(self, chosen: TrainingSet) -> None:
        assert any("train has 1 clusters" in text for text in chosen.summary["warnings"])


def test_positives_are_of_the_query_s_model_and_queries_of_every_split(many_places: MakeScene) -> None:
    chosen = select(many_places())
    images, positives = chosen.images, chosen.positives
    for rows in (positives.m1_pool, positives.m3):
        query = np.repeat(chosen.queries.image, np.diff(rows.indptr))
        assert rows.image.size
        assert np.array_equal(images.model[rows.image], images.model[query])
        assert not np.any(rows.image == query)
    assert np.array_equal(images.model[positives.m2], images.model[chosen.queries.image])
    assert set(chosen.queries.split.tolist()) == {0, 1, 2}
    assert np.array_equal(chosen.queries.split, images.split[chosen.queries.image])


def test_a_cluster_is_in_one_split(many_places: MakeScene) -> None:
    images = select(many_places()).images
    for cluster in np.unique(images.cluster):
        assert np.unique(images.split[images.cluster == cluster]).size == 1


def test_auto_raises_the_fraction_and_says_so_an_explicit_one_wins(many_places: MakeScene) -> None:
    scene = many_places(views=10)
    raised = select(scene)
    assert raised.summary["query_fraction"] == 1.0
    assert raised.queries.image.size == raised.images.registered.sum()
    assert any("instead of 10 %" in text for text in raised.summary["warnings"])
    explicit = select(scene, SelectionOptions(query_fraction=0.2))
    assert np.bincount(explicit.images.model[explicit.queries.image]).tolist() == [2] * 12
    assert not any("instead of" in text for text in explicit.summary["warnings"])
    enough = select(scene, SelectionOptions(min_train_queries=5))
    assert enough.summary["query_fraction"] == 0.1
    assert np.bincount(enough.images.model[enough.queries.image]).tolist() == [1] * 12


def test_auto_stops_at_the_first_fraction_that_is_enough(many_places: MakeScene) -> None:
    scene = many_places(views=10)
    train = int((select(scene).images.split[select(scene).images.registered] == 0).sum())
    half = select(scene, SelectionOptions(min_train_queries=train // 2))
    assert half.summary["query_fraction"] == 0.5


def test_at_most_thirty_per_model_unless_raised(make_scene: MakeScene) -> None:
    wall = {f"w{n:03d}.jpg": range(n * 5, n * 5 + 40) for n in range(320)}
    chosen = select(make_scene({"wall": wall}), SelectionOptions(min_train_queries=30))
    assert chosen.queries.image.size == 30
    more = select(make_scene({"wall": wall}), SelectionOptions(min_train_queries=60))
    assert more.queries.image.size == 64


def test_queries_are_spread_over_the_model(make_scene: MakeScene) -> None:
    """Two walls of one model that share nothing, 30 and 3 photographs: two queries are one of each."""
    views = {f"l{n:02d}.jpg": range(n, n + 40) for n in range(30)}
    views |= {f"s{n:02d}.jpg": range(1000 + n, 1040 + n) for n in range(3)}
    chosen = select(make_scene({"place": views}), SelectionOptions(query_fraction=2 / 33))
    assert sorted(name[0] for name in chosen.images.name[chosen.queries.image]) == ["l", "s"]


def test_order_of_photographs_does_not_change_the_choice(make_scene: MakeScene) -> None:
    rng = np.random.default_rng(3)
    names = [f"{n:02d}.jpg" for n in range(20)]
    points = {name: np.sort(rng.choice(60, 25, replace=False)) for name in names}
    place = {name: float(rng.uniform(0, 9)) for name in names}
    depth = {name: float(rng.uniform(9, 14)) for name in names}
    options = SelectionOptions(query_fraction=0.4, pool_k=7)
    reference = _by_name(select(make_scene({"p": points}, position=place, depth=depth), options))
    shuffled = rng.permutation(names).tolist()
    relabelled = rng.permutation(60)
    moved = {name: np.sort(relabelled[points[name]]) for name in shuffled}
    # points move along x with their label, which no quantity of the selection sees at constant z
    assert _by_name(select(make_scene({"p": moved}, position=place, depth=depth), options)) == reference


def _by_name(chosen: TrainingSet) -> dict[str, tuple[str, list[str], list[int]]]:
    name = chosen.images.name
    result = {}
    for row, query in enumerate(chosen.queries.image):
        shared = chosen.candidates.shared_points[slice(*chosen.candidates.indptr[row : row + 2])]
        m3_names = [str(each) for each in name[chosen.positives.m3.row(row)]]
        result[str(name[query])] = (str(name[chosen.positives.m2[row]]), m3_names, shared.tolist())
    return result


def test_a_photograph_in_two_models_serves_only_the_one_where_it_sees_most(make_scene: MakeScene) -> None:
    scene = make_scene({"one": {f"a{n}.jpg": range(20) for n in range(4)}})
    twice = _with_second_model(scene)
    chosen = select(twice, SelectionOptions(query_fraction=1.0))
    assert chosen.images.model.tolist() == [0, 0, 0, 0]
    assert set(chosen.candidates.image.tolist()) == {0, 1, 2, 3}
    assert chosen.candidates.indptr.tolist() == [0, 3, 6, 9, 12]


def _with_second_model(scene: Scene) -> Scene:
    """The same photographs once more in a model of the same cluster in which each sees 5 points."""
    from dataclasses import replace

    cameras, seen = scene.cameras, scene.visibility
    twice = {
        name: np.concatenate([getattr(cameras, name)] * 2)
        for name in ("photo", "center_in_world", "cam_from_world", "focal_px", "colmap_model", "params_value")
    }
    both = replace(
        cameras,
        **twice,
        model=np.repeat([0, 1], 4),
        params_indptr=np.concatenate(
            [cameras.params_indptr, cameras.params_indptr[1:] + cameras.params_value.size]
        ),
    )
    few = replace(
        seen,
        indptr=np.concatenate([seen.indptr, seen.indptr[-1] + 5 * np.arange(1, 5)]),
        point=np.concatenate([seen.point, np.tile(np.arange(20, 25), 4)]),
        xy_px=np.concatenate([seen.xy_px, np.ones((20, 2))]),
        keypoint=np.concatenate([seen.keypoint, np.tile(np.arange(5), 4)]),
        depth=np.concatenate([seen.depth, np.ones(20)]),
    )
    points = replace(
        scene.points,
        **{
            n: np.concatenate([getattr(scene.points, n), getattr(scene.points, n)[:5]])
            for n in ("xyz", "rgb", "error_px")
        },
        model=np.repeat([0, 1], [20, 5]),
    )
    models = replace(
        scene.models,
        **{
            n: np.repeat(getattr(scene.models, n), 2)
            for n in ("cluster", "num_photos", "mean_reprojection_error_px")
        },
        num_points=np.array([20, 5]),
    )
    return replace(scene, cameras=both, visibility=few, points=points, models=models)


def test_h5_and_back(many_places: MakeScene, tmp_path: Path) -> None:
    chosen = select(many_places(attempts=[("alone0.jpg", "p00_00.jpg", 3)]))
    chosen.to_h5(tmp_path / "set.h5")
    back = TrainingSet.from_h5(tmp_path / "set.h5")
    for path, array in chosen.arrays().items():
        np.testing.assert_array_equal(np.asarray(back.arrays()[path]), np.asarray(array), err_msg=path)
    assert back.summary == chosen.summary


def test_the_scene_as_read_for_selection_is_enough(many_places: MakeScene, tmp_path: Path) -> None:
    scene = many_places(views=5)
    scene.to_h5(tmp_path / "scene.h5")
    small = select(Scene.from_h5(tmp_path / "scene.h5", for_selection=True)).arrays()
    for path, array in select(scene).arrays().items():
        np.testing.assert_array_equal(np.asarray(small[path]), np.asarray(array), err_msg=path)


def test_existing_clusters_keep_the_split_of_the_previous_training_set(
    many_places: MakeScene, tmp_path: Path
) -> None:
    before = select(many_places(places=10), seed=1)
    before.to_h5(tmp_path / "before.h5")
    after = select(many_places(places=16), SelectionOptions(previous=tmp_path / "before.h5"), seed=2)
    split_of = dict(zip(after.images.name.tolist(), after.images.split.tolist(), strict=True))
    assert all(split_of[n] == s for n, s in zip(before.images.name, before.images.split, strict=True))
    fresh = select(many_places(places=16), seed=2)
    assert fresh.images.split.tolist() != after.images.split.tolist()


def test_a_scene_without_models_is_an_error(make_scene: MakeScene) -> None:
    with pytest.raises(NoModels, match="no 3D model"):
        select(make_scene({}, singletons=["a.jpg", "b.jpg"]))


def test_a_train_without_positives_is_an_error(make_scene: MakeScene) -> None:
    scene = make_scene({"p": {"a.jpg": range(10), "b.jpg": range(9, 19), "c.jpg": range(18, 28)}})
    with pytest.raises(NoQueries, match="none of the 3 registered photographs of train"):
        select(scene)


def test_select_does_not_depend_on_how_a_scene_is_made() -> None:
    """An edit of sfm/scene/scene.py must leave everything after the scene cached."""
    for stage in (stages.STAGE, stages.GUARD_STAGE):
        assert not any(name.startswith("sfm.scene.scene") for name in closure(stage.code))
