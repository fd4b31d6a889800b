"""Descriptors: scales, batches, chunks; the published extraction's numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from retrieval.describe.chunk import extract_chunk
from retrieval.describe.compute import DeviceUnavailable
from retrieval.describe.describe import (
    DescriptorTable,
    PhotographTooSmall,
    SignedDescriptors,
    _batches,
    describe_scales,
    extract,
)
from retrieval.describe.images import UnreadablePhotograph, load_photograph, normalise
from retrieval.describe.options import STAGE, ExtractionOptions, ExtractionResources
from retrieval.networks.files import NetworkDescription
from retrieval.networks.network import RetrievalNetwork, build_network, save_network
from retrieval.networks.options import NetworkOptions
from retrieval.networks.pooling import GeM
from storage.hdf5 import file as hdf5
from tests.official import needs, official

ORACLE = official("oracles", "extract", "tiny_gem.npz")
RESOURCES = ExtractionResources(device="cpu", threads=1)


@pytest.fixture(scope="module")
def network() -> RetrievalNetwork:
    return build_network(NetworkOptions(backbone="resnet18", weights="random"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    paths = []
    for number, size in enumerate([(60, 80), (80, 60), (60, 80), (90, 90), (60, 80)]):
        pixels = generator.integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).resize(size).save(paths[-1])
    return paths


def test_rows_are_the_networks_descriptors(network: RetrievalNetwork, photos: list[Path]) -> None:
    found = extract(network, photos, image_size=64)
    assert found.shape == (5, 512) and found.dtype == np.float32
    description = network.description
    with torch.no_grad():
        for row, path in zip(found, photos, strict=True):
            expected = network(normalise(load_photograph(path, 64), description.mean, description.std))[0]
            np.testing.assert_allclose(row, expected, atol=2e-6)


def test_paths_and_arrays_are_the_same(network: RetrievalNetwork, photos: list[Path]) -> None:
    arrays = [load_photograph(path, None) for path in photos]
    np.testing.assert_array_equal(
        extract(network, arrays, image_size=64), extract(network, photos, image_size=64)
    )


def test_a_descriptor_does_not_depend_on_its_companions(
    network: RetrievalNetwork, photos: list[Path]
) -> None:
    together = extract(network, photos, image_size=64, batch_size=4)
    for position, path in enumerate(photos):
        np.testing.assert_array_equal(extract(network, [path], image_size=64)[0], together[position])


def test_a_descriptor_does_not_depend_on_threads(photos: list[Path]) -> None:
    """With this network one pass on two threads differs from one on one in the last bit."""
    network = build_network(NetworkOptions(backbone="squeezenet1_1", weights="random"))
    before = torch.get_num_threads()
    one = extract(network, photos, image_size=64, threads=1)
    for threads in (2, 3, None):
        np.testing.assert_array_equal(extract(network, photos, image_size=64, threads=threads), one)
    assert torch.get_num_threads() == before


def test_the_network_is_left_as_it_was(network: RetrievalNetwork, photos: list[Path]) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    extract(network, photos[:1], image_size=64)
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_bfloat16_points_the_same_way(network: RetrievalNetwork, photos: list[Path]) -> None:
    exact = extract(network, photos, image_size=64)
    fast = extract(network, photos, image_size=64, precision="bfloat16")
    cosine = (exact * fast).sum(axis=1)
    assert fast.dtype == np.float32 and (cosine > 0.99).all() and (cosine < 1 - 1e-9).any()


def test_progress_and_errors(network: RetrievalNetwork, photos: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    extract(network, photos, image_size=64, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 5) for done in range(1, 6)]
    (tmp_path / "bad.jpg").write_text("x")
    with pytest.raises(UnreadablePhotograph, match=r"bad\.jpg"):
        extract(network, [*photos, tmp_path / "bad.jpg"], image_size=64)
    with pytest.raises(DeviceUnavailable, match="cuda:99"):
        extract(network, photos, image_size=64, device="cuda:99")
    assert extract(network, [], image_size=64).shape == (0, 512)


def test_a_photograph_of_which_nothing_is_left_is_named(network: RetrievalNetwork, tmp_path: Path) -> None:
    Image.new("RGB", (200, 1)).save(tmp_path / "line.png")
    assert np.isfinite(extract(network, [tmp_path / "line.png"], image_size=None)).all()
    with pytest.raises(PhotographTooSmall, match=r"line\.png' is described at 200 x 1 px times 0\.5.*leave"):
        extract(network, [tmp_path / "line.png"], image_size=None, scales=(1.0, 0.5))

    def broken(x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] > 100:
            raise RuntimeError("out of order")
        return x

    faulty = RetrievalNetwork(nn.Conv2d(3, 4, 1), GeM(3.0), NetworkDescription("x", 4))
    faulty.features.register_forward_pre_hook(lambda _, inputs: (broken(inputs[0]),))
    with pytest.raises(RuntimeError, match=r"^out of order"):
        extract(faulty, [np.zeros((200, 200, 3), np.uint8)], image_size=None)


def test_scales_by_hand() -> None:
    class Fake(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.6, 0.8]]) if x.shape[-1] == 8 else torch.tensor([[0.8, 0.6]])

    photo = torch.zeros(1, 3, 8, 8)
    mean = describe_scales(Fake(), photo, (1, 0.5))
    torch.testing.assert_close(mean, torch.tensor([[1.0, 1.0]]) / 2**0.5)
    torch.testing.assert_close(describe_scales(Fake(), photo, (1,)), torch.tensor([[0.6, 0.8]]))


def test_fractional_powers_of_negative_values_are_refused_and_never_needed() -> None:
    features = nn.Conv2d(3, 4, 3)
    signed = RetrievalNetwork(
        features, GeM(2.5), NetworkDescription("x", 4, whitening=True), whiten=nn.Linear(4, 4)
    )
    photo = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    with pytest.raises(SignedDescriptors, match=r"2\.5"):
        describe_scales(lambda x: -signed(x).abs(), photo, (1, 0.5), 2.5)  # type: ignore[arg-type]
    assert signed.scale_exponent == 1
    plain = RetrievalNetwork(features, GeM(2.5), NetworkDescription("x", 4))
    assert plain.scale_exponent == 2.5


def test_batches_wait_for_equal_sizes_but_not_forever() -> None:
    sizes = [4, 8, 4, 4, 8, 6] + [4] * 30
    tensors = [torch.full((1, 3, size, size), float(position)) for position, size in enumerate(sizes)]
    served: list[int] = []
    for positions, batch in _batches(iter(tensors), 3):
        assert len(positions) == len(batch) <= 3
        assert [int(value) for value in batch[:, 0, 0, 0]] == positions
        served += positions
    assert sorted(served) == list(range(len(sizes)))


def test_table_by_image() -> None:
    table = DescriptorTable(np.array([2, 5, 9]), np.eye(3, dtype=np.float32))
    np.testing.assert_array_equal(table[np.array([9, 2])], np.eye(3)[[2, 0]])
    np.testing.assert_array_equal(table[5], [0, 1, 0])
    assert table.holds(np.array([2, 9])) and not table.holds(np.array([2, 3]))


def test_chunk_is_a_file_of_items(network: RetrievalNetwork, photos: list[Path], tmp_path: Path) -> None:
    save_network(network, tmp_path / "n.safetensors")
    options = ExtractionOptions(image_size=64)
    items = [(f"{number:064x}", path) for number, path in enumerate(photos)]
    whole = extract_chunk(
        tmp_path / "n.safetensors", items, options, out=tmp_path / "a.h5", resources=RESOURCES
    )
    part = extract_chunk(
        tmp_path / "n.safetensors",
        items[3:],
        options,
        out=tmp_path / "b.h5",
        input_digests={items[3][0]: "f" * 64},
        resources=RESOURCES.model_copy(update={"loader_threads": 0}),
    )
    assert (
        part["items"][items[3][0]]["input"] == "f" * 64 and part["items"][items[4][0]]["input"] == items[4][0]
    )
    for item, _ in items[3:]:
        assert part["items"][item]["content"] == whole["items"][item]["content"]
    stored = hdf5.read(tmp_path / "a.h5", "descriptors")
    rows = np.stack([stored[f"{item}/global_descriptor"] for item, _ in items])
    np.testing.assert_array_equal(rows, extract(network, photos, image_size=64, threads=1))
    assert STAGE.schema_name == "descriptors"


@pytest.mark.parametrize("scales", [(), (1.0, 1.0), (1.0, -0.5), (0.0,)])
def test_senseless_scales_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="scales"):
        ExtractionOptions(scales=scales)


@needs(ORACLE)
def test_the_published_extraction() -> None:
    oracle = np.load(ORACLE)
    features = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
    prefix = "w.features."
    features.load_state_dict(
        {
            name.removeprefix(prefix): torch.from_numpy(oracle[name])
            for name in oracle.files
            if name.startswith(prefix)
        }
    )
    exponent = float(oracle["w.pool.p"][0])
    network = RetrievalNetwork(features, GeM(exponent), NetworkDescription("tiny", 16))
    assert network.scale_exponent == pytest.approx(exponent)
    sets = {"sqrt_half": (1, 2**-0.5, 0.5), "up": (1, 2**0.5, 2**-0.5), "one_scale_not_1": (0.5,)}
    for number in range(3):
        photo = torch.from_numpy(oracle[f"x{number}"])
        with torch.no_grad():
            np.testing.assert_allclose(network.features(photo), oracle[f"x{number}_features"], atol=1e-5)
            np.testing.assert_allclose(network(photo)[0], oracle[f"x{number}_ss"], atol=1e-5)
            for name, scales in sets.items():
                for power in (1, 2.92):
                    found = describe_scales(network, photo, scales, power)[0]
                    np.testing.assert_allclose(found, oracle[f"x{number}_ms_{name}_msp{power}"], atol=1e-5)
