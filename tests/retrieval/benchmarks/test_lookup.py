"""Places of small ids in ranks, however the ranks lie in memory."""

import numpy as np
import pytest

from retrieval.benchmarks.lookup import places_up_to


def test_by_hand():
    ranks = np.array([[4, 0, -1, 2], [3, 5, 4, 9]])
    found = [(places.tolist(), ids.tolist()) for places, ids in places_up_to(ranks, 2)]
    assert found == [([1, 2, 3], [0, -1, 2]), ([], [])]


@pytest.mark.parametrize("largest", [-1, 0, 3, 11, 89])
@pytest.mark.parametrize("shape", [(1, 90), (3, 90), (4, 1), (2, 0), (0, 5)])
@pytest.mark.parametrize("cells", [1, 7, 1 << 22])
def test_columns_are_rows(monkeypatch, largest, shape, cells):
    monkeypatch.setattr("retrieval.benchmarks.lookup.CELLS_PER_PASS", cells)
    ranks = np.random.default_rng(largest + 1).integers(-1, 90, shape)
    found = list(places_up_to(np.asfortranarray(ranks), largest))
    assert len(found) == len(ranks)
    for row, (places, ids) in zip(ranks, found, strict=True):
        np.testing.assert_array_equal(places, np.flatnonzero(row <= largest))
        np.testing.assert_array_equal(ids, row[row <= largest])
