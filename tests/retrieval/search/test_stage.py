"""From a collection's descriptors in blocks to an index file."""

import numpy as np
import pytest
from pydantic import ValidationError

from retrieval.nearest.expansion import database_augmentation
from retrieval.nearest.topk import InvalidDescriptors
from retrieval.search.index import SearchIndex
from retrieval.search.stage import IndexingOptions, build_index
from retrieval.whitening.whitening import Whitening
from storage.hdf5.digests import content_sha256

SHAS = [f"{number:064x}" for number in range(50)]
NAMES = [f"{number}.jpg" for number in range(50)]


def rows():
    drawn = np.random.default_rng(0).normal(size=(50, 12))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def blocks():
    yield from np.split(rows(), [20, 40])


def made(tmp_path, **options):
    out = tmp_path / "index.h5"
    facts = build_index(
        blocks, NAMES, SHAS, IndexingOptions(**options), out=out, network="n" * 64, inputs=["i" * 64]
    )
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".whitening"] == ["index.h5"]
    return SearchIndex.load(out), facts


def test_raw_descriptors_are_those_of_the_blocks(tmp_path):
    index, facts = made(tmp_path)
    np.testing.assert_array_equal(index.descriptors, rows())
    assert index.names == tuple(NAMES) and index.sha256 == tuple(SHAS)
    assert (index.network, index.whitening, index.transform) == ("n" * 64, "", None)
    assert facts == {"recall": {"10": 1.0, "49": 1.0}}
    assert index.about["description"]["image_size"] == 480


def test_they_are_whitened_then_augmented(tmp_path):
    generator = np.random.default_rng(1)
    whitening = Whitening(generator.normal(size=12), generator.normal(size=(12, 12)))
    file = tmp_path / "a.whitening"
    whitening.save(file)
    index, _ = made(tmp_path, whitening=file, dimensions=5, augmentation_neighbours=3, augmentation_alpha=2.0)
    whitened = whitening.apply(rows(), 5)
    np.testing.assert_allclose(index.descriptors, database_augmentation(whitened, 3, 2.0), atol=1e-6)
    assert index.whitening == content_sha256(file) and index.about["augmentation"] == [3, 2.0]
    np.testing.assert_allclose(index.transform.apply(rows()), whitened, atol=1e-6)


def test_augmentation_by_more_neighbours_than_there_are(tmp_path):
    index, _ = made(tmp_path, augmentation_neighbours=500)
    np.testing.assert_allclose(index.descriptors, database_augmentation(rows(), 50, 3.0), atol=1e-6)


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_descriptors_are_named(tmp_path, count):
    def some():
        yield from list(blocks())[:count]

    with pytest.raises(InvalidDescriptors, match=r"(0|40) descriptors for 50 photographs"):
        build_index(some, NAMES, SHAS, IndexingOptions(), out=tmp_path / "a.h5", network="")
    assert list(tmp_path.iterdir()) == []


def test_dimensions_need_a_whitening():
    with pytest.raises(ValidationError, match="dimensions without a whitening"):
        IndexingOptions(dimensions=5)


def test_augmentation_into_a_given_array_is_the_same():
    out = np.empty((50, 12), np.float32)
    for k in (0, 4):
        assert database_augmentation(rows(), k, 3.0, out=out) is out
        np.testing.assert_array_equal(out, database_augmentation(rows(), k, 3.0))
