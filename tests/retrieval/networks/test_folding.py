"""Folded BatchNorm computes the same function."""

import pytest
import torch
from torch import Tensor, nn

from retrieval.networks.folding import fold_for_inference, follow_pairs, round_for_bfloat16
from retrieval.networks.network import build_network
from retrieval.networks.options import NetworkOptions


def shaken(network: nn.Module) -> nn.Module:
    """Statistics and affine parameters that are not those of a fresh layer."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.8, 1.2),
                (module.bias.data, -0.1, 0.1),
            ):
                tensor.uniform_(low, high, generator=generator)
    return network


@pytest.mark.parametrize(
    ("backbone", "weights"), [("resnet18", "random"), ("efficientnet_lite0", "imagenet")]
)
def test_folded_networks_agree_and_have_no_norm_left(backbone: str, weights: str) -> None:
    network = build_network(NetworkOptions(backbone=backbone, weights=weights))  # type: ignore[arg-type]
    if weights == "random":
        shaken(network)
    photo = torch.randn(2, 3, 70, 93, generator=torch.Generator().manual_seed(1))
    folded = fold_for_inference(network)
    with torch.no_grad():
        torch.testing.assert_close(folded(photo), network(photo), atol=2e-6, rtol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_norms_elsewhere_stay() -> None:
    network = shaken(
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))
    ).eval()
    assert follow_pairs(network) == []
    photo = torch.randn(1, 3, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(fold_for_inference(network)(photo), network(photo))


def test_a_convolution_used_twice_is_not_folded() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 3, 1)
            self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.convolution(self.first(self.convolution(x))))

    network = shaken(Shared()).eval()
    assert follow_pairs(network) == []


def test_where_folding_would_change_the_function_it_is_not_done() -> None:
    class Peeking(nn.Module):
        """Uses the output of the convolution beside the norm."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.convolution(x)
            return self.norm(maps) + 3 * maps

    network = shaken(Peeking()).eval()
    assert len(follow_pairs(network)) == 1
    folded = fold_for_inference(network)
    photo = torch.randn(1, 3, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(folded(photo), network(photo))
    assert isinstance(folded.norm, nn.BatchNorm2d)


def in_bfloat16(network: nn.Module, photo: Tensor) -> Tensor:
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        return network(photo)


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
def test_weights_rounded_once_give_the_same_bits(backbone: str) -> None:
    network = shaken(build_network(NetworkOptions(backbone=backbone, weights="random")))
    photo = torch.randn(1, 3, 70, 93, generator=torch.Generator().manual_seed(1))
    folded, rounded = fold_for_inference(network), round_for_bfloat16(fold_for_inference(network))
    assert torch.equal(in_bfloat16(rounded, photo), in_bfloat16(folded, photo))
    kinds = {m.weight.dtype for m in rounded.modules() if isinstance(m, nn.Conv2d)}
    assert kinds == {torch.bfloat16}
    assert next(network.parameters()).dtype == torch.float32


def test_weights_that_are_used_in_full_precision_are_not_rounded() -> None:
    class Standardised(nn.Conv2d):
        """Its weights have no mean."""

        def forward(self, x: Tensor) -> Tensor:
            mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
            return nn.functional.conv2d(x, 100 * (self.weight - mean), self.bias)

    network = Standardised(3, 4, 3).eval().requires_grad_(False)
    assert round_for_bfloat16(network).weight.dtype == torch.float32
