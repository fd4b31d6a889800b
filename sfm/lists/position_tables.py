"""Csv files that say where photographs were taken: columns, plausibility, degrees as metres."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfm.training_set import known_truth
from sfm.training_set.training_set import TrainingSet
from storage.outside.numbers import ANY, number_of
from storage.outside.tables import Columns, Table, read_table
from storage.outside.text import BadText
from storage.pictures import coordinates

_EARTH_RADIUS_M, _EARTH_FLATTENING = 6378137.0, 1 / 298.257223563  # WGS 84
COLUMNS = Columns(
    (
        (("name", "easting", "northing"), ("heading",)),
        (("name", "latitude", "longitude"), ("heading",)),
    ),
    {
        "easting": ANY,
        "northing": ANY,
        "latitude": coordinates.LATITUDE,
        "longitude": coordinates.LONGITUDE,
        "heading": coordinates.HEADING,
    },
    key="name",
)
_SHOWN = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Positions:
    """What a csv file says: names [N], positions [N, 2 or 3] in m, headings [N] in degrees (nan = unknown).

    where: [N] the place in the file, for errors; notes: what is odd, as sentences; without_position: rows of
    the file that were left out because they have none.
    """

    names: list[str]
    positions: NDArray[np.float64]
    headings: NDArray[np.float64] | None
    where: list[str]
    notes: tuple[str, ...] = ()
    without_position: int = 0

    def noted(self, chosen: TrainingSet) -> TrainingSet:
        """A training set made of them, with what is to be said of the file."""
        facts = {"without_position": self.without_position} if self.without_position else {}
        return known_truth.noted(chosen, self.notes, **facts)


def read_positions(path: Path | str) -> Positions:
    """Read a csv file with the columns name,easting,northing[,heading] or name,latitude,longitude[,heading].

    easting, northing: m, all in one zone; latitude, longitude: degrees (WGS 84), which become earth-centred
    coordinates: straight distances, good to a millimetre at these radii anywhere. heading: degrees clockwise
    from north, may be empty. Rows without a position (both fields empty, or exactly 0, 0 where there was no
    fix, see `storage.pictures.coordinates`) are left out with a note. Raises BadText with the line.
    """
    table = read_table(path, COLUMNS)
    metric = "easting" in table.columns
    given = _given(table, ("easting", "northing") if metric else ("latitude", "longitude"))
    fixed = coordinates.has_fix_m(given) if metric else coordinates.has_fix(*given.T)
    kept, names = np.flatnonzero(fixed), table.columns["name"]
    if not kept.size:
        raise BadText(f"{path}: no row has a position, all are empty or exactly 0, 0")
    headings = table.numbers("heading", empty=True)[kept] if "heading" in table.columns else None
    lost = [names[row] for row in np.flatnonzero(~fixed).tolist()]
    notes = [*_lost_note(lost), *(coordinates.doubts_m(given[kept]) if metric else ())]
    for note in notes:
        _log.warning("%s: %s", path, note)
    return Positions(
        [names[row] for row in kept.tolist()],
        given[kept] if metric else earth_centred(*given[kept].T),
        headings,
        [table.where(row) for row in kept.tolist()],
        tuple(notes),
        len(lost),
    )


def _given(table: Table, pair: tuple[str, str]) -> NDArray[np.float64]:
    """[N, 2] both columns; nan where both are empty. Raises BadText where one is, or one is out of range."""
    texts = zip(*(table.columns[column] for column in pair), strict=True)
    empty = np.array([not one and not other for one, other in texts])
    try:
        found = np.stack([table.numbers(column, empty=True) for column in pair], axis=1)
    except BadText as error:
        degrees = [[number_of(text, table.decimal) for text in table.columns[column]] for column in pair]
        if "latitude" in pair and coordinates.exchanged(*degrees):
            raise BadText(f"{error}; latitude and longitude look exchanged") from error
        raise
    half = np.flatnonzero(np.isnan(found).any(axis=1) & ~empty)
    if half.size:
        column = pair[int(np.isnan(found[half[0], 1]))]
        raise BadText(f"{table.where(int(half[0]))}: {column} is ''; give a number")
    return found


def _lost_note(names: Sequence[str]) -> list[str]:
    """A sentence on the photographs that have no position, none where there are none."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return [f"{len(names)} without a position (empty or 0, 0), left out: {shown}{more}"] if names else []


def earth_centred(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.float64]:
    """Degrees [N], [N] -> [N, 3] m from the centre of the earth, on the WGS 84 ellipsoid."""
    north, east = np.radians(np.asarray(latitude, float)), np.radians(np.asarray(longitude, float))
    square = _EARTH_FLATTENING * (2 - _EARTH_FLATTENING)
    radius = _EARTH_RADIUS_M / np.sqrt(1 - square * np.sin(north) ** 2)
    level = radius * np.cos(north)
    return np.stack(
        [level * np.cos(east), level * np.sin(east), radius * (1 - square) * np.sin(north)], axis=1
    )
