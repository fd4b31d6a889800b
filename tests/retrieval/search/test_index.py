import numpy as np
import pytest

from retrieval.nearest.topk import top_k
from retrieval.search.index import InvalidDescriptors, SearchIndex, UnusableIndex, search


def plain(database, queries, k):
    scores = queries @ database.T
    ranks = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, ranks, axis=1), ranks


def test_by_hand():
    database = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
    scores, ranks = search(database, np.array([[2, 1]], dtype=np.float32), 2)
    np.testing.assert_array_equal(ranks, [[2, 0]])
    np.testing.assert_array_equal(scores, [[3, 2]])
    assert ranks.dtype == np.int64 and scores.dtype == np.float32


@pytest.mark.parametrize("k", [1, 7, 100, 257])
def test_equals_a_full_sort_with_ties(k, monkeypatch):
    # small integers: hundreds of exact ties, and float32 products are exact
    generator = np.random.default_rng(k)
    database = generator.integers(-2, 3, size=(257, 3)).astype(np.float32)
    queries = generator.integers(-2, 3, size=(11, 3)).astype(np.float32)
    expected = plain(database, queries, k)
    for block in (1, 500, 10**7):
        monkeypatch.setattr("retrieval.nearest.exact.SCORES_PER_BLOCK", block)
        for found, wanted in zip(search(database, queries, k), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_top_k_of_minus_infinity():
    scores = np.array([[-np.inf, 1, -np.inf, -np.inf]], dtype=np.float32)
    np.testing.assert_array_equal(top_k(scores, 3)[1], [[1, 0, 2]])


def test_database_may_be_a_memory_map(tmp_path):
    database = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    np.save(tmp_path / "database.npy", database)
    mapped = np.load(tmp_path / "database.npy", mmap_mode="r")
    np.testing.assert_array_equal(search(mapped, database[:4], 5)[1], plain(database, database[:4], 5)[1])


def test_bad_input_is_named():
    database = np.ones((4, 3), dtype=np.float32)
    with pytest.raises(InvalidDescriptors, match="k is 5; the database holds 4"):
        search(database, database, 5)
    with pytest.raises(InvalidDescriptors, match="same dimension"):
        search(database, np.ones((2, 2), dtype=np.float32), 1)
    for value in (np.nan, np.inf):
        broken = database.copy()
        broken[2, 1] = value
        with pytest.raises(InvalidDescriptors, match="check the descriptors"):
            search(broken, database, 2)


def small_index():
    descriptors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    names = ["a.jpg", "é/b c.jpg", "", "line\nbreak.jpg", "z.jpg"]
    return SearchIndex.build(descriptors, names, network="n" * 64, whitening="w" * 64)


def test_index_gives_names_and_survives_the_disk(tmp_path):
    index = small_index()
    index.save(tmp_path / "index.h5")
    loaded = SearchIndex.load(tmp_path / "index.h5", network="n" * 64, whitening="w" * 64)
    assert loaded.names == index.names
    np.testing.assert_array_equal(loaded.descriptors, index.descriptors)
    scores, names = loaded.query(index.descriptors[:2], 5)
    ranks = plain(index.descriptors, index.descriptors[:2], 5)[1]
    assert names == [[index.names[position] for position in row] for row in ranks]
    assert scores.shape == (2, 5) and [file.name for file in tmp_path.iterdir()] == ["index.h5"]


def test_index_of_something_else_is_refused_by_name(tmp_path):
    path = tmp_path / "index.h5"
    small_index().save(path)
    with pytest.raises(UnusableIndex, match="made with network 'nnnnnnnnnnnn', not network 'mmmmmmmmmmmm'"):
        SearchIndex.load(path, network="m" * 64)
    with pytest.raises(UnusableIndex, match="made with whitening"):
        SearchIndex.load(path, whitening="")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UnusableIndex, match=r"index\.h5' is no readable index"):
        SearchIndex.load(path)
    with pytest.raises(UnusableIndex, match="no readable index"):
        SearchIndex.load(tmp_path / "nothing")
    with pytest.raises(InvalidDescriptors, match="for 1 names"):
        SearchIndex.build(np.ones((2, 3), dtype=np.float32), ["a"], network="n")
