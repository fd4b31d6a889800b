"""Shared points, overlap, scale change and neighbouring cameras.

By hand, by property, by the official numbers.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from sfm.scene import geometry
from sfm.scene.scene import Scene
from tests.official import listed, needs, official

ORACLE = official("oracles", "sfm_geometry")


def graph(*points_of: list[int], num_points: int = 8) -> csr_array:
    indptr = np.cumsum([0, *(len(points) for points in points_of)])
    flat = [point for points in points_of for point in points]
    return geometry.visibility_matrix(indptr, np.array(flat, dtype=np.int64), num_points)


def random_graph(rng: np.random.Generator, images: int, points: int) -> csr_array:
    dense = rng.random((images, points)) < 0.4
    dense[:, 0] = True
    return csr_array(dense)


def test_shared_points_and_overlap_by_hand() -> None:
    visibility = graph([0, 1, 2, 3], [2, 3], [3, 4, 5], [6])
    assert geometry.shared_points(visibility).toarray().tolist() == [
        [4, 2, 1, 0],
        [2, 2, 1, 0],
        [1, 1, 3, 0],
        [0, 0, 0, 1],
    ]
    expected = [[0, 2 / 4, 1 / 4, 0], [2 / 2, 0, 1 / 2, 0], [1 / 3, 1 / 3, 0, 0], [0, 0, 0, 0]]
    result = geometry.overlap(visibility)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.toarray(), expected, rtol=1e-6)


def test_a_point_seen_by_two_keypoints_of_one_image_counts_once() -> None:
    visibility, depth = geometry.visibility_and_depth([0, 3, 4], [5, 2, 5, 2], [7.0, 3.0, 7.0, 4.0], 6)
    assert visibility.toarray().tolist() == [[0, 0, 1, 0, 0, 1], [0, 0, 1, 0, 0, 0]]
    assert depth.tolist() == [3.0, 7.0, 4.0]
    assert geometry.shared_points(visibility)[0, 0] == 2


def test_boolean_graphs_are_counted_not_ored() -> None:
    dense = np.array([[1, 1, 1], [1, 1, 0]], dtype=bool)
    assert geometry.shared_points(csr_array(dense)).toarray().tolist() == [[3, 2], [2, 2]]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_overlap_does_not_depend_on_names_of_points_or_order_of_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = random_graph(rng, 9, 30).toarray()
    images, points = rng.permutation(9), rng.permutation(30)
    reference = geometry.overlap(csr_array(dense)).toarray()
    moved = geometry.overlap(csr_array(dense[images][:, points])).toarray()
    np.testing.assert_array_equal(moved, reference[np.ix_(images, images)])


def test_rows_only_equals_the_rows_of_all() -> None:
    rng = np.random.default_rng(1)
    visibility = geometry.visibility_matrix(*_csr(random_graph(rng, 20, 60)), 60)
    rows = np.array([7, 0, 19])
    for function in (geometry.shared_points, geometry.overlap):
        np.testing.assert_array_equal(
            function(visibility, rows).toarray(), function(visibility).toarray()[rows]
        )


def _csr(matrix: csr_array) -> tuple[np.ndarray, np.ndarray]:
    return matrix.indptr, matrix.indices


def test_overlap_of_an_image_without_points_is_an_error_that_names_it() -> None:
    visibility = graph([0, 1], [], [1])
    with pytest.raises(geometry.EmptyImage, match="image 1 "):
        geometry.overlap(visibility)
    assert geometry.overlap(visibility, np.array([2, 0])).toarray()[0].tolist() == [1.0, 0.0, 0.0]


def test_points_out_of_range_are_an_error() -> None:
    with pytest.raises(geometry.BadGeometry, match=r"0\.\.9"):
        geometry.visibility_matrix([0, 2], [0, 9], 5)
    with pytest.raises(geometry.BadGeometry, match="indptr"):
        geometry.visibility_matrix([0, 2], [0, 1, 2], 5)


def test_scale_change_by_hand() -> None:
    visibility = graph([0, 1, 2], [0, 1, 2], [4])
    depth = np.array([10.0, 10.0, 10.0, 5.0, 20.0, 30.0, 1.0])
    focal = np.array([100.0, 200.0, 50.0])
    # spacing .1 .1 .1 against .025 .1 .15: changes 4, 1, 1.5
    result = geometry.scale_change(visibility, depth, focal, [0, 1, 0], [1, 0, 2])
    np.testing.assert_array_equal(result, [1.5, 1.5, np.nan])


def test_scale_change_of_an_even_number_of_points_is_the_mean_of_the_middle_two() -> None:
    visibility = graph([0, 1], [0, 1])
    result = geometry.scale_change(visibility, np.array([1.0, 1.0, 2.0, 4.0]), np.ones(2), [0], [1])
    assert result.tolist() == [3.0]


def test_points_behind_a_camera_do_not_vote() -> None:
    visibility = graph([0, 1], [0, 1])
    result = geometry.scale_change(visibility, np.array([-1.0, 1.0, 2.0, 4.0]), np.ones(2), [0], [1])
    assert result.tolist() == [4.0]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_scale_change_equals_brute_force_is_symmetric_and_knows_no_unit(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    visibility = geometry.visibility_matrix(*_csr(random_graph(rng, 7, 25)), 25)
    depth, focal = rng.uniform(1, 20, visibility.nnz), rng.uniform(300, 900, 7)
    first, second = np.triu_indices(7, 1)
    result = geometry.scale_change(visibility, depth, focal, first, second)
    spacing = (
        csr_array((depth, visibility.indices, visibility.indptr), shape=(7, 25)).toarray() / focal[:, None]
    )
    for change, i, j in zip(result, first, second, strict=True):
        both = (spacing[i] > 0) & (spacing[j] > 0)
        ratio = spacing[i, both] / spacing[j, both]
        assert change == pytest.approx(np.median(np.maximum(ratio, 1 / ratio)), rel=1e-6)
    np.testing.assert_allclose(
        geometry.scale_change(visibility, depth * unit, focal, second, first), result, rtol=1e-6
    )


def test_blocks_do_not_change_the_scale_change(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    visibility = geometry.visibility_matrix(*_csr(random_graph(rng, 12, 40)), 40)
    depth, focal = rng.uniform(1, 20, visibility.nnz), rng.uniform(300, 900, 12)
    first, second = np.nonzero(geometry.shared_points(visibility).toarray())
    whole = geometry.scale_change(visibility, depth, focal, first, second)
    monkeypatch.setattr(geometry, "_BLOCK_OBSERVATIONS", 50)
    np.testing.assert_array_equal(geometry.scale_change(visibility, depth, focal, first, second), whole)


def test_scale_change_refuses_arrays_that_do_not_fit() -> None:
    visibility = graph([0, 1], [0, 1])
    with pytest.raises(geometry.BadGeometry, match="3 depths for 4 observations"):
        geometry.scale_change(visibility, np.ones(3), np.ones(2), [0], [1])
    with pytest.raises(geometry.BadGeometry, match="image 1 has focal length 0"):
        geometry.scale_change(visibility, np.ones(4), np.array([1.0, 0.0]), [0], [1])


def test_nearest_centers_by_hand_with_ties_by_index() -> None:
    centers = np.array([[0.0, 0, 0], [1, 0, 0], [-1, 0, 0], [5, 0, 0]])
    assert geometry.nearest_centers(centers, 2).tolist() == [[1, 2], [0, 2], [0, 1], [1, 0]]
    assert geometry.nearest_centers(centers, 9, np.array([3])).tolist() == [[1, 0, 2]]
    assert geometry.nearest_centers(centers[:1], 3).shape == (1, 0)


def test_nearest_centers_equals_a_full_sort_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    centers = np.random.default_rng(2).normal(size=(50, 3))
    distance = np.linalg.norm(centers[:, None] - centers[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    expected = np.argsort(distance, axis=1)[:, :7]
    monkeypatch.setattr(geometry, "_BLOCK_DISTANCES", 120)
    np.testing.assert_array_equal(geometry.nearest_centers(centers, 7), expected)


def test_nearest_centers_refuses_a_negative_k() -> None:
    with pytest.raises(geometry.BadGeometry, match="k = -1"):
        geometry.nearest_centers(np.zeros((3, 3)), -1)


@needs(ORACLE)
class TestOracle:
    """Official numbers of D2-Net (overlap, smallest scale ratio) and hloc (camera distances) on COLMAP
    models.
    """

    @pytest.fixture(params=[path.name for path in listed("*", "oracles", "sfm_geometry")])
    def model(self, request: pytest.FixtureRequest) -> tuple[Scene, dict[str, np.ndarray]]:
        folder = ORACLE / request.param
        with np.load(folder / "d2net_and_hloc.npz", allow_pickle=False) as numbers:
            expected = dict(numbers)
        scene = Scene.from_colmap(folder)
        order = np.array([list(expected["image_names"]).index(str(name)) for name in scene.photos.name])
        square = {key: value[np.ix_(order, order)] for key, value in expected.items() if value.ndim == 2}
        return scene, square | {"n_points3D": expected["n_points3D"][order]}

    def test_overlap_equals_the_official_matrix(self, model: tuple[Scene, dict[str, np.ndarray]]) -> None:
        scene, expected = model
        visibility, _ = scene.visibility_of_model(0)
        official = np.where(expected["overlap_matrix"] < 0, 0, expected["overlap_matrix"])
        np.testing.assert_array_equal(geometry.overlap(visibility).toarray(), official.astype(np.float32))
        np.testing.assert_array_equal(np.diff(visibility.indptr), expected["n_points3D"])

    def test_camera_centres(self, model: tuple[Scene, dict[str, np.ndarray]]) -> None:
        scene, expected = model
        centers = scene.cameras.center_in_world
        distance = np.linalg.norm(centers[:, None] - centers[None], axis=2)
        np.testing.assert_allclose(distance, expected["hloc_center_distance"], rtol=0, atol=1e-9)
        nearest = geometry.nearest_centers(centers, 3)
        np.fill_diagonal(distance := expected["hloc_center_distance"].copy(), np.inf)
        np.testing.assert_array_equal(nearest, np.argsort(distance, axis=1)[:, :3])

    def test_scale_ratio_per_point(self, model: tuple[Scene, dict[str, np.ndarray]]) -> None:
        """D2-Net keeps the smallest ratio of a pair: the same ratios as ours before the median."""
        scene, expected = model
        visibility, depth = scene.visibility_of_model(0)
        spacing = geometry.point_spacing(visibility, depth, scene.cameras.focal_px).toarray()
        official = expected["scale_ratio_matrix"]
        for i, j in zip(*np.nonzero(official > 0), strict=True):
            both = (spacing[i] > 0) & (spacing[j] > 0)
            ratio = spacing[i, both] / spacing[j, both]
            assert np.maximum(ratio, 1 / ratio).min() == pytest.approx(official[i, j], rel=1e-6)
