"""A trunk by its name."""

from __future__ import annotations

from pathlib import Path

from retrieval.networks.normalisation import IMAGENET_MEAN, IMAGENET_STD, LITE_MEAN, LITE_STD
from retrieval.networks.options import BACKBONES, TIMM
from retrieval.networks.trunks import (
    Trunk,
    UnknownBackbone,
    _efficientnet_lite0,
    _torchvision,
)


def build_trunk(name: str, *, imagenet: bool, weights_file: Path | None = None) -> Trunk:
    """The trunk `name`; weights of a classification state dict, ImageNet, or drawn from torch's current
    generator.

    Raises UnknownBackbone, WeightsUnavailable (no network to download from, package not installed),
    WeightsMismatch.
    """
    imagenet = imagenet and weights_file is None
    if name.startswith(TIMM):
        from retrieval.networks.timm import timm_trunk

        return timm_trunk(name, imagenet, weights_file)
    if name not in BACKBONES:
        raise UnknownBackbone(f"backbone {name!r}: choose one of {', '.join(BACKBONES)}, or timm:NAME")
    if name == "efficientnet_lite0":
        trunk = Trunk(_efficientnet_lite0(imagenet, weights_file), BACKBONES[name], LITE_MEAN, LITE_STD)
    else:
        features = _torchvision(name, imagenet, weights_file)
        trunk = Trunk(features, BACKBONES[name], IMAGENET_MEAN, IMAGENET_STD)
    return trunk
