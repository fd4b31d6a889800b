import numpy as np
import pytest

from retrieval.search.rerank import by_inliers


def test_by_hand():
    # 40 and 20 are verified; 14, unknown and 0 stay in their order behind them
    np.testing.assert_array_equal(by_inliers([0, 20, -1, 40, 14], 15), [3, 1, 0, 2, 4])


def test_equal_counts_and_nothing_verified_keep_the_order():
    np.testing.assert_array_equal(by_inliers([15, 30, 15, 30], 15), [1, 3, 0, 2])
    np.testing.assert_array_equal(by_inliers([3, 14, -1, 9], 15), [0, 1, 2, 3])
    assert by_inliers([], 15).shape == (0,)


def test_it_is_a_permutation_whatever_the_counts():
    counts = np.random.default_rng(0).integers(-1, 60, 200)
    order = by_inliers(counts, 15)
    assert sorted(order.tolist()) == list(range(200))
    verified = counts[order] >= 15
    assert verified[: verified.sum()].all() and (np.diff(counts[order][verified]) <= 0).all()
    assert (np.diff(order[~verified]) > 0).all()


def test_a_minimum_below_one_is_refused():
    with pytest.raises(ValueError, match="minimum 0"):
        by_inliers([1], 0)
