"""Trunks of the package timm: any of its networks that turns a photograph of any size into a map."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
from torch import Tensor, nn

from retrieval.networks.options import TIMM
from retrieval.networks.trunks import Trunk, UnknownBackbone, WeightsUnavailable, load_classifier

PROBE = (1, 3, 96, 128)
"""A photograph that is not square: fixed sizes and tokens show."""


class TimmFeatures(nn.Module):
    """Maps of a timm network before its own pooling: [B, 3, H, W] -> [B, C, h, w]."""

    def __init__(self, body: nn.Module, channels_last: bool) -> None:
        super().__init__()
        self.body = body
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.body.forward_features(x)  # type: ignore[operator]
        return maps.permute(0, 3, 1, 2) if self.channels_last else maps


def timm_trunk(name: str, imagenet: bool, weights_file: Path | None) -> Trunk:
    """The trunk `timm:NAME`; its mean and std are those that timm states for its weights.

    Raises UnknownBackbone (no such name, or no network of maps), WeightsUnavailable (timm is not installed,
    weights cannot be had), WeightsMismatch.
    """
    body = _created(name, imagenet)
    features = TimmFeatures(body, getattr(body, "output_fmt", "NCHW") == "NHWC")
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
        found: nn.Module = timm.create_model(model, pretrained=imagenet, num_classes=0, global_pool="")
    except Exception as error:  # of timm, of the hub, of the network: all say that there are no weights
        reason = " ".join(str(error).split())[:300]
        raise WeightsUnavailable(
            f"backbone {name!r}: timm could not make it with its weights ({reason}); connect once, give "
            "network.weights_file, or use efficientnet_lite0"
        ) from error
    return found


def _channels(name: str, features: TimmFeatures) -> int:
    """Channels of the maps. Raises UnknownBackbone where there are no maps, or for one size only."""
    was_training = features.training
    try:
        with torch.no_grad():
            maps = features.eval()(torch.zeros(PROBE))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnknownBackbone(
            f"backbone {name!r} does not take photographs of any size ({reason}); "
            "choose a convolutional network"
        ) from error
    finally:
        features.train(was_training)
    if maps.ndim != 4:
        raise UnknownBackbone(
            f"backbone {name!r} gives {tuple(maps.shape)} for a photograph, not a map [B, C, h, w]; choose a "
            "convolutional network"
        )
    return int(maps.shape[1])
