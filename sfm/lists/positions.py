"""Place recognition: a training set from where photographs were taken (GPS, UTM), and where they looked.

Positive: near and with a similar heading. Negative: farther than the outer radius. Between the two: neither,
in training and in the benchmark. Sources: NetVLAD (arXiv 1511.07247) for the radii, Mapillary SLS (CVPR 2020)
for the heading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator
from scipy.spatial import cKDTree

from sfm.lists.position_tables import Positions, read_positions
from sfm.lists.tables import photo_digests
from sfm.mapping.components import component_labels
from sfm.training_set import known_truth, splits
from sfm.training_set.duplicates import first_with, twin_error, twin_notes
from sfm.training_set.training_set import TrainingSet
from storage.keys.options import Options
from storage.schemas.training_set import Images

Indices = NDArray[np.int64]
_DECIMALS = 6
"""Distances are rounded to a micrometre: 10 m between UTM coordinates is then exactly 10 m."""


class BadPositions(ValueError):
    """Positions or headings that cannot be used."""


class PositionOptions(Options):
    """What is the same place, and how places are held back."""

    positive_radius_m: float = Field(10.0, gt=0, description="positives lie at most this far away, m")
    negative_radius_m: float = Field(25.0, gt=0, description="negatives lie farther away than this, m")
    max_heading_change_deg: float = Field(
        40.0, ge=0, le=180, description="between the headings of a positive pair, degrees; 180: any"
    )
    block_m: float = Field(
        250.0,
        gt=0,
        description="side of the squares that larger connected areas are cut into, so that splits can be "
        "drawn, m",
    )
    val_fraction: float = Field(0.10, ge=0, lt=1, description="share of the areas that choose epochs")
    test_fraction: float = Field(0.20, ge=0, lt=1, description="share of the areas that only measure")
    seed: int = Field(0, ge=0, description="draws which areas are train, val and test")

    @model_validator(mode="after")
    def _ordered(self) -> PositionOptions:
        if self.negative_radius_m < self.positive_radius_m:
            raise ValueError(
                f"negative_radius_m {self.negative_radius_m} is below positive_radius_m "
                f"{self.positive_radius_m}; a photograph cannot be both"
            )
        return self


@dataclass(frozen=True, eq=False)
class _Near:
    """Pairs of photographs within the outer radius, in both directions, and whether they are positives."""

    first: Indices
    second: Indices
    distance_m: NDArray[np.float64]
    positive: NDArray[np.bool_]

    def where(self, keep: NDArray[np.bool_]) -> _Near:
        return _Near(self.first[keep], self.second[keep], self.distance_m[keep], self.positive[keep])


def from_csv(
    path: Path | str, photo_root: Path | str | None = None, options: PositionOptions | None = None
) -> TrainingSet:
    """`from_positions` of a csv file; with photo_root the photographs are there and their bytes digested.

    Raises BadText with the line, and what from_positions and from_rows raise.
    """
    rows = read_positions(path)
    if photo_root is None:
        return rows.noted(from_positions(rows.names, rows.positions, rows.headings, options))
    return from_rows(rows, photo_digests(rows.names, photo_root, rows.where), options)


def from_rows(rows: Positions, sha256: Sequence[str], options: PositionOptions | None = None) -> TrainingSet:
    """`from_positions` of the rows of a file whose photographs' digests [N] are known.

    Rows that are one photograph become one, the first. Raises Contradiction where they say of it what cannot
    both be: that its twin is farther away than a positive, or looks elsewhere.
    """
    options, first = options or PositionOptions(), first_with(sha256)
    twins = np.flatnonzero(first != np.arange(first.size))
    for row in twins.tolist():
        if why := _contradiction(rows, int(first[row]), row, options):
            raise twin_error(rows.names, rows.where, int(first[row]), row, why)
    kept = np.flatnonzero(first == np.arange(first.size))
    headings = None if rows.headings is None else rows.headings[kept]
    names, digests = ([column[row] for row in kept.tolist()] for column in (rows.names, sha256))
    chosen = from_positions(names, rows.positions[kept], headings, options, sha256=digests)
    return rows.noted(known_truth.noted(chosen, twin_notes(rows.names, first)))


def _contradiction(rows: Positions, one: int, other: int, options: PositionOptions) -> str:
    """How two rows of one photograph contradict each other, "" where they do not."""
    distance = float(np.linalg.norm(rows.positions[one] - rows.positions[other]))
    if round(distance, _DECIMALS) > options.positive_radius_m:
        return f"{distance:.1f} m apart"
    if rows.headings is None or options.max_heading_change_deg >= 180:
        return ""
    turned = float(_turned(rows.headings[one], rows.headings[other]))
    return f"{turned:.0f} degrees apart" if turned > options.max_heading_change_deg else ""


def _turned(one: Any, other: Any) -> Any:
    """Degrees between headings, 0..180; nan where one is unknown."""
    return np.abs((one - other + 180) % 360 - 180)


def from_positions(
    names: Sequence[str],
    positions: ArrayLike,
    headings: ArrayLike | None = None,
    options: PositionOptions | None = None,
    *,
    sha256: Any = None,
) -> TrainingSet:
    """A training set from positions.

    names: [N] paths below the root of the photographs; positions: [N, 2] m (or [N, 3]); headings: [N]
    degrees, nan = unknown, None = nothing depends on them; sha256: [N] of the files, None = of the names.
    Where headings are given, a photograph without one has no positives.

    Clusters are the cells of a grid so fine that two photographs of one cell are never negatives; what else
    lies within the outer radius of a query is excluded by `negatives/excluded`: exactly the photographs
    beyond it can be its negatives. Splits are drawn by area; where a border cuts an area, photographs within
    the outer radius of a split that is held back are left out. Memory: all pairs within that radius. Raises
    BadPositions, BadEntry, NothingToTrainOn.
    """
    options, names = options or PositionOptions(), [str(name) for name in names]
    places, looking = _checked(names, positions, headings)
    digests = known_truth.digests_of(names, sha256)
    near = _near(places, looking, options)
    split, kept = _splits(places, near, digests, options)
    left = np.flatnonzero(kept)
    place_of = np.cumsum(kept) - 1
    near = near.where(kept[near.first] & kept[near.second])
    first, second = place_of[near.first], place_of[near.second]
    cluster = _cells(places[left], options.negative_radius_m / np.sqrt(places.shape[1]) * (1 - 1e-6))
    best = np.lexsort((second, near.distance_m, first))
    best = best[near.positive[best]]
    rising = np.lexsort((second, first))
    outside = rising[cluster[first[rising]] != cluster[second[rising]]]
    neither = rising[~near.positive[rising]]
    none = np.full(left.size, -1, dtype=np.int64)
    kept_names = np.array([names[row] for row in left.tolist()], dtype=object)
    images = Images(kept_names, digests[left], cluster, none, split[left], none >= 0)
    positives, excluded, junk = (
        known_truth.grouped(first[at], second[at], left.size) for at in (best, outside, neither)
    )
    facts = {"source": "positions", "left_out_between_splits": int(kept.size - left.size)}
    return known_truth.assemble(TrainingSet, images, positives, excluded, junk, facts)


def _checked(
    names: Sequence[str], positions: ArrayLike, headings: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    places = np.asarray(positions, dtype=np.float64)
    if places.ndim != 2 or len(places) != len(names) or places.shape[1] not in (2, 3):
        raise BadPositions(f"positions are {places.shape} for {len(names)} names; give [N, 2] in m")
    wrong = np.flatnonzero(~np.isfinite(places).all(axis=1))
    if wrong.size:
        raise BadPositions(f"{names[wrong[0]]!r}: its position is {places[wrong[0]]}; give numbers in m")
    if headings is None:
        return places, None
    looking = np.asarray(headings, dtype=np.float64)
    if looking.shape != (len(names),) or np.isinf(looking).any():
        raise BadPositions(
            f"headings are {looking.shape} for {len(names)} names; give degrees, nan = unknown"
        )
    return places, looking


def _near(
    places: NDArray[np.float64], looking: NDArray[np.float64] | None, options: PositionOptions
) -> _Near:
    pairs = cKDTree(places).query_pairs(options.negative_radius_m + 1e-3, output_type="ndarray")
    pairs = np.concatenate([pairs, pairs[:, ::-1]]).astype(np.int64)
    first, second = pairs[:, 0], pairs[:, 1]
    distance = np.round(np.linalg.norm(places[first] - places[second], axis=1), _DECIMALS)
    positive = distance <= options.positive_radius_m
    if looking is not None and options.max_heading_change_deg < 180:
        turned = _turned(looking[first], looking[second])
        positive &= np.round(turned, _DECIMALS) <= options.max_heading_change_deg  # nan never is
    return _Near(first, second, distance, positive).where(distance <= options.negative_radius_m)


def _splits(
    places: NDArray[np.float64], near: _Near, digests: NDArray[np.bytes_], options: PositionOptions
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """[N] the split, [N] whether it is kept: no pair within the outer radius lies in two splits then."""
    area = _areas(places, near, options.block_m)
    inside = near.positive & (area[near.first] == area[near.second])
    split = splits.split_clusters(
        area,
        digests,
        options.seed,
        has_model=np.isin(np.arange(area.max(initial=-1) + 1), area[near.first[inside]]),
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
    )[area]
    kept = np.ones(len(places), dtype=bool)
    kept[near.first[split[near.first] < split[near.second]]] = False
    return split, kept


def _areas(places: NDArray[np.float64], near: _Near, block_m: float) -> Indices:
    """[N] connected photographs, those that extend over more than a block cut into blocks."""
    count = len(places)
    area = component_labels(np.stack([near.first, near.second], axis=1), count)
    number = int(area.max(initial=-1)) + 1
    low, high = np.full((number, places.shape[1]), np.inf), np.full((number, places.shape[1]), -np.inf)
    np.minimum.at(low, area, places)
    np.maximum.at(high, area, places)
    large = ((high - low).max(axis=1) > block_m)[area] if count else np.empty(0, dtype=bool)
    block = np.where(large, _cells(places, block_m), 0)
    return np.unique(np.stack([area, block], axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _cells(places: NDArray[np.float64], side_m: float) -> Indices:
    """[N] number of the grid cell of each place; the grid hangs on the origin, not on the places."""
    cells = np.floor(places / side_m).astype(np.int64)
    return np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
