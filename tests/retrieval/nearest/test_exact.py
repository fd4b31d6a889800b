"""Exact search against a full sort and faiss, in every arithmetic of the screening."""

import faiss
import numpy as np
import pytest

from retrieval.nearest import exact
from retrieval.nearest.exact import search
from retrieval.nearest.topk import InvalidDescriptors


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def drawn(seed, count, dimension=32, mean=0.5):
    return unit(np.random.default_rng(seed).normal(mean, 1, size=(count, dimension)))


@pytest.fixture(params=["fine", "coarse"])
def arithmetic(request, monkeypatch):
    """Screening in float32, and in bfloat16 whether the processor has it or emulates it."""
    monkeypatch.setattr(exact, "COARSE_FROM", 1 if request.param == "coarse" else 10**9)
    monkeypatch.setattr(exact, "COARSE_QUERIES", 1)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True, raising=False)
    return request.param


@pytest.mark.parametrize("k", [1, 10, 100])
def test_equals_faiss(arithmetic, k, monkeypatch):
    database, queries = drawn(0, 5000), drawn(1, 7)
    monkeypatch.setattr(exact, "ROWS_BYTES", 700 * 4 * 32)
    flat = faiss.IndexFlatIP(32)
    flat.add(database)
    expected_scores, expected = flat.search(queries, k)
    scores, ranks = search(database, queries, k)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    told = np.abs(np.diff(np.sort(queries @ database.T, axis=1)[:, -k:][:, ::-1])) > 1e-6
    apart = np.pad(told, ((0, 0), (1, 0)), constant_values=True) & np.pad(
        told, ((0, 0), (0, 1)), constant_values=True
    )
    assert apart.mean() > 0.9  # where the neighbours in the list differ by more than rounding
    np.testing.assert_array_equal(ranks[apart], expected[apart])


def test_scores_and_ranks_depend_on_no_block_and_no_arithmetic(monkeypatch):
    database, queries = drawn(0, 3000), drawn(1, 5)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(exact, "COARSE_QUERIES", 1)
    found = []
    for coarse_from in (1, 10**9):
        for rows in (60, 1000, 10**6):
            monkeypatch.setattr(exact, "COARSE_FROM", coarse_from)
            monkeypatch.setattr(exact, "ROWS_BYTES", rows * 4 * 32)
            monkeypatch.setattr(exact, "COARSE_BYTES", 100 * 4 * 32)
            found.append(search(database, queries, 50))
    for scores, ranks in found[1:]:
        np.testing.assert_array_equal(scores, found[0][0])
        np.testing.assert_array_equal(ranks, found[0][1])


def test_differences_far_below_bfloat16_are_told_apart(arithmetic):
    # 1000 rows within 1e-4 of each other, in a random order: 8 bits see one value
    order = np.random.default_rng(0).permutation(1000)
    database = np.ones((1000, 2), dtype=np.float32)
    database[:, 0] += order * np.float32(1e-7 * 2)
    _, ranks = search(database, np.array([[1, 0], [-1, 0]], dtype=np.float32), 30)
    by_value = np.argsort(-database[:, 0], kind="stable")
    np.testing.assert_array_equal(ranks[0], by_value[:30])
    np.testing.assert_array_equal(ranks[1], np.argsort(database[:, 0], kind="stable")[:30])


def test_equal_rows_stand_in_their_order(arithmetic, monkeypatch):
    monkeypatch.setattr(exact, "ROWS_BYTES", 50 * 4 * 8)
    database = np.tile(drawn(0, 1, 8), (500, 1))
    np.testing.assert_array_equal(search(database, database[:2], 60)[1], np.tile(np.arange(60), (2, 1)))


def test_the_bound_of_bfloat16_holds(monkeypatch):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True, raising=False)
    generator = np.random.default_rng(0)
    queries = generator.normal(size=(20, 300)).astype(np.float32) * 7
    block = generator.normal(size=(400, 300)).astype(np.float32)
    queries[0], block[0] = 1 + 2**-8, 1 + 2**-8  # every factor halfway between two numbers of 8 bits
    screen = exact._coarse(queries, 10**6)
    scores, error = screen(block)
    exactly = queries.astype(np.float64) @ block.T.astype(np.float64)
    worst = np.abs(scores - exactly).max(axis=1)
    assert (worst <= error).all() and (worst > error / 1000).all()


def test_lengths_of_rows_may_differ_by_orders(arithmetic):
    generator = np.random.default_rng(0)
    database = (drawn(0, 2000) * 10.0 ** generator.uniform(-4, 4, (2000, 1))).astype(np.float32)
    queries = drawn(1, 4)
    ranks = search(database, queries, 20)[1]
    products = queries.astype(np.float64) @ database.T.astype(np.float64)
    np.testing.assert_array_equal(ranks, np.argsort(-products, axis=1)[:, :20])


def test_products_too_small_for_full_precision(arithmetic):
    database, queries = drawn(0, 300) * np.float32(1e-20), drawn(1, 2) * np.float32(1e-18)
    ranks = search(database, queries, 300)[1]
    np.testing.assert_array_equal(np.sort(ranks, axis=1), np.tile(np.arange(300), (2, 1)))
    best = search(database, queries, 5)
    np.testing.assert_array_equal(best[1], ranks[:, :5])


def test_products_beyond_float32_are_refused(arithmetic):
    with pytest.raises(InvalidDescriptors, match="nan or infinite"), np.errstate(over="ignore"):
        search(drawn(0, 300) * np.float32(1e18), drawn(1, 2) * np.float32(1e22), 5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_wherever_they_stand(arithmetic, value, monkeypatch):
    monkeypatch.setattr(exact, "ROWS_BYTES", 100 * 4 * 32)
    for position in (3, 777):
        database = drawn(0, 1000)
        database[position, 5] = value
        with pytest.raises(InvalidDescriptors, match="nan or infinite"):
            search(database, drawn(1, 2), 3)
    queries = drawn(1, 2)
    queries[1, 1] = value
    with pytest.raises(InvalidDescriptors, match="nan or infinite"):
        search(drawn(0, 1000), queries, 3)


def test_an_empty_or_too_small_database_is_named():
    with pytest.raises(InvalidDescriptors, match=r"k is 1; the database holds 0"):
        search(np.empty((0, 4), np.float32), drawn(0, 1, 4), 1)
    for found in search(drawn(0, 3, 4), np.empty((0, 4), np.float32), 2):
        assert found.shape == (0, 2)
