"""Splits by cluster: deterministic, complete, stable when the collection grows."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sfm.training_set.splits import TEST, TRAIN, VAL, BadSplit, PreviousSplits, split_clusters


def shas(count: int, salt: int = 0) -> NDArray[np.bytes_]:
    return np.array([hashlib.sha256(f"{salt}:{n}".encode()).hexdigest() for n in range(count)], dtype="S64")


def test_the_draw_is_the_hash_of_seed_and_smallest_digest() -> None:
    """By hand: cluster 0 holds two photographs, the smaller digest decides."""
    digests = np.array(["b" * 64, "a" * 64, "c" * 64], dtype="S64")
    expected = []
    for smallest in ("a" * 64, "c" * 64):
        drawn = int.from_bytes(hashlib.sha256(f"5:{smallest}".encode()).digest()[:8], "big") / 2**64
        expected.append(TRAIN if drawn < 0.7 else VAL if drawn < 0.8 else TEST)
    split = split_clusters(np.array([0, 0, 1]), digests, 5, has_model=np.zeros(2, dtype=bool))
    assert split.tolist() == expected


def test_shares_and_seeds() -> None:
    clusters = np.arange(4000)
    split = split_clusters(clusters, shas(4000), 0, has_model=np.zeros(4000, dtype=bool))
    np.testing.assert_allclose(np.bincount(split) / 4000, [0.7, 0.1, 0.2], atol=0.03)
    other = split_clusters(clusters, shas(4000), 1, has_model=np.zeros(4000, dtype=bool))
    assert (split != other).mean() > 0.3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 40))
def test_val_and_test_have_three_models_where_ten_exist(seed: int, models: int) -> None:
    has_model = np.arange(models + 30) < models
    split = split_clusters(np.arange(models + 30), shas(models + 30, seed), seed, has_model=has_model)
    counts = np.bincount(split[has_model], minlength=3)
    assert counts.min() >= 3


@pytest.mark.parametrize(("models", "expected"), [(1, (1, 0, 0)), (3, (1, 1, 1)), (4, (1, 1, 1))])
def test_few_models_still_give_train_first(models: int, expected: tuple[int, int, int]) -> None:
    for seed in range(20):
        split = split_clusters(np.arange(models), shas(models), seed, has_model=np.ones(models, dtype=bool))
        counts = np.bincount(split, minlength=3)
        assert all(got >= least for got, least in zip(counts, expected, strict=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_order_of_photographs_and_numbers_of_clusters_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = np.concatenate([np.arange(15), rng.integers(0, 15, 25)])
    digests, has_model = shas(40, seed), rng.random(15) < 0.8
    split = split_clusters(clusters, digests, seed, has_model=has_model)
    order, renamed = rng.permutation(40), rng.permutation(15)
    moved_models = np.empty(15, dtype=bool)
    moved_models[renamed] = has_model
    moved = split_clusters(renamed[clusters[order]], digests[order], seed, has_model=moved_models)
    np.testing.assert_array_equal(moved[renamed], split)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_new_clusters_move_none_without_any_memory(seed: int) -> None:
    """Stateless hashing gives this wherever the minimum of models is not at work."""
    digests = shas(60, seed)
    none = np.zeros(60, dtype=bool)
    before = split_clusters(np.arange(40), digests[:40], seed, has_model=none[:40])
    after = split_clusters(np.arange(60), digests, seed, has_model=none)
    np.testing.assert_array_equal(after[:40], before)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_a_growing_collection_never_moves_a_cluster_with_its_previous_splits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    digests = shas(90, seed)
    clusters = np.concatenate([np.arange(12), rng.integers(0, 12, 28)])
    before = split_clusters(clusters, digests[:40], seed, has_model=np.ones(12, dtype=bool))
    previous = PreviousSplits(digests[:40], clusters, before[clusters])
    renamed = rng.permutation(20)
    more = np.concatenate([clusters, np.arange(12, 20), rng.integers(0, 20, 42)])
    after = split_clusters(renamed[more], digests, seed, has_model=np.ones(20, dtype=bool), previous=previous)
    np.testing.assert_array_equal(after[renamed[:12]], before)


def test_a_merged_cluster_becomes_train() -> None:
    digests = shas(30)
    before = split_clusters(np.arange(30), digests, 0, has_model=np.ones(30, dtype=bool))
    val, test = np.flatnonzero(before == VAL)[0], np.flatnonzero(before == TEST)[0]
    merged = np.arange(30)
    merged[max(val, test)] = min(val, test)
    merged = np.unique(merged, return_inverse=True)[1]
    previous = PreviousSplits(digests, np.arange(30), before)
    after = split_clusters(merged, digests, 0, has_model=np.ones(29, dtype=bool), previous=previous)
    assert after[merged[val]] == TRAIN
    others = np.setdiff1d(np.arange(30), [val, test])
    np.testing.assert_array_equal(after[merged[others]], before[others])


def test_fractions_that_leave_no_train_are_an_error() -> None:
    with pytest.raises(BadSplit, match="leave nothing for train"):
        split_clusters(
            np.arange(3), shas(3), 0, has_model=np.ones(3, dtype=bool), val_fraction=0.5, test_fraction=0.5
        )


def test_clusters_without_photographs_are_an_error() -> None:
    with pytest.raises(BadSplit, match="4 clusters expected"):
        split_clusters(np.array([0, 1, 3]), shas(3), 0, has_model=np.ones(4, dtype=bool))
