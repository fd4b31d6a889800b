"""The detail of a benchmark's query: by hand, on a scene of three cameras, and its bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sfm.scene.scene import Scene
from sfm.selection import details
from sfm.selection.choosing import SelectionOptions, select
from sfm.training_set.subset import without_clusters
from storage.schemas.table import Ragged
from storage.schemas.training_set import Benchmark

MakeScene = Callable[..., Scene]


def benchmark_of(easy: list[list[int]], hard: list[list[int]]) -> Benchmark:
    """Image 0, 1, ... are queries."""
    rows = [Ragged.from_rows([np.array(row, dtype=np.int64) for row in each]) for each in (easy, hard)]
    queries = np.arange(len(easy))
    return Benchmark(queries, queries, *rows, Ragged.from_rows([np.array([q]) for q in queries]))


@pytest.fixture
def scene(make_scene: MakeScene) -> Scene:
    """Photographs of 100 x 50 px: a, b, c; point n of camera a lies at (n, 40 - n)."""
    made = make_scene({"p": {"a.jpg": range(40), "b.jpg": range(10, 21), "c.jpg": range(15, 31)}})
    visibility, photos = made.visibility, made.photos
    xy = np.stack([visibility.point, 40 - visibility.point], axis=1).astype(np.float64)
    half = np.full(3, 50, dtype=np.int64)
    return replace(
        made, visibility=replace(visibility, xy_px=xy), photos=replace(photos, working_height=half)
    )


def test_a_box_by_hand(scene: Scene) -> None:
    """a shares 10..20 with b and 15..30 with c: 21 points, of which 5 % lie below 11 and above 29."""
    found = details.boxes(scene, benchmark_of([[1], []], [[2], []]), scene.visibility.xy_px)
    # 18 px wide, so widened to 33.3 about 20; 18 of 50 px high, from 40 - 29 to 40 - 11
    np.testing.assert_allclose(found[0], [0.2 - 1 / 6, 11 / 50, 0.2 + 1 / 6, 29 / 50], atol=1e-6)
    assert found.dtype == np.float32 and np.isnan(found[1]).all()


def test_only_answers_make_the_detail(scene: Scene) -> None:
    """With b alone: 10.5..19.5 of 100 px and 20.5..29.5 of 50 px, widened and moved inside."""
    (found,) = details.boxes(scene, benchmark_of([[1]], [[]]), scene.visibility.xy_px)
    np.testing.assert_allclose(found, [0, 1 / 3, 1 / 3, 2 / 3], atol=1e-6)


def test_a_box_is_inside_and_never_narrow() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        points = generator.normal(generator.uniform(0, 1, 2), generator.uniform(0, 0.3), (30, 2))
        left, top, right, bottom = details.box_around(points)
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
        assert min(right - left, bottom - top) >= details.LEAST_SIDE - 1e-9


def test_a_point_far_away_does_not_widen_a_box() -> None:
    points = np.tile(np.linspace(0.2, 0.6, 99)[:, None], 2)
    far = np.append(points, [[0.99, 0.01]], axis=0)
    np.testing.assert_allclose(details.box_around(far), details.box_around(points), atol=0.01)


def test_details_stay_with_their_queries(many_places: MakeScene) -> None:
    scene = many_places()
    chosen = select(scene, SelectionOptions(query_fraction=0.3))
    chosen = replace(chosen, harder=details.of_benchmarks(scene, chosen.benchmark, scene.visibility.xy_px))
    labels, boxes = chosen.benchmark["val"], chosen.harder["val"].box
    assert boxes is not None and boxes.shape == (labels.queries.size, 4) and np.isfinite(boxes).all()
    marked = replace(chosen.harder["val"], box=boxes + np.arange(len(boxes))[:, None].astype(np.float32))
    gone = chosen.images.cluster[labels.queries[:1]]
    rest = without_clusters(replace(chosen, harder={"val": marked}), gone)
    kept = np.flatnonzero(chosen.images.cluster[labels.queries] != gone)
    assert rest.harder["val"].box is not None and 0 < kept.size < labels.queries.size
    np.testing.assert_array_equal(rest.harder["val"].box, marked.box[kept])
