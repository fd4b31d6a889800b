"""Trunks of timm: maps of any size, their own normalisation, files; what is no trunk is refused."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from retrieval.networks.build_trunk import build_trunk
from retrieval.networks.network import build_network, load_network, save_network
from retrieval.networks.options import NetworkOptions
from retrieval.networks.trunks import UnknownBackbone, WeightsMismatch, WeightsUnavailable
from retrieval.training.options import TrainingOptions

PHOTO = torch.rand(1, 3, 70, 101, generator=torch.Generator().manual_seed(0))
NAME = "timm:resnet18"


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(WeightsUnavailable, match=r"'timm:resnet18' needs the package timm; .*\[timm\]"):
        build_trunk(NAME, imagenet=False)


def test_the_margin_is_that_of_the_architecture() -> None:
    assert TrainingOptions().margin_for("timm:resnet101") == 0.85
    assert TrainingOptions().margin_for("timm:convnext_atto") == 0.95


class TestInstalled:
    """With timm, and without a network to download from."""

    @pytest.fixture(autouse=True)
    def timm(self) -> Any:
        return pytest.importorskip("timm", reason="needs the extra timm")

    @pytest.mark.parametrize(("name", "dimension"), [(NAME, 512), ("timm:convnext_atto", 320)])
    def test_maps_and_normalisation(self, name: str, dimension: int) -> None:
        network = build_network(NetworkOptions(backbone=name, weights="random"))
        assert network.description.dimension == dimension
        assert network.description.mean == (0.485, 0.456, 0.406)
        with torch.no_grad():
            assert network.features(PHOTO).shape[:2] == (1, dimension)
            assert torch.linalg.vector_norm(network(PHOTO)).item() == pytest.approx(1, abs=1e-4)

    def test_it_is_the_network_of_torchvision(self, tmp_path: Path) -> None:
        """An oracle: timm's resnet18 with torchvision's weights gives torchvision's maps."""
        from torchvision.models import resnet18

        torch.manual_seed(0)
        torch.save(resnet18().state_dict(), tmp_path / "w.pth")
        with torch.no_grad():
            ours, theirs = (
                build_trunk(name, imagenet=False, weights_file=tmp_path / "w.pth").features.eval()(PHOTO)
                for name in (NAME, "resnet18")
            )
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)

    def test_a_network_survives_its_file(self, tmp_path: Path) -> None:
        network = build_network(NetworkOptions(backbone=NAME, weights="random", seed=3))
        save_network(network, tmp_path / "n.safetensors")
        with torch.no_grad():
            again = load_network(tmp_path / "n.safetensors")(PHOTO)
            torch.testing.assert_close(again, network(PHOTO), rtol=0, atol=0)
        from_file = build_network(NetworkOptions(backbone=NAME, weights_file=tmp_path / "n.safetensors"))
        assert from_file.description == network.description

    def test_what_is_no_trunk_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownBackbone, match=r"has no network 'resnet_18'; near: .*timm:resnet18"):
            build_trunk("timm:resnet_18", imagenet=False)
        with pytest.raises(UnknownBackbone, match=r"photographs of any size|not a map"):
            build_trunk("timm:mixer_s16_224", imagenet=False)
        torch.save({"other": torch.zeros(2)}, tmp_path / "w.pth")
        with pytest.raises(WeightsMismatch, match="none of its 1 tensors"):
            build_trunk(NAME, imagenet=False, weights_file=tmp_path / "w.pth")

    def test_weights_that_cannot_be_had(self, timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def offline(*arguments: object, **more: object) -> None:
            raise OSError("no route\nto host")

        monkeypatch.setattr(timm, "create_model", offline)
        with pytest.raises(WeightsUnavailable, match=r"no route to host.*efficientnet_lite0"):
            build_network(NetworkOptions(backbone=NAME))
