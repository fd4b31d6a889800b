"""R-MAC's regions for a map whose size is known only when the network runs, as tensors of a fixed number.

The same vectors as `retrieval.networks.pooling`, without a Python loop over the size of the map, so that an
exported graph takes photographs of any size. Along each side there is room for the most regions that a level
can have; places that a map does not use are marked.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retrieval.networks.pooling import (
    MAC,
    MAX_LONG_STEPS,
    REGION_OVERLAP,
    RMAC,
    GeM,
    Regional,
    SPoC,
    l2_normalize,
)

EXTRA = MAX_LONG_STEPS - 1
"""Most regions that the longer side has more than the shorter one."""


class WholePooling(nn.Module):
    """MAC, SPoC or GeM of a map of any size: [B, C, H, W] -> [B, C]."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return _after(self.pool, _whole(self.pool, _before(self.pool, x)))


class RegionPooling(nn.Module):
    """`RMAC` or `Regional` of a map of any size: [B, C, H, W] -> [B, C'].

    Raises TypeError on another pooling.
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        if not isinstance(pool, RMAC | Regional):
            raise TypeError(f"{type(pool).__name__} has no regions")
        regional = isinstance(pool, Regional)
        self.inner = pool.rpool if isinstance(pool, Regional) else MAC()
        self.whiten = pool.whiten if isinstance(pool, Regional) else None
        self.levels = pool.levels
        self.normalises = regional

    def forward(self, x: Tensor) -> Tensor:
        powered = _before(self.inner, x)
        found = [_whole(self.inner, powered)[:, None]]
        used = [torch.ones(1, dtype=torch.bool)]
        for level in range(1, self.levels + 1):
            rows, columns, there = region_masks(x.shape[2], x.shape[3], level)
            found.append(_windows(self.inner, powered, rows, columns))
            used.append(there)
        regions = _after(self.inner, torch.cat(found, dim=1))
        flat = l2_normalize(regions.flatten(0, 1))
        if self.whiten is not None:
            flat = l2_normalize(self.whiten(flat))
        vectors = flat.view(x.shape[0], -1, flat.shape[1])
        total = torch.where(torch.cat(used)[None, :, None], vectors, torch.zeros(())).sum(dim=1)
        return l2_normalize(total) if self.normalises else total


def exportable(pool: nn.Module) -> nn.Module:
    """The same pooling without anything that depends on the size of one map."""
    if isinstance(pool, RMAC | Regional):
        return RegionPooling(pool)
    return WholePooling(pool) if isinstance(pool, MAC | SPoC | GeM) else pool


def region_masks(height: int, width: int, level: int) -> tuple[Tensor, Tensor, Tensor]:
    """The square regions of one level: which rows [K, H] and columns [K, W] they cover (bool), and which of
    the K x K combinations there are [K * K] (bool). K = level + 6. Equal to `pooling.region_grid`.
    """
    rows, columns = (torch.ones(length, dtype=torch.float64).sum() for length in (height, width))
    short, long = torch.minimum(rows, columns), torch.maximum(rows, columns)
    side = torch.floor(2 * short / (level + 1))
    extra = _extra(short, long)
    masks, used = [], []
    for length, size in ((rows, height), (columns, width)):
        count = level + extra * ((length == long) & (long > short))
        starts, there = _starts(length, side, count, level + EXTRA)
        cells = torch.arange(size, dtype=torch.float32)
        masks.append((cells >= starts[:, None]) & (cells < starts[:, None] + side))
        used.append(there & (side > 0))
    return masks[0], masks[1], (used[0][:, None] & used[1]).flatten()


def _extra(short: Tensor, long: Tensor) -> Tensor:
    """How many regions more the longer side has: the count whose overlap is closest to the wanted one."""
    steps = torch.arange(1, MAX_LONG_STEPS, dtype=torch.float32)
    stride = (long - short).to(torch.float32) / steps
    square = (short * short).to(torch.float32)
    overlap = (square - short.to(torch.float32) * stride) / square
    wanted = torch.full((), REGION_OVERLAP, dtype=torch.float32)
    return torch.argmin((overlap - wanted).abs(), dim=0) + 1


def _starts(length: Tensor, side: Tensor, count: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """First cells [places] of `count` regions spread over a side, and which places are used."""
    index = torch.arange(places, dtype=torch.float32)
    between = torch.clamp(count - 1, min=1)
    stride = ((length - side) / between).to(torch.float32)
    half = torch.floor(side / 2 - 1).to(torch.float32)
    return torch.floor(half + index * stride) - half, index < count


def _before(pool: nn.Module, x: Tensor) -> Tensor:
    return x.clamp(min=pool.eps).pow(pool.p.view(-1, 1, 1)) if isinstance(pool, GeM) else x


def _after(pool: nn.Module, vectors: Tensor) -> Tensor:
    """vectors: [..., C]."""
    return vectors.pow(1.0 / pool.p) if isinstance(pool, GeM) else vectors


def _whole(pool: nn.Module, x: Tensor) -> Tensor:
    return x.amax(dim=(2, 3)) if isinstance(pool, MAC) else x.mean(dim=(2, 3))


def _windows(pool: nn.Module, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Maximum or mean over every combination of rows and columns: [B, K * K, C]; both are separable.

    Peak memory: K maps, less than the first layers of a trunk take.
    """
    if isinstance(pool, MAC):
        lowest = torch.full((), float("-inf"))
        strips = torch.where(rows[:, :, None], x[:, :, None], lowest).amax(dim=3)
        cells = torch.where(columns, strips[:, :, :, None], lowest).amax(dim=4)
        return cells.flatten(2).transpose(1, 2)
    shares = (mask / mask.sum(dim=1, keepdim=True).clamp(min=1) for mask in (rows.float(), columns.float()))
    by_row, by_column = shares
    return (by_row @ x @ by_column.T).flatten(2).transpose(1, 2)
