import numpy as np
import pytest
from scipy.sparse import coo_array

from retrieval.learning.mining import TooFewClusters, hard_negatives, random_negatives
from tests.official import needs, official

ORACLES = official("oracles", "mining")


def plain(queries, pool, query_clusters, pool_clusters, count, one_per_cluster=True, forbidden=None):
    """The walk of the reference, one candidate at a time."""
    chosen = []
    for q, order in enumerate(np.argsort(-(queries @ pool.T), axis=1, kind="stable")):
        taken, seen = [], {query_clusters[q]}
        for p in order:
            if pool_clusters[p] in seen or (forbidden is not None and forbidden[q, p]):
                continue
            taken.append(p)
            if one_per_cluster:
                seen.add(pool_clusters[p])
        chosen.append(taken[:count])
    return np.array(chosen)


def collection(seed, num_queries=40, num_pool=500, num_clusters=30):
    """Integer descriptors: products are exact and full of ties."""
    generator = np.random.default_rng(seed)
    queries = generator.integers(-2, 3, size=(num_queries, 3)).astype(np.float32)
    pool = generator.integers(-2, 3, size=(num_pool, 3)).astype(np.float32)
    return (
        queries,
        pool,
        generator.integers(num_clusters + 3, size=num_queries),
        generator.integers(num_clusters, size=num_pool),
    )


def test_by_hand():
    query = np.array([[1, 0]], dtype=np.float32)
    pool = np.array([[0.9, 0], [0.8, 0], [0.7, 0], [0.6, 0], [1, 0]], dtype=np.float32)
    clusters = [1, 1, 2, 3, 0]
    np.testing.assert_array_equal(hard_negatives(query, pool, [0], clusters, 2), [[0, 2]])
    np.testing.assert_array_equal(
        hard_negatives(query, pool, [0], clusters, 2, one_per_cluster=False), [[0, 1]]
    )
    forbidden = np.array([[True, False, True, False, False]])
    np.testing.assert_array_equal(
        hard_negatives(query, pool, [0], clusters, 2, forbidden=forbidden), [[1, 3]]
    )


@needs(ORACLES)
@pytest.mark.parametrize("name", ["basic", "neg1"])
def test_oracle(name):
    case = np.load(ORACLES / f"{name}.npz", allow_pickle=False)
    vectors, clusters, pool = case["vecs"].T, case["cluster"], case["drawn_pool"]
    queries = case["qidxs"]
    chosen = hard_negatives(
        vectors[queries], vectors[pool], clusters[queries], clusters[pool], int(case["nnum"])
    )
    np.testing.assert_array_equal(pool[chosen], case["nidxs"])
    assert chosen.dtype == np.int64


@pytest.mark.parametrize("one_per_cluster", [True, False])
@pytest.mark.parametrize("block", [1, 3000, 10**7])
def test_equals_the_walk_with_ties_and_refill(one_per_cluster, block, monkeypatch):
    monkeypatch.setattr("retrieval.learning.mining.SCORES_PER_BLOCK", block)
    monkeypatch.setattr("retrieval.learning.mining.FIRST_LOOK", 1)
    for seed in range(3):
        case = collection(seed)
        forbidden = np.random.default_rng(seed).random((40, 500)) < 0.3
        for barred in (None, forbidden):
            wanted = plain(*case, 20, one_per_cluster, barred)
            given = None if barred is None else coo_array(barred)
            found = hard_negatives(*case, 20, one_per_cluster=one_per_cluster, forbidden=given)
            np.testing.assert_array_equal(found, wanted)


def test_one_cluster_fills_the_pool_but_for_its_tail():
    # 5 negatives need a look below 995 photographs of one cluster
    pool = np.linspace(1, 0, 1000, dtype=np.float32)[:, None]
    clusters = np.r_[np.full(996, 1), 2, 3, 4, 5]
    found = hard_negatives(np.ones((2, 1), dtype=np.float32), pool, [0, 0], clusters, 5)
    np.testing.assert_array_equal(found, [[0, 996, 997, 998, 999]] * 2)


def test_too_few_is_said_before_any_product():
    class NoProduct(np.ndarray):
        def __matmul__(self, other):
            raise AssertionError("a product was computed")

    queries = np.ones((2, 3), dtype=np.float32).view(NoProduct)
    pool = np.ones((4, 3), dtype=np.float32)
    with pytest.raises(TooFewClusters, match=r"query 1 \(cluster 5\): 2 other clusters .* 3 negatives"):
        hard_negatives(queries, pool, [9, 5], [5, 5, 6, 7], 3)
    with pytest.raises(TooFewClusters, match="2 photographs of other clusters"):
        hard_negatives(queries, pool, [9, 5], [5, 5, 6, 7], 3, one_per_cluster=False)
    with pytest.raises(TooFewClusters, match=r"query 0 .*: 0 other clusters"):
        hard_negatives(queries, pool[:0], [9, 5], [], 1)
    forbidden = np.zeros((2, 4), dtype=bool)
    forbidden[0, 2] = forbidden[1, :2] = True  # query 0 loses cluster 6; query 1 only its own
    with pytest.raises(TooFewClusters, match=r"query 0 .*: 2 other clusters"):
        hard_negatives(queries, pool, [9, 8], [5, 5, 6, 7], 3, forbidden=forbidden)
    hard_negatives(np.asarray(queries), pool, [9, 5], [5, 5, 6, 7], 2, forbidden=forbidden)


def test_an_empty_pool_has_too_few():
    queries, pool = np.ones((2, 3), dtype=np.float32), np.empty((0, 3), dtype=np.float32)
    for one_per_cluster in (True, False):
        with pytest.raises(TooFewClusters, match=r"query 0 .*: 0 .* 1 negatives asked"):
            hard_negatives(queries, pool, [9, 5], [], 1, one_per_cluster=one_per_cluster)
        assert hard_negatives(queries, pool, [9, 5], [], 0, one_per_cluster=one_per_cluster).shape == (2, 0)


def test_bad_shapes():
    pool = np.ones((4, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="one label per row"):
        hard_negatives(pool, pool, [0], [0, 1, 2, 3], 1)
    with pytest.raises(ValueError, match="forbidden is"):
        hard_negatives(pool, pool, range(4), range(4), 1, forbidden=np.zeros((1, 4), dtype=bool))
    with pytest.raises(ValueError, match="same dimension"):
        hard_negatives(pool[:, :2], pool, range(4), range(4), 1)
    with pytest.raises(ValueError, match="check the descriptors"):
        hard_negatives(pool * np.nan, pool, range(4), range(4), 1)


def test_random_negatives_reach_all_that_is_allowed_alike() -> None:
    pool = np.array([0, 1, 1, 2, 3, 3])
    barred = np.zeros((400, 6), dtype=bool)
    barred[:, 4] = True
    generator = np.random.default_rng(0)
    found = random_negatives(generator, np.zeros(400, dtype=int), pool, 2, forbidden=barred)
    assert (pool[found[:, 0]] != pool[found[:, 1]]).all()
    assert set(np.unique(found)) == {1, 2, 3, 5}
    counts = np.bincount(found[:, 0], minlength=6)[[1, 2, 3, 5]]
    assert counts.min() > 70 and counts.max() < 130
    twice = [
        random_negatives(np.random.default_rng(1), [0, 1], pool, 2, one_per_cluster=False) for _ in range(2)
    ]
    np.testing.assert_array_equal(*twice)
    with pytest.raises(TooFewClusters):
        random_negatives(generator, [0], pool, 4)
