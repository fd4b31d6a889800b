import numpy as np
import pytest

from retrieval.official.linear_probe import linear_probe


def clouds(seed, count=120, classes=3):
    """Rows around one corner per class, in blocks of uneven size."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=count)
    return (np.eye(8)[labels] + 0.1 * generator.normal(size=(count, 8))).astype(np.float32), labels


def test_classes_that_a_plane_divides_are_told():
    train, labels = clouds(0)
    test, wanted = clouds(1)
    best = linear_probe(lambda: np.array_split(train, 7), labels, test, epochs=20, num_classes=3)
    assert best.shape == (120, 3)
    np.testing.assert_array_equal(best[:, 0], wanted)
    np.testing.assert_array_equal(np.sort(best, axis=1), np.tile([0, 1, 2], (120, 1)))


def test_twice_the_same_and_units_do_not_matter():
    train, labels = clouds(2)
    test, _ = clouds(3)

    def probe(factor):
        return linear_probe(lambda: [factor * train], labels, factor * test, epochs=3, num_classes=3, seed=5)

    np.testing.assert_array_equal(probe(1), probe(1))
    np.testing.assert_array_equal(probe(1)[:, 0], probe(1000)[:, 0])


def test_a_dimension_that_train_does_not_use_decides_nothing():
    train, labels = clouds(4)
    test, wanted = clouds(5)
    train[:, 7], test[:, 7] = 0.5, 0.5 + np.linspace(-0.02, 0.02, len(test))
    train[0, 7] += 1e-6
    best = linear_probe(lambda: [train], labels, test, epochs=100, num_classes=3)
    assert (best[:, 0] == wanted).mean() > 0.95


@pytest.mark.parametrize("classes", [2, 6])
def test_five_classes_at_most(classes):
    train, labels = clouds(6, classes=classes)
    assert linear_probe(lambda: [train], labels, train[:4], epochs=1, num_classes=classes).shape == (
        4,
        min(5, classes),
    )
