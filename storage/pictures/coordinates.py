"""Whether coordinates can be where a photograph was taken: one answer for EXIF, tables and sets of places.

Devices and programs write 0, 0 where there was no fix. In degrees that is a buoy in the Gulf of Guinea and
never counts. In metres it may be the origin of a local frame: it is no fix where all else is far away.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LATITUDE, LONGITUDE = (-90.0, 90.0), (-180.0, 180.0)
HEADING = (-360.0, 720.0)
FAR_M = 10_000.0
_UTM_EASTING, _UTM_NORTHING = (0.0, 1_000_000.0), (0.0, 10_000_000.0)
_ZONE_M = 800_000.0
"""A zone is 667 km wide at the equator and nowhere wider."""


def has_fix(latitude: ArrayLike, longitude: ArrayLike) -> Any:
    """[N] bool (of two numbers one), whether degrees are a position: finite, in range, not exactly 0, 0."""
    north, east = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
    inside = (np.abs(north) <= LATITUDE[1]) & (np.abs(east) <= LONGITUDE[1])  # nan is not
    return inside & ((north != 0) | (east != 0))


def has_fix_m(positions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[N] whether [N, 2] m are positions: finite, and not exactly 0, 0 with all others beyond FAR_M."""
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(positions).all(axis=1), dtype=np.bool_)
    zero = finite & (positions == 0).all(axis=1)
    others = np.linalg.norm(positions[finite & ~zero], axis=1)
    return np.logical_and(finite, ~zero) if others.size and others.min() > FAR_M else finite


def exchanged(latitude: ArrayLike, longitude: ArrayLike) -> bool:
    """Whether degrees are positions only with latitude and longitude exchanged."""
    north, east = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
    wrong = bool((np.abs(north) > LATITUDE[1]).any())
    return wrong and bool((np.abs(east) <= LATITUDE[1]).all() and (np.abs(north) <= LONGITUDE[1]).all())


def doubts_m(positions: NDArray[np.float64]) -> list[str]:
    """What is odd about [N, 2] easting and northing in m: degrees, several zones, many at 0, 0."""
    if len(positions) < 2:
        return []
    east, north = np.abs(positions).T
    found = []
    at_origin = int((positions == 0).all(axis=1).sum())
    if at_origin > 1:
        found.append(f"{at_origin} photographs lie at exactly 0, 0; leave them out if there was no position")
    finer = np.abs(positions * 1000 - np.round(positions * 1000)) > 1e-6
    if (east <= LONGITUDE[1]).all() and (north <= LONGITUDE[1]).all() and finer.mean() > 0.5:
        found.append("easting and northing look like degrees; name such columns latitude and longitude")
    if np.median(north) > _UTM_EASTING[1] or np.median(east) > FAR_M:
        found += _utm_doubts(positions)
    return found


def _utm_doubts(positions: NDArray[np.float64]) -> list[str]:
    found = []
    limits = np.array([_UTM_EASTING, _UTM_NORTHING])
    inside = positions[((positions >= limits[:, 0]) & (positions <= limits[:, 1])).all(axis=1)]
    outside = len(positions) - len(inside)
    if 0 < outside < len(positions) / 2:
        found.append(f"{outside} of {len(positions)} positions are no UTM coordinates as the others are")
    if len(inside) and np.ptp(inside[:, 0]) > _ZONE_M:
        found.append("eastings span more than a zone of UTM; those of different zones have no distance")
    return found
