"""ONNX: the graph computes what the network computes, on any size, and says what its input is."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from retrieval.describe.images import load_photograph, normalise
from retrieval.export.onnx import ExportMismatch, MissingPackage, check_onnx, export_onnx
from retrieval.networks.files import NetworkDescription
from retrieval.networks.network import RetrievalNetwork, build_network, initialise_whitening
from retrieval.networks.normalisation import IMAGENET_MEAN
from retrieval.networks.options import Backbone, NetworkOptions
from retrieval.networks.pooling import MAC, RMAC, GeM, Regional, SPoC
from retrieval.whitening.whitening import Whitening
from tests.official import official

onnx = pytest.importorskip("onnx", reason="needs the extra export")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")

COLLECTION = official("photos", "collection")


def photographs() -> list[NDArray[np.uint8]]:
    """Several shapes and sizes; real ones where they are there."""
    files = sorted(COLLECTION.glob("*.jpg"))[::120] if COLLECTION.is_dir() else []
    if files:
        return [load_photograph(f, size) for f, size in zip(files, (362, 97, 224, 301), strict=False)]
    generator = np.random.default_rng(0)
    shapes = ((97, 131), (160, 64), (200, 200))
    return [generator.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]


def tiny(pool: nn.Module, **layers: nn.Linear) -> RetrievalNetwork:
    """A trunk of two layers with eight channels, a map of a quarter of the photograph."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))
    return RetrievalNetwork(features, pool, NetworkDescription("tiny", 8), **layers)


def whitening(dimensions: int) -> Whitening:
    generator = np.random.default_rng(1)
    return Whitening(generator.normal(size=dimensions) * 0.1, generator.normal(size=(dimensions, dimensions)))


@pytest.mark.parametrize(
    "pool",
    [
        GeM(2.9),
        GeM(3.0, per_channel=8),
        MAC(),
        SPoC(),
        RMAC(),
        Regional(GeM(2.9), nn.Linear(8, 8)),
        Regional(MAC()),
    ],
    ids=repr,
)
def test_every_pooling_on_several_sizes(pool: nn.Module, tmp_path: Path) -> None:
    network = tiny(pool)
    export_onnx(network, tmp_path / "n.onnx")
    assert check_onnx(tmp_path / "n.onnx", network, photographs()) < 1e-5


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet18", "vgg16"])
def test_backbones_with_a_whitening_on_several_sizes(backbone: Backbone, tmp_path: Path) -> None:
    weights = "imagenet" if backbone == "efficientnet_lite0" else "random"
    network = build_network(NetworkOptions(backbone=backbone, weights=weights))
    chosen = whitening(network.description.dimension)
    export_onnx(network, tmp_path / "n.onnx", whitening=chosen, dimensions=64)
    used = {"whitening": chosen, "dimensions": 64}
    assert check_onnx(tmp_path / "n.onnx", network, photographs()[:2], **used) <= 1e-4  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "tokens"),
    [("timm:test_vit", "patches"), ("timm:vit_tiny_patch16_dinov3_qkvb", "both")],
    ids=["positions", "rotary"],
)
def test_vision_transformers_on_several_sizes(backbone: str, tokens: Any, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs the extra timm")
    network = build_network(NetworkOptions(backbone=backbone, tokens=tokens, weights="random"))
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "embed" in name or "token" in name:  # as large as learnt ones: they are close to 0
                value.normal_(generator=torch.Generator().manual_seed(0))
    export_onnx(network, tmp_path / "n.onnx")
    assert check_onnx(tmp_path / "n.onnx", network, photographs()[:2]) <= 1e-4


def test_layers_of_the_network_and_a_batch(tmp_path: Path) -> None:
    network = tiny(GeM(3), lwhiten=nn.Linear(8, 8))
    generator = np.random.default_rng(3)
    initialise_whitening(network, generator.normal(size=8) * 0.1, generator.normal(size=(5, 8)))
    export_onnx(network, tmp_path / "n.onnx", whitening=whitening(5))
    assert check_onnx(tmp_path / "n.onnx", network, photographs(), whitening=whitening(5)) < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx")
    batch = torch.rand(3, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = whitening(5).apply(network(batch).numpy())
    (found,) = session.run(None, {"photographs": batch.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_file_says_what_it_is_and_nothing_of_the_machine(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_onnx(tiny(RMAC()), tmp_path / name, whitening=whitening(8), dimensions=3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    session = onnxruntime.InferenceSession(tmp_path / "a")
    (photos,), (descriptors,) = session.get_inputs(), session.get_outputs()
    assert (photos.name, photos.shape) == ("photographs", ["batch", 3, "height", "width"])
    assert (descriptors.name, descriptors.shape) == ("descriptors", ["batch", 3])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["mean"]) == list(IMAGENET_MEAN) and json.loads(facts["dimension"]) == 3
    assert json.loads(facts["network"])["architecture"] == "tiny" and facts["whitened"] == "true"
    assert "(x / 255 - mean) / std" in facts["input"]
    assert str(Path(__file__).parents[3]).encode() not in (tmp_path / "a").read_bytes()
    assert b".py" not in (tmp_path / "a").read_bytes()


def test_a_graph_of_another_network_is_noticed(tmp_path: Path) -> None:
    export_onnx(tiny(MAC()), tmp_path / "n.onnx")
    with pytest.raises(ExportMismatch, match=r"n\.onnx: descriptors of a \d+ x \d+ photograph differ by"):
        check_onnx(tmp_path / "n.onnx", tiny(SPoC()), photographs()[:1])


def test_a_whitening_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="whitening of 7 dimensions"):
        export_onnx(tiny(MAC()), tmp_path / "n.onnx", whitening=whitening(7))
    with pytest.raises(ValueError, match="9 dimensions asked"):
        export_onnx(tiny(MAC()), tmp_path / "n.onnx", whitening=whitening(8), dimensions=9)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_names_the_extra(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    calls: dict[str, Any] = {"onnxruntime": lambda: check_onnx(tmp_path / "n", tiny(MAC()), [])}
    with pytest.raises(MissingPackage, match=rf"'{package}'; install retrieval-sfm\[export\]"):
        calls.get(package, lambda: export_onnx(tiny(MAC()), tmp_path / "n"))()


def test_normalise_is_the_documented_input() -> None:
    """The formula of the metadata, by hand on one pixel."""
    photograph = np.full((1, 1, 3), 51, np.uint8)
    found = normalise(photograph, (0.1, 0.2, 0.3), (0.5, 0.25, 0.1)).flatten().tolist()
    assert found == pytest.approx([0.2, 0.0, -1.0], abs=1e-6)
