"""Poolings: a map of local features becomes one vector.

Functions and modules map [B, C, H, W] to [B, C]. Sources: MAC and R-MAC: Tolias et al., ICLR 2016; SPoC:
Babenko and Lempitsky, ICCV 2015; GeM: Radenovic et al., TPAMI 2018, sec. 3.2; region grid and epsilons: the
published code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

REGION_OVERLAP = 0.4  # wanted overlap of neighbouring regions along the longer side
MAX_LONG_STEPS = 7  # most regions along the longer side at the coarsest level
PLAIN_EXPONENT = 6.0  # up to this p, 1e-6^p is a normal float32 number


def l2_normalize(x: Tensor, eps: float = 1e-6) -> Tensor:
    """x / (||x|| + eps) over the channels.

    x: [D], [B, D] or [B, D, ...] -> the same shape; the norm is over dimension 1 (0 of a single vector).
    """
    return x / (torch.linalg.vector_norm(x, dim=min(1, x.ndim - 1), keepdim=True) + eps)


def mac(x: Tensor) -> Tensor:
    """Maximum of each channel. x: [B, C, H, W] -> [B, C]."""
    # max_pool2d, not amax: where several positions share the maximum the gradient goes to the first one only.
    return F.max_pool2d(x, _size(x)).flatten(1)


def spoc(x: Tensor) -> Tensor:
    """Mean of each channel. x: [B, C, H, W] -> [B, C]."""
    return F.avg_pool2d(x, _size(x)).flatten(1)


def gem(x: Tensor, p: float | Tensor = 3.0, eps: float = 1e-6) -> Tensor:
    """Generalised mean of each channel: (mean x^p)^(1/p), values below eps raised to eps.

    x: [B, C, H, W] -> [B, C]. p: a number, a tensor [1], or [C] for one exponent per channel. Above
    PLAIN_EXPONENT the maximum is taken out first, or powers of small and large values would become 0 and
    infinity, and gradients no numbers.
    """
    size = _size(x)
    exponent = p.view(-1, 1, 1) if isinstance(p, Tensor) else p
    raised = x.clamp(min=eps)
    scale = _maximum_taken_out(raised, exponent)
    return (scale * F.avg_pool2d((raised / scale).pow(exponent), size).pow(1.0 / exponent)).flatten(1)


def _maximum_taken_out(x: Tensor, exponent: float | Tensor) -> Tensor:
    """Per channel the maximum where the exponent is large, else 1 (changes no bit): [B or 1, C or 1, 1, 1].

    The mean is homogeneous, so that the scale needs no gradient.
    """
    largest = x.detach().amax(dim=(2, 3), keepdim=True)
    large = torch.as_tensor(exponent, device=x.device) > PLAIN_EXPONENT
    return torch.where(large, largest, torch.ones_like(largest))


def rmac(x: Tensor, levels: int = 3, eps: float = 1e-6) -> Tensor:
    """Sum of the L2-normalised MAC vectors of a grid of square regions and of the whole map.

    x: [B, C, H, W] -> [B, C], not normalised. Maps too small for a level simply have no regions there.
    """
    pooled = l2_normalize(mac(x), eps)
    for top, left, side in region_grid(*_size(x), levels):
        pooled = pooled + l2_normalize(mac(x[:, :, top : top + side, left : left + side]), eps)
    return pooled


def region_grid(height: int, width: int, levels: int = 3) -> list[tuple[int, int, int]]:
    """The square regions of R-MAC without the whole map, as (top, left, side) in cells, coarse to fine.

    Arithmetic in float32 as in the published code, so that the floors fall on the same cells.
    """
    short, long = min(height, width), max(height, width)
    steps = np.arange(2, MAX_LONG_STEPS + 1, dtype=np.float32)
    stride = np.float32(long - short) / (steps - np.float32(1))
    overlap = (np.float32(short**2) - np.float32(short) * stride) / np.float32(short**2)
    extra = int(np.argmin(np.abs(overlap - np.float32(REGION_OVERLAP)))) + 1
    extra_rows = extra if height > width else 0
    extra_columns = extra if width > height else 0
    regions = []
    for level in range(1, levels + 1):
        side = 2 * short // (level + 1)
        if side == 0:
            continue
        tops = _region_starts(height, side, level + extra_rows)
        lefts = _region_starts(width, side, level + extra_columns)
        regions += [(top, left, side) for top in tops for left in lefts]
    return regions


def _region_starts(length: int, side: int, count: int) -> list[int]:
    """First cells of `count` regions of `side` cells spread over `length` cells."""
    stride = np.float32(0 if count == 1 else (length - side) / (count - 1))
    half = np.float32(math.floor(side / 2 - 1))
    starts = np.floor(half + np.arange(count, dtype=np.float32) * stride) - half
    return [int(start) for start in starts]


class Plain(nn.Module):
    """Module form of a function [B, C, H, W] -> [B, C]."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class MAC(Plain):
    """Module form of `mac`."""

    def __init__(self) -> None:
        super().__init__(mac)


class SPoC(Plain):
    """Module form of `spoc`."""

    def __init__(self) -> None:
        super().__init__(spoc)


class GeM(nn.Module):
    """Generalised mean with a learnable exponent `p`: [1], or [per_channel] with one exponent per channel."""

    def __init__(self, p: float = 3.0, per_channel: int | None = None, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((per_channel or 1,), float(p)))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return gem(x, self.p, self.eps)

    def extra_repr(self) -> str:
        values = self.p.detach()
        return f"p={values.mean().item():.4f}, per_channel={len(values) if len(values) > 1 else None}"


class RMAC(nn.Module):
    """Module form of `rmac`."""

    def __init__(self, levels: int = 3, eps: float = 1e-6) -> None:
        super().__init__()
        self.levels = levels
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rmac(x, self.levels, self.eps)


class Regional(nn.Module):
    """Any pooling over R-MAC's regions: pool -> L2 -> [whitening -> L2] per region, sum over regions, L2.

    `rpool` pools a region [B, C, h, w] -> [B, C]; `whiten` is an optional Linear [C] -> [C']. The attribute
    names are those of the published checkpoints.
    """

    def __init__(self, pool: nn.Module, whitening: nn.Module | None = None, levels: int = 3) -> None:
        super().__init__()
        self.rpool = pool
        self.whiten = whitening
        self.levels = levels

    def forward(self, x: Tensor, aggregate: bool = True) -> Tensor:
        """x: [B, C, H, W] -> [B, C'], or the vectors of the regions [B, R, C'] with aggregate=False."""
        windows = [x] + [
            x[:, :, top : top + side, left : left + side]
            for top, left, side in region_grid(*_size(x), self.levels)
        ]
        regions = torch.stack([self.rpool(window) for window in windows], dim=1)
        flat = l2_normalize(regions.flatten(0, 1))
        if self.whiten is not None:
            flat = l2_normalize(self.whiten(flat))
        vectors = flat.view(len(x), len(windows), -1)
        return l2_normalize(vectors.sum(dim=1)) if aggregate else vectors


def _size(x: Tensor) -> tuple[int, int]:
    if x.ndim != 4 or x.shape[2] == 0 or x.shape[3] == 0:
        raise FeatureMapShape(
            f"feature map of shape {tuple(x.shape)}: poolings take [B, C, H, W] with H, W >= 1"
        )
    return cast(tuple[int, int], tuple(x.shape[2:]))


class FeatureMapShape(ValueError):
    """A pooling was given something that is not a non-empty [B, C, H, W] map."""
