import re

import numpy as np
import pytest

from retrieval.nearest.expansion import (
    Reranking,
    alpha_query_expansion,
    database_augmentation,
    rerank_by_neighbours,
    reranked,
)
from tests.official import needs, official

ORACLE = official("oracles", "alpha_qe", "dirtorch_small.npz")
SUPERGLOBAL = official("oracles", "superglobal", "m100_k9.npz")


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@needs(ORACLE)
def test_oracle(monkeypatch):
    monkeypatch.setattr("retrieval.nearest.expansion.SCORES_PER_BLOCK", 150)
    case = np.load(ORACLE, allow_pickle=False)
    checked = 0
    for name in case.files:
        if found := re.fullmatch(r"(qe|dba)_k(\d+)_a(\d+)", name):
            k, alpha = int(found[2]), float(found[3])
            result = (
                alpha_query_expansion(case["q"], case["db"], k, alpha)
                if found[1] == "qe"
                else database_augmentation(case["db"], k, alpha)
            )
            np.testing.assert_allclose(result, case[name], atol=1e-12)
            checked += 1
    assert checked == 14


def test_by_hand():
    queries = np.array([[1.0, 0.0]])
    database = np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    # (1, 0) + 0.8^2 (0.8, 0.6) = (1.512, 0.384)
    expected = unit(np.array([[1.512, 0.384]]))
    np.testing.assert_allclose(alpha_query_expansion(queries, database, 1, 2.0), expected)
    # without the first row: (1, 0) + 0.6^2 (0.6, 0.8)
    left = alpha_query_expansion(queries, database, 1, 2.0, leave_out=np.array([0]))
    np.testing.assert_allclose(left, unit(np.array([[1.216, 0.288]])))


def test_rotation_does_not_matter_and_nothing_is_changed_in_place():
    generator = np.random.default_rng(0)
    queries, database = unit(generator.normal(size=(6, 8))), unit(generator.normal(size=(40, 8)))
    rotation = np.linalg.qr(generator.normal(size=(8, 8)))[0]
    copies = queries.copy(), database.copy()
    turned = alpha_query_expansion(queries @ rotation, database @ rotation, 7, 3.0)
    np.testing.assert_allclose(turned, alpha_query_expansion(queries, database, 7, 3.0) @ rotation)
    database_augmentation(database, 7, 3.0)
    np.testing.assert_array_equal(queries, copies[0])
    np.testing.assert_array_equal(database, copies[1])
    np.testing.assert_array_equal(alpha_query_expansion(queries, database, 0, 3.0), queries)


def test_fractional_alpha_and_zero_vectors_stay_finite():
    database = np.array([[-1.0, 0.0], [0.0, 0.0]])
    queries = np.array([[1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(alpha_query_expansion(queries, database, 2, 0.5), queries)
    assert alpha_query_expansion(queries.astype(np.float32), database, 2, 1).dtype == np.float32


def test_bad_input_is_named():
    database = np.eye(3)
    with pytest.raises(ValueError, match=r"k is 0\.\.3"):
        alpha_query_expansion(database, database, 4, 1)
    with pytest.raises(ValueError, match=r"k is 0\.\.2"):
        alpha_query_expansion(database, database, 3, 1, leave_out=np.arange(3))
    with pytest.raises(ValueError, match="alpha -1"):
        database_augmentation(database, 1, -1)
    for expand in (alpha_query_expansion, lambda _, *asked: database_augmentation(*asked)):
        with pytest.raises(ValueError, match="alpha nan"):
            expand(database, database, 1, np.nan)
    with pytest.raises(ValueError, match="same dimension"):
        alpha_query_expansion(np.eye(2), database, 1, 1)


@needs(SUPERGLOBAL)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_reranking_is_superglobals(kind):
    case = np.load(SUPERGLOBAL, allow_pickle=False)
    queries, database = case["queries"].astype(kind), case["database"].astype(kind)
    settings = {"top": int(case["M"]), "neighbours": int(case["K"]), "beta": float(case["beta"])}
    before = case["ranks"].copy()
    np.testing.assert_array_equal(
        rerank_by_neighbours(queries, database, before, **settings), case["final_ranks"]
    )
    np.testing.assert_array_equal(before, case["ranks"])


def plainly_reranked(query, database, row, top, neighbours, beta):
    """The definition, image by image."""
    head, means = list(row[:top]), {}
    for image in head:
        similar = sorted(
            (other for other in head if other != image), key=lambda o: -database[image] @ database[o]
        )
        weights = {image: 1.0} | {o: beta * (database[image] @ database[o]) for o in similar[:neighbours]}
        means[image] = sum(w * database[o] for o, w in weights.items()) / sum(weights.values())
    best = sorted(head, key=lambda image: -means[image] @ query)[: neighbours + 1]
    joined = np.max([means[image] for image in best], axis=0)
    return sorted(head, key=lambda image: -(means[image] @ query + means[image] @ joined)) + list(row[top:])


@pytest.mark.parametrize(("top", "neighbours"), [(1, 1), (7, 0), (7, 3), (12, 12), (100, 30)])
def test_reranking_by_its_definition(top, neighbours):
    generator = np.random.default_rng(5)
    database, queries = unit(generator.normal(size=(30, 6))), unit(generator.normal(size=(4, 6)))
    ranks = np.argsort(-(queries @ database.T), axis=1)[:, :25]
    found = rerank_by_neighbours(queries, database, ranks, top=top, neighbours=neighbours, beta=0.4)
    expected = [
        plainly_reranked(query, database, row, top, neighbours, 0.4)
        for query, row in zip(queries, ranks, strict=True)
    ]
    np.testing.assert_array_equal(found, expected)
    order = generator.permutation(30)  # names of images mean nothing
    moved = rerank_by_neighbours(
        queries, database[order], np.argsort(order)[ranks], top=top, neighbours=neighbours, beta=0.4
    )
    np.testing.assert_array_equal(order[moved], found)


def test_reranking_refuses_what_cannot_be_compared():
    vectors = unit(np.random.default_rng(0).normal(size=(5, 3)))
    ranks = np.arange(5)[None]
    with pytest.raises(ValueError, match="one row for each of 2"):
        rerank_by_neighbours(vectors[:2], vectors, ranks)
    with pytest.raises(ValueError, match="none of the 4"):
        rerank_by_neighbours(vectors[:1], vectors[:4], ranks)
    with pytest.raises(ValueError, match=r"M \(top\) 0.*M is 1 or more"):
        rerank_by_neighbours(vectors[:1], vectors, ranks, top=0)
    with pytest.raises(ValueError, match="nan"):
        rerank_by_neighbours(vectors[:1], np.where(vectors > 0, np.nan, vectors), ranks)
    assert rerank_by_neighbours(vectors[:0], vectors, ranks[:0]).shape == (0, 5)
    with pytest.raises(ValueError, match=r"M \(top\) 4, K \(neighbours\) 5.*K 0\.\.M"):
        rerank_by_neighbours(vectors[:1], vectors, ranks, top=4, neighbours=5)
    with pytest.raises(ValueError, match="beta nan"):
        rerank_by_neighbours(vectors[:1], vectors, ranks, beta=np.nan)
    with pytest.raises(ValueError, match=r"scores \(1, 4\)"):
        reranked(vectors[:1], vectors, ranks, np.zeros((1, 4)), **dict(Reranking()))
    for wrong in ({"top": 0}, {"top": 4, "neighbours": 5}, {"beta": np.inf}, {"beta": -1}):
        with pytest.raises(ValueError, match="1 validation error"):
            Reranking(**wrong)


def test_reranking_by_hand():
    """M = 3, K = 1, beta = 1. The nearest, 0, is the neighbour of both others, of 1 with 0.6, of 2 with 0.8;
    its own is 2. Means: (0.8, -0.92 / 1.8), (0.86, 0.27), (0.76, -1.024 / 1.8). Of the first similarities,
    0.8, 0.86, 0.76, the best two join the query as (0.86, 0.27); the second are 0.55, 0.8125, 0.5."""
    query = np.array([[1.0, 0.0]])
    database = np.array([[0.96, -0.28], [0.8, 0.6], [0.6, -0.8], [0.0, 1.0]])
    how = {"top": 3, "neighbours": 1, "beta": 1.0}
    scores, ranks = reranked(query, database, np.arange(4)[None], query @ database.T, **how)
    np.testing.assert_array_equal(ranks, [[1, 0, 2, 3]])
    np.testing.assert_allclose(scores, [[0.83625, 0.675, 0.63, 0.0]])
    # the last one's similarity would be above what was made of the others: they are not below it
    scores, ranks = reranked(query, database, np.arange(4)[None], np.array([[0.96, 0.8, 0.66, 0.65]]), **how)
    np.testing.assert_allclose(scores, [[0.83625, 0.675, 0.65, 0.65]])


def test_a_querys_own_photograph_keeps_its_place_and_takes_no_part():
    generator = np.random.default_rng(3)
    database = unit(generator.normal(size=(30, 6)))
    queries, own = database[[4, 9, 2]], np.array([4, 9, -1])
    scores = queries @ database.T
    ranks = np.argsort(-scores, axis=1)
    how = {"top": 12, "neighbours": 3, "beta": 0.4}
    found_scores, found = reranked(
        queries, database, ranks, np.take_along_axis(scores, ranks, axis=1), leave_out=own, **how
    )
    for q, image in enumerate(own[:2]):
        rest = [rank for rank in ranks[q] if rank != image]
        assert found[q, 0] == image
        np.testing.assert_array_equal(found[q, 1:], plainly_reranked(queries[q], database, rest, 12, 3, 0.4))
    plain = rerank_by_neighbours(queries[2:], database, ranks[2:], **how)
    np.testing.assert_array_equal(found[2:], plain)
    assert (np.diff(found_scores, axis=1) <= 0).all()


def test_only_the_first_rows_of_a_database_are_read():
    vectors = unit(np.random.default_rng(1).normal(size=(50, 4)))
    ranks = np.argsort(-(vectors[:2] @ vectors.T), axis=1)
    read = np.unique(ranks[:, :8])
    hidden = np.full_like(vectors, np.nan)
    hidden[read] = vectors[read]
    how = {"top": 8, "neighbours": 3}
    np.testing.assert_array_equal(
        rerank_by_neighbours(vectors[:2], hidden, ranks, **how),
        rerank_by_neighbours(vectors[:2], vectors, ranks, **how),
    )
