"""Ranking a database in blocks gives what one sort of everything gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.nearest.topk import InvalidDescriptors
from retrieval.official import ranking
from retrieval.official.ranking import InvalidRankLists, checked_ranks, listed_in, rank_database


def in_blocks(database, step):
    return lambda: (database[start : start + step] for start in range(0, len(database), step))


def full_lists(queries, database):
    return np.argsort(-(queries @ database.T), axis=1, kind="stable")


def test_by_hand():
    database = np.array([[0.1], [0.9], [0.5], [0.9]], np.float32)
    found = rank_database(np.ones((1, 1), np.float32), in_blocks(database, 3), 2, [np.array([3, 0])])
    assert found.ranks.tolist() == [[1, 3]]
    np.testing.assert_allclose(found.scores, [[0.9, 0.9]])
    positions, ids = found.listed[0]
    assert positions.tolist() == [1, 3] and ids.tolist() == [3, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 9), st.booleans())
def test_as_one_sort(seed, size, step, tied):
    generator = np.random.default_rng(seed)
    # whole numbers: products are exact, and ties are many where values are few
    database = generator.integers(0, 2 if tied else 1000, (size, 3)).astype(np.float32)
    queries = generator.integers(0, 3, (4, 3)).astype(np.float32)
    labelled = [np.flatnonzero(generator.random(size) < 0.4) for _ in queries]
    lists = full_lists(queries, database)
    found = rank_database(queries, in_blocks(database, step), min(5, size), labelled)
    np.testing.assert_array_equal(found.ranks, lists[:, :5])
    for (positions, ids), (wanted, names) in zip(found.listed, listed_in(lists, labelled), strict=True):
        np.testing.assert_array_equal(positions, wanted)
        np.testing.assert_array_equal(ids, names)


def test_small_blocks_of_scores_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    database, queries = generator.normal(size=(300, 8)), generator.normal(size=(7, 8))
    database, queries = database.astype(np.float32), queries.astype(np.float32)
    labelled = [generator.permutation(300)[:20] for _ in queries]
    whole = rank_database(queries, in_blocks(database, 300), 300, labelled)
    monkeypatch.setattr(ranking, "SCORES_PER_BLOCK", 7 * 16)
    parts = rank_database(queries, in_blocks(database, 32), 300, labelled)
    np.testing.assert_array_equal(whole.ranks, parts.ranks)
    for q, (positions, ids) in enumerate(parts.listed):
        np.testing.assert_array_equal(parts.ranks[q, positions], ids)
        assert set(ids) == set(labelled[q])


def test_listed_in_given_lists():
    ranks = np.array([[5, -1, 2, 9, 2], [0, 1, 2, 3, 4]])
    found = listed_in(ranks, [np.array([2, 5]), np.array([], int)])
    assert found[0][0].tolist() == [0, 2, 4] and found[0][1].tolist() == [5, 2, 2]
    assert found[1][0].size == 0
    assert [each[0].size for each in listed_in(ranks, [np.array([], int)] * 2)] == [0, 0]


def test_bad_input_is_named():
    queries = np.ones((1, 2), np.float32)
    with pytest.raises(InvalidDescriptors, match="differ in dimension"):
        rank_database(queries, lambda: [np.ones((3, 4), np.float32)], 1)
    with pytest.raises(InvalidDescriptors, match="nan"):
        rank_database(queries, lambda: [np.full((3, 2), np.nan, np.float32)], 1)
    with pytest.raises(InvalidDescriptors, match="no images"):
        rank_database(queries, lambda: [], 1)
    with pytest.raises(InvalidRankLists, match="best first"):
        checked_ranks(np.zeros((1, 3)), 1, None)
    with pytest.raises(InvalidRankLists, match="hold -2"):
        checked_ranks(np.array([[-2]]), 1, None)
    with pytest.raises(InvalidRankLists, match="hold 3"):
        checked_ranks(np.array([[3]]), 1, 3)
    assert checked_ranks(np.array([[3]]), 1, None).tolist() == [[3]]
