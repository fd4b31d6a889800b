"""Aggregated local features: words, residuals, and that a photograph's vector is its own."""

import numpy as np
import pytest

from sfm.pairing import aggregation
from sfm.pairing.aggregation import AggregationOptions, DamagedCodebook, aggregated, codebook, root, vlad
from tests.sfm.feature_scenes import make_place, write_places

OPTIONS = AggregationOptions(features=120)


def test_residuals_by_hand():
    """Two words; two descriptors at the first, whose residuals are (0.5, 0) and (-0.25, 0.25), none at the
    second."""
    words = np.array([[0, 0], [10, 0]], np.float32)
    rows = np.array([[0.5, 0], [-0.25, 0.25]], np.float32)
    expected = np.array([0.25, 0.25, 0, 0]) / np.sqrt(2 * 0.25**2)
    np.testing.assert_allclose(vlad(rows, words), expected, rtol=1e-6)


def test_every_word_weighs_the_same():
    words = np.array([[0, 0], [10, 0]], np.float32)
    rows = np.array([[3, 0], [10, 0.5]], np.float32)
    np.testing.assert_allclose(vlad(rows, words), np.array([1, 0, 0, 1]) / np.sqrt(2), rtol=1e-6)


def test_no_descriptors_give_zero():
    assert not vlad(np.empty((0, 2), np.float32), np.ones((3, 2), np.float32)).any()


def test_root_is_the_hellinger_kernel():
    a, b = np.random.default_rng(0).integers(0, 255, (2, 128)).astype(np.uint8)
    expected = np.sqrt(a / a.sum() * (b / b.sum())).sum()
    product = root(a[None]) @ root(b[None]).T
    assert product.item() == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(root(np.zeros((1, 128), np.uint8))).all()


def test_words_are_as_many_unlike_ones():
    words = codebook()
    assert words.shape == (64, 128) and np.isfinite(words).all()
    distance = np.linalg.norm(words[:, None] - words[None], axis=2) + 9 * np.eye(64)
    assert distance.min() > 0.05


def test_own_place_is_nearest(tmp_path):
    places = [make_place(f"place{n}", 4) for n in range(3)]
    files = write_places(tmp_path / "f.h5", *places)
    names = sorted(files)
    vectors = aggregated(names, files, OPTIONS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    place_of = {sha: number for number, place in enumerate(places) for sha in place.groups}
    similarity = vectors @ vectors.T - 2 * np.eye(len(names), dtype=np.float32)
    near = [place_of[names[column]] for column in similarity.argmax(axis=1)]
    assert near == [place_of[name] for name in names]


def test_a_vector_is_the_photographs_own(tmp_path):
    """More photographs change no vector."""
    files = write_places(tmp_path / "f.h5", make_place("a", 3), make_place("b", 3))
    few = sorted(files)[1:3]
    np.testing.assert_array_equal(
        aggregated(few, files, OPTIONS), aggregated(sorted(files), files, OPTIONS)[1:3]
    )


def test_damaged_codebook_is_refused(monkeypatch):
    codebook.cache_clear()
    monkeypatch.setattr(aggregation, "CODEBOOK_SHA256", "0" * 64)
    with pytest.raises(DamagedCodebook, match=r"codebook\.npy"):
        codebook()
    monkeypatch.undo()
    codebook.cache_clear()
