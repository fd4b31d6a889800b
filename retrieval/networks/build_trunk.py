"""A trunk by its name."""

from __future__ import annotations

from pathlib import Path

from retrieval.networks.normalisation import IMAGENET_MEAN, IMAGENET_STD, LITE_MEAN, LITE_STD
from retrieval.networks.options import BACKBONES, LITE, TIMM, Tokens
from retrieval.networks.trunks import (
    NoSuchTokens,
    Trunk,
    UnknownBackbone,
    _torchvision,
    efficientnet_lite,
)


def build_trunk(
    name: str, *, imagenet: bool, weights_file: Path | None = None, tokens: Tokens = "patches"
) -> Trunk:
    """The trunk `name`; weights of a classification state dict, ImageNet, or drawn from torch's current
    generator.

    tokens: of a vision transformer, see NetworkOptions. Raises UnknownBackbone, NoSuchTokens,
    WeightsUnavailable (no network to download from, package not installed), WeightsMismatch.
    """
    imagenet = imagenet and weights_file is None
    if name.startswith(TIMM):
        from retrieval.networks.timm import timm_trunk

        return timm_trunk(name, imagenet, weights_file, tokens)
    if name not in BACKBONES:
        raise UnknownBackbone(f"backbone {name!r}: choose one of {', '.join(BACKBONES)}, or timm:NAME")
    if tokens != "patches":
        raise NoSuchTokens.of(name, tokens)
    if name in LITE:
        features = efficientnet_lite(name, imagenet, weights_file)
        trunk = Trunk(features, BACKBONES[name], LITE_MEAN, LITE_STD)
    else:
        features = _torchvision(name, imagenet, weights_file)
        trunk = Trunk(features, BACKBONES[name], IMAGENET_MEAN, IMAGENET_STD)
    return trunk
