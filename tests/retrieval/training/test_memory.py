"""The last descriptors as further negatives."""

from typing import Any

import numpy as np

from retrieval.training.memory import Memory


def world() -> dict[str, Any]:
    """Clusters: 0 = images 0, 1; 1 = images 2, 3; 2 = images 4, 5; image 6 is alone and not cleared."""
    return {
        "images/cluster": np.array([0, 0, 1, 1, 2, 2, 3]),
        "queries/image": np.arange(6),
        "negatives/image": np.array([4]),
        "negatives/cluster": np.array([0]),
        "negatives/allowed": np.array([False]),
    }


def unit(*angles: float) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_what_is_no_negative_is_left_out() -> None:
    memory = Memory(100)
    memory.know(world(), np.array([0]))
    anchors = unit(0, 0.5)
    assert len(memory.negatives_of(np.array([0, 1]), anchors)) == 0
    # of query 0: 1 is its cluster, 4 is refused, 6 needs a verdict, 2 is in the tuple, 3 is nearer than 1
    memory.add(np.array([[1, 2, 3, 4, 5, 6]]), [unit(0.1, 1.0, 0.4, 2.0, 1.5, 2.5)])
    np.testing.assert_array_equal(memory.negatives_of(np.array([0, 1, 2]), anchors), unit(1.5))
    assert len(memory.negatives_of(np.array([0, 1, 2, 5]), anchors)) == 0
    far = memory.negatives_of(np.array([0, 1, 2]), unit(0, 0.3, 0.45))  # the farther positive counts
    np.testing.assert_array_equal(far, unit(1.5))
    np.testing.assert_array_equal(memory.negatives_of(np.array([0, 1, 2]), unit(0, 0.3)), unit(0.4, 1.5))


def test_the_newest_of_each_photograph_and_only_so_many() -> None:
    memory = Memory(3)
    memory.add(np.array([[0, 1], [2, 0]]), [unit(0, 1), unit(2, 3)])
    assert memory.images.tolist() == [1, 2, 0]
    np.testing.assert_array_equal(memory.rows, unit(1, 2, 3))
    memory.add(np.array([[5, 1]]), [unit(4, 5)])
    assert memory.images.tolist() == [0, 5, 1]
    np.testing.assert_array_equal(memory.rows, unit(3, 4, 5))


def test_it_goes_on_from_what_was_kept() -> None:
    memory, other = Memory(3), Memory(3)
    memory.add(np.array([[0, 2, 5]]), [unit(0, 1, 2)])
    other.restore(memory.images, memory.rows)
    for each in (memory, other):
        each.add(np.array([[3]]), [unit(7)])
    assert memory.images.tolist() == other.images.tolist() == [2, 5, 3]
    np.testing.assert_array_equal(memory.rows, other.rows)
