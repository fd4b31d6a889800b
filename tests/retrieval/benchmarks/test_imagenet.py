import numpy as np
import pytest

from retrieval.benchmarks.imagenet import knn_accuracy
from tests.official import needs, official

ORACLE = official("oracles", "knn_imagenet", "random.npz")


@needs(ORACLE)
def test_oracle(monkeypatch):
    monkeypatch.setattr("retrieval.benchmarks.imagenet.QUERIES_PER_BLOCK", 130)
    case = np.load(ORACLE, allow_pickle=False)
    ks = tuple(int(k) for k in case["ks"])
    arrays = (case[name] for name in ("train", "train_y", "test", "test_y"))
    found = knn_accuracy(*arrays, ks, float(case["T"]))
    np.testing.assert_allclose([found[k] for k in ks], case["top1_top5_percent"], atol=1e-9)


def test_votes_are_weighted_by_similarity():
    train = np.array([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]], dtype=np.float32)
    test = np.array([[1.0, 0.0]], dtype=np.float32)
    # one neighbour of class 1 at similarity 1 against two of class 0 at 0.6: wins iff exp(0.4/T) > 2
    assert knn_accuracy(train, [1, 0, 0], test, [1], ks=(3,), temperature=0.07) == {3: (100.0, 100.0)}
    assert knn_accuracy(train, [1, 0, 0], test, [1], ks=(3,), temperature=1.0) == {3: (0.0, 100.0)}


def test_order_of_the_training_set_does_not_matter():
    generator = np.random.default_rng(0)
    train, test = generator.normal(size=(90, 8)), generator.normal(size=(20, 8))
    train, test = ((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (train, test))
    labels, wanted = generator.integers(6, size=90), generator.integers(6, size=20)
    order = generator.permutation(90)
    first = knn_accuracy(train, labels, test, wanted, ks=(10, 50))
    assert first == knn_accuracy(train[order], labels[order], test, wanted, ks=(10, 50))


def test_bad_input_is_named():
    train = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="labels for 3, 3 rows"):
        knn_accuracy(train, [0, 1], train, [0, 1, 2], ks=(1,))
    with pytest.raises(ValueError, match="k is 4"):
        knn_accuracy(train, [0, 1, 2], train, [0, 1, 2], ks=(4,))
    with pytest.raises(ValueError, match="integers from 0"):
        knn_accuracy(train, [0.0, 1.5, 2.0], train, [0, 1, 2], ks=(1,))
    with pytest.raises(ValueError, match="integers from 0"):
        knn_accuracy(train, [-1, 1, 2], train, [0, 1, 2], ks=(1,))
