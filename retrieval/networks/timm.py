"""Trunks of the package timm: any of its networks that turns a photograph of any size into a map.

A convolutional network gives its last maps. A vision transformer gives its last tokens, normalised: a map of
the patches, or the class token. It takes photographs of any size and shape: they are padded at the bottom and
at the right to whole patches, so that no strip is lost, and the position embedding is interpolated to the
grid of the patches. The padding is 0 after normalisation, the mean colour of the network's training.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retrieval.networks.options import TIMM, Tokens
from retrieval.networks.trunks import (
    NoSuchTokens,
    Trunk,
    UnknownBackbone,
    WeightsUnavailable,
    load_classifier,
)

PROBE = (1, 3, 97, 131)
"""A photograph that is not square and no multiple of anything: fixed sizes show."""
ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}
"""What makes timm's transformers interpolate their position embedding and pad photographs."""


class TimmFeatures(nn.Module):
    """Maps of a timm network before its own pooling: [B, 3, H, W] -> [B, C, h, w]."""

    def __init__(self, body: nn.Module, channels_last: bool) -> None:
        super().__init__()
        self.body = body
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.body.forward_features(x)  # type: ignore[operator]
        return maps.permute(0, 3, 1, 2) if self.channels_last else maps


class TokenFeatures(nn.Module):
    """Tokens of a timm vision transformer as a map; register tokens are left out.

    [B, 3, H, W] -> "patches": [B, C, ceil(H / patch), ceil(W / patch)]; "class": [B, C, 1, 1]; "both":
    [B, C, 1, 1 + patches], the class token first. Values have both signs.
    """

    def __init__(self, body: nn.Module, tokens: Tokens) -> None:
        super().__init__()
        self.body = body
        self.tokens = tokens

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.body.forward_features(x)  # type: ignore[operator]
        if isinstance(self.body.norm, nn.Identity):  # timm's classifiers of a mean normalise after it
            tokens = self.body.fc_norm(tokens)  # type: ignore[operator]
        patches = tokens[:, self.body.num_prefix_tokens :]  # type: ignore[misc]
        if self.tokens == "patches":
            height, width = self.body.patch_embed.dynamic_feat_size(x.shape[2:])  # type: ignore[operator,union-attr]
            return patches.transpose(1, 2).unflatten(2, (height, width))
        chosen = tokens[:, :1] if self.tokens == "class" else torch.cat((tokens[:, :1], patches), dim=1)
        return chosen.transpose(1, 2).unsqueeze(2)


def timm_trunk(name: str, imagenet: bool, weights_file: Path | None, tokens: Tokens = "patches") -> Trunk:
    """The trunk `timm:NAME`; its mean and std are those that timm states for its weights.

    Raises UnknownBackbone (no such name, or no network of maps), NoSuchTokens, WeightsUnavailable (timm is
    not installed, weights cannot be had), WeightsMismatch.
    """
    body = _created(name, imagenet)
    features = _features(name, body, tokens)
    dimension = _channels(name, features)
    if weights_file is not None:
        load_classifier(body, features, weights_file)
    from timm.data import resolve_model_data_config

    stated = resolve_model_data_config(body)
    mean, std = (tuple(float(value) for value in stated[key]) for key in ("mean", "std"))
    return Trunk(features, dimension, mean, std)


def _created(name: str, imagenet: bool) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise WeightsUnavailable(
            f"backbone {name!r} needs the package timm; install retrieval-sfm[timm]"
        ) from error
    model = name.removeprefix(TIMM)
    if not timm.is_model(model):
        nearest = difflib.get_close_matches(model, timm.list_models(), n=3)
        hint = f"; near: {', '.join(TIMM + each for each in nearest)}" if nearest else ""
        raise UnknownBackbone(f"backbone {name!r}: timm has no network {model!r}{hint}")
    try:
        any_size: dict[str, Any] = dict(ANY_SIZE)
        try:
            found: nn.Module = timm.create_model(model, pretrained=imagenet, num_classes=0, **any_size)
        except TypeError as error:  # of convolutional networks, which have no such arguments
            if not any(argument in str(error) for argument in ANY_SIZE):
                raise
            found = timm.create_model(model, pretrained=imagenet, num_classes=0, global_pool="")
    except Exception as error:  # of timm, of the hub, of the network: all say that there are no weights
        reason = " ".join(str(error).split())[:300]
        raise WeightsUnavailable(
            f"backbone {name!r}: timm could not make it with its weights ({reason}); connect once, give "
            "network.weights_file, or use efficientnet_lite0"
        ) from error
    return found


def _features(name: str, body: nn.Module, tokens: Tokens) -> nn.Module:
    """What makes the map of a network. Raises NoSuchTokens."""
    patches = getattr(body, "patch_embed", None)
    transformer = hasattr(body, "num_prefix_tokens") and hasattr(patches, "dynamic_feat_size")
    if tokens != "patches" and not (transformer and getattr(body, "cls_token", None) is not None):
        raise NoSuchTokens.of(name, tokens)
    if not transformer:
        return TimmFeatures(body, getattr(body, "output_fmt", "NCHW") == "NHWC")
    if getattr(body, "attn_pool", None) is not None:
        setattr(body, "attn_pool", None)  # noqa: B010  SigLIP's own pooling, for the type of a module
    return TokenFeatures(body, tokens)


def _channels(name: str, features: nn.Module) -> int:
    """Channels of the maps. Raises UnknownBackbone where there are no maps, or for one size only."""
    was_training = features.training
    remedy = (
        "choose a convolutional network, or a vision transformer of timm's class VisionTransformer or Eva"
    )
    try:
        with torch.no_grad():
            maps = features.eval()(torch.zeros(PROBE))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnknownBackbone(
            f"backbone {name!r} does not take photographs of any size ({reason}); {remedy}"
        ) from error
    finally:
        features.train(was_training)
    if maps.ndim != 4:
        raise UnknownBackbone(
            f"backbone {name!r} gives {tuple(maps.shape)} for a photograph, not a map [B, C, h, w]; {remedy}"
        )
    return int(maps.shape[1])
