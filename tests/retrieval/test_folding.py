"""Folded BatchNorm computes the same function."""

import pytest
import torch
from torch import Tensor, nn

from retrieval.folding import fold_for_inference, follow_pairs
from retrieval.network_options import NetworkOptions
from retrieval.networks import build_network


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
