import re

import numpy as np
import pytest

from retrieval.nearest.expansion import alpha_query_expansion, database_augmentation
from tests.official import needs, official

ORACLE = official("oracles", "alpha_qe", "dirtorch_small.npz")


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
