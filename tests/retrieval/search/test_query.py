"""A query is described as the photographs of its index were, whole or in part."""

import numpy as np
import pytest
from PIL import Image

from retrieval.describe.describe import extract
from retrieval.describe.images import UnreadablePhotograph, load_photograph
from retrieval.networks.network import build_network
from retrieval.networks.options import NetworkOptions
from retrieval.search.index import SearchIndex, UnusableIndex
from retrieval.search.query import UnusableBox, check_box, describe_query
from retrieval.whitening.whitening import Whitening


@pytest.fixture(scope="module")
def network():
    return build_network(NetworkOptions(backbone="squeezenet1_1", weights="random", seed=1))


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """96 x 64 px as stored, 64 x 96 upright."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("query") / "é\n.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).resize((96, 64), Image.Resampling.BILINEAR).save(path, exif=exif)
    return path


def index_of(dimension=512, transform=None, **description):
    rows = np.eye(3, dimension, dtype=np.float32)
    about = {"description": {"image_size": 80, **description}}
    return SearchIndex.build(rows, ["a", "b", "c"], network="", transform=transform, about=about)


@pytest.mark.parametrize("scales", [[1.0], [1.0, 0.5]])
def test_the_whole_photograph_is_described_as_a_database_is(network, photograph, scales):
    expected = extract(network, [photograph], image_size=80, scales=scales)
    found = describe_query(network, index_of(scales=scales), photograph)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    whole = describe_query(network, index_of(scales=scales), photograph, (0, 0, 64, 96))
    np.testing.assert_allclose(whole, expected, atol=1e-6)


def test_a_part_is_the_crop_that_benchmarks_take(network, photograph):
    box = (8.0, 16.0, 56.0, 80.0)  # 48 x 64 of 64 x 96 px, limited to 80 * 64 / 96 px
    crop = load_photograph(photograph, 80, box)
    assert crop.shape == (53, 40, 3)
    found = describe_query(network, index_of(), photograph, box)
    np.testing.assert_allclose(found, extract(network, [crop], image_size=None), atol=1e-6)


def test_the_descriptor_is_whitened_as_the_index_was(network, photograph):
    generator = np.random.default_rng(0)
    whitening = Whitening(generator.normal(size=512), generator.normal(size=(16, 512)))
    found = describe_query(network, index_of(16, whitening), photograph)
    expected = whitening.apply(extract(network, [photograph], image_size=80))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "box", [(0, 0, 65, 96), (-1, 0, 10, 10), (5, 5, 5, 9), (9, 5, 5, 9), (0, 0, 64, 97), (np.nan, 0, 1, 1)]
)
def test_a_box_beside_the_photograph_is_refused(network, photograph, box):
    with pytest.raises(UnusableBox, match=r"of 64 x 96 px: give left,top,right,bottom"):
        describe_query(network, index_of(), photograph, box)
    check_box(photograph, (0, 0, 64, 96))


def test_another_network_and_unreadable_photographs_are_refused(network, photograph, tmp_path):
    with pytest.raises(UnusableIndex, match="the network gives 512 dimensions, the index was made from 100"):
        describe_query(network, index_of(100), photograph)
    with pytest.raises(UnusableIndex, match="this version does not know"):
        describe_query(network, index_of(colour="blue"), photograph)
    (tmp_path / "a.jpg").write_bytes(b"no photograph")
    for box in (None, (0, 0, 1, 1)):
        with pytest.raises(UnreadablePhotograph, match=r"a\.jpg"):
            describe_query(network, index_of(), tmp_path / "a.jpg", box)
