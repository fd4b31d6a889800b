import numpy as np
import pytest

from retrieval.evaluation.bootstrap import bootstrap_difference, bootstrap_mean


def test_by_hand():
    # clusters a: 0, 1; b: nan, 1 -> over queries 2/3, over clusters (0.5 + 1)/2
    estimate = bootstrap_mean(
        np.array([0.0, 1.0, np.nan, 1.0]), np.array([5, 5, 2, 2]), np.random.default_rng(0)
    )
    assert (estimate.value, estimate.over_clusters) == (pytest.approx(2 / 3), pytest.approx(0.75))
    assert (estimate.num_queries, estimate.num_clusters) == (3, 2)
    # two clusters: a resample is {a, a}, {a, b} or {b, b} and both ends have probability 1/4
    assert (estimate.low, estimate.high) == (0.5, 1.0)


def test_interval_covers_the_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(3)
    clusters = np.repeat(np.arange(40), 5)
    hits = 0
    for _ in range(200):
        values = np.repeat(generator.normal(size=40), 5) + 0.1 * generator.normal(size=200)
        estimate = bootstrap_mean(values, clusters, generator, resamples=300)
        hits += estimate.low <= 0.0 <= estimate.high
    assert 0.88 <= hits / 200 <= 0.99


def test_same_generator_same_interval():
    values, clusters = np.random.default_rng(1).random(50), np.arange(50) // 5
    first = bootstrap_mean(values, clusters, np.random.default_rng(9))
    assert first == bootstrap_mean(values, clusters, np.random.default_rng(9))
    assert first.low < first.value < first.high


def test_paired_difference_cancels_the_difficulty_of_the_query():
    generator = np.random.default_rng(2)
    hard, clusters = generator.random(60), np.arange(60) // 6
    gain = bootstrap_difference(hard + 0.05, hard, clusters, generator)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.05, 0.05, 0.05))
    hard_or_missing = np.where(np.arange(60) < 6, np.nan, hard)
    assert bootstrap_difference(hard, hard_or_missing, clusters, generator).num_queries == 54


def test_one_cluster_or_none_has_no_interval():
    one = bootstrap_mean(np.array([0.2, 0.4]), np.array([1, 1]), np.random.default_rng(0))
    assert one.value == pytest.approx(0.3) and np.isnan(one.low) and np.isnan(one.high)
    none = bootstrap_mean(np.array([np.nan]), np.array([1]), np.random.default_rng(0))
    assert np.isnan(none.value) and none.num_queries == 0


def test_bad_shapes():
    with pytest.raises(ValueError, match="one size"):
        bootstrap_mean(np.zeros(3), np.zeros(2), np.random.default_rng(0))
