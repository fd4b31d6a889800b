"""Neighbours by the position that EXIF gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from storage.keys.options import Options

_EARTH_RADIUS_M = 6_371_008.8  # mean radius of the WGS 84 ellipsoid


class SpatialOptions(Options):
    """Neighbours by GPS position; a photograph without one has none and is nobody's."""

    neighbours: int = Field(
        5, ge=0, description="nearest photographs by GPS position, per photograph; 0 = do not use"
    )
    max_distance_m: float = Field(
        100.0, gt=0, description="photographs farther apart are no neighbours, metres along the ground"
    )


def spatial_neighbours(positions: NDArray[np.float64], options: SpatialOptions) -> NDArray[np.int64]:
    """The nearest other photographs within the distance, best first.

    positions: [N, 2 or more] latitude and longitude in degrees, nan = unknown; what follows is not used,
    because phones know their altitude badly or not at all. -> [N, options.neighbours] positions, -1 = none.
    """
    from scipy.spatial import cKDTree

    found = np.full((len(positions), options.neighbours), -1, np.int64)
    known = np.flatnonzero(np.isfinite(positions[:, :2]).all(axis=1))
    if len(known) < 2 or options.neighbours == 0:
        return found
    points = _on_unit_sphere(positions[known, :2])
    wanted = min(options.neighbours + 1, len(known))  # the photograph itself is among them
    _, near = cKDTree(points).query(points, k=wanted, distance_upper_bound=_chord(options.max_distance_m))
    for row, candidates in zip(known.tolist(), np.asarray(near), strict=True):
        others = [known[c] for c in candidates.tolist() if c < len(known) and known[c] != row]
        found[row, : len(others)] = others[: options.neighbours]
    return found


def _on_unit_sphere(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    latitude, longitude = np.deg2rad(degrees).T
    return np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=1
    )


def _chord(metres: float) -> float:
    """The straight distance on the unit sphere of a distance along the ground, just above it: the tree
    leaves out what lies exactly at its bound."""
    angle = min(metres / _EARTH_RADIUS_M, np.pi)
    return float(np.nextafter(2 * np.sin(angle / 2), 3.0))
