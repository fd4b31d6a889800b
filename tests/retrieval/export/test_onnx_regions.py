"""Regions as tensors: the same as the loop, for every size of map."""

import pytest
import torch
from torch import nn

from retrieval.export.onnx_regions import RegionPooling, exportable, region_masks
from retrieval.networks.pooling import MAC, RMAC, GeM, Regional, SPoC, region_grid

SIZES = [(1, 1), (1, 9), (2, 3), (5, 5), (7, 12), (12, 7), (15, 16), (31, 8)]


def regions(height: int, width: int, level: int) -> list[tuple[int, int, int]]:
    """(top, left, side) that the masks of a level stand for; every one is a square without holes."""
    rows, columns, there = region_masks(height, width, level)
    found = []
    for place in there.nonzero().flatten().tolist():
        row, column = (
            mask.nonzero().flatten() for mask in (rows[place // len(rows)], columns[place % len(rows)])
        )
        assert len(row) == len(column) == row[-1] - row[0] + 1 == column[-1] - column[0] + 1
        found.append((int(row[0]), int(column[0]), len(row)))
    return found


def test_by_hand() -> None:
    assert regions(2, 2, 1) == [(0, 0, 2)]
    assert regions(1, 1, 2) == []  # no cell is small enough for level 2
    assert len(region_masks(2, 5, 3)[0]) == 9


@pytest.mark.parametrize("height", range(1, 34))
def test_the_regions_are_those_of_the_loop(height: int) -> None:
    for width in range(1, 34):
        found = [region for level in (1, 2, 3) for region in regions(height, width, level)]
        assert found == region_grid(height, width), (height, width)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "pool",
    [
        MAC(),
        SPoC(),
        GeM(2.5),
        GeM(3.0, per_channel=6),
        RMAC(),
        RMAC(levels=2),
        Regional(MAC()),
        Regional(GeM(2.5), nn.Linear(6, 4)),
        Regional(GeM(3.0, per_channel=6), nn.Linear(6, 6)),
        Regional(SPoC()),
    ],
    ids=repr,
)
def test_every_pooling_gives_the_same_vector(pool: nn.Module, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    if isinstance(pool, GeM) and len(pool.p) > 1:
        pool.p.data = torch.linspace(1.5, 6, 6)
    maps = torch.rand(2, 6, *size, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(exportable(pool)(maps), pool(maps), rtol=1e-5, atol=1e-6)


def test_a_pooling_without_regions_is_refused() -> None:
    with pytest.raises(TypeError, match="SPoC has no regions"):
        RegionPooling(SPoC())
