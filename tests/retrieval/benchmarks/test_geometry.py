import numpy as np
import pytest

from retrieval.benchmarks.geometry import GeometryBenchmark, InvalidBenchmark, geometry_map, score


def training_set(queries, database, clusters, easy, hard, junk, split="val"):
    arrays = {
        "images/cluster": np.asarray(clusters),
        f"benchmark/{split}/queries": np.asarray(queries),
        f"benchmark/{split}/database": np.asarray(database),
    }
    for name, rows in (("easy", easy), ("hard", hard), ("junk", junk)):
        arrays[f"benchmark/{split}/{name}/indptr"] = np.cumsum([0, *map(len, rows)])
        arrays[f"benchmark/{split}/{name}/image"] = np.array([i for row in rows for i in row], dtype=np.int64)
    return arrays


def small():
    """Images 0, 1 train; 2..4 cluster 7 (2 query, 3 easy, 4 hard), 5 and 6 (query 6, easy 5) cluster 8."""
    return training_set([2, 6], range(2, 7), [0, 0, 7, 7, 7, 8, 8], [[3], [5]], [[4], []], [[2], [6]])


def along(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_by_hand():
    # query 2 at angle 0: order 2 (junk), 3 (.1), 5 (.2), 4 (.3), 6 (1.): easy AP 1; medium ranks 0 and 2;
    # hard: 3 is junk, 4 stands behind 5: (0 + 1/2)/2. Query 6 at 1.: 6, 4, 5, 3, 2: easy AP (0 + 1/2)/2.
    descriptors = along(np.array([9.0, 9.0, 0.0, 0.1, 0.3, 0.2, 1.0]))
    result = geometry_map(descriptors, small(), "val")
    np.testing.assert_allclose(result.easy.average_precisions, [1.0, 0.25])
    np.testing.assert_allclose(result.medium.average_precisions, [0.5 + 7 / 24, 0.25])
    np.testing.assert_allclose(result.hard.average_precisions, [0.25, np.nan])
    assert result.mean_average_precision == pytest.approx((0.5 + 7 / 24 + 0.25) / 2)
    assert result.hard.num_queries == 1
    np.testing.assert_array_equal(result.clusters, [7, 8])


def test_mean_over_clusters_weighs_clusters_not_queries():
    arrays = training_set([0, 1, 3], range(5), [4, 4, 4, 9, 9], [[2], [2], [4]], [[], [], []], [[], [], []])
    descriptors = along(np.array([0.0, 0.1, 0.2, 1.0, -1.0]))
    result = geometry_map(descriptors, arrays)
    per_query = result.easy.average_precisions
    assert result.mean_over_clusters("easy") == pytest.approx((per_query[:2].mean() + per_query[2]) / 2)
    assert result.mean_over_clusters("easy") != pytest.approx(per_query.mean())
    assert np.isnan(result.mean_over_clusters("hard"))


def test_ranks_and_ties():
    arrays = small()
    benchmark = GeometryBenchmark.from_arrays(arrays, "val")
    descriptors = np.ones((7, 3), dtype=np.float32)
    result = score(benchmark, descriptors[benchmark.queries], descriptors[benchmark.database], depth=9)
    np.testing.assert_array_equal(result.ranks, np.tile(np.arange(5), (2, 1)))
    np.testing.assert_array_equal(result.scores, np.full((2, 5), 3.0))


def test_rotation_and_scale_do_not_matter(monkeypatch):
    generator = np.random.default_rng(1)
    descriptors = generator.normal(size=(7, 4)).astype(np.float32)
    rotation = np.linalg.qr(generator.normal(size=(4, 4)))[0]
    before = geometry_map(descriptors, small())
    monkeypatch.setattr("retrieval.benchmarks.geometry.SCORES_PER_BLOCK", 1)
    after = geometry_map((3 * descriptors @ rotation).astype(np.float32), small())
    np.testing.assert_allclose(before.medium.average_precisions, after.medium.average_precisions)


def test_rows_outside_the_split_are_never_read():
    descriptors = along(np.linspace(0, 1, 7))
    descriptors[:2] = np.nan
    assert np.isfinite(geometry_map(descriptors, small()).mean_average_precision)


def test_bad_input_is_named():
    descriptors = along(np.linspace(0, 1, 7))
    with pytest.raises(InvalidBenchmark, match="6 descriptors for 7 images"):
        geometry_map(descriptors[:6], small())
    with pytest.raises(InvalidBenchmark, match="benchmark/test/queries"):
        geometry_map(descriptors, small(), "test")
    with pytest.raises(InvalidBenchmark, match="nan"):
        geometry_map(np.full((7, 2), np.nan, dtype=np.float32), small())
    outside = training_set([2], [2, 3], [0] * 5, [[4]], [[]], [[]])
    with pytest.raises(InvalidBenchmark, match="outside"):
        geometry_map(descriptors[:5], outside)
    own = training_set([2], [2, 3], [0] * 5, [[2]], [[]], [[]])
    with pytest.raises(InvalidBenchmark, match="its own positive"):
        geometry_map(descriptors[:5], own)
