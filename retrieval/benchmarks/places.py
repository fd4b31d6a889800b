"""Place recognition (Pitts30k, Tokyo 24/7, any set with UTM): recall@N within a radius."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.outside.numpy_files import arrays_of_npz


class InvalidPlaces(ValueError):
    """Coordinates or ranks that cannot be used."""


@dataclass(frozen=True)
class RecallResult:
    """recall_at: {n: share of all queries with a positive in the first n, 0..1}.

    found_at: [Q] 1-based place of the first positive, 0 = none listed; no positives at all is a failure.
    """

    recall_at: Mapping[int, float]
    num_queries: int
    num_without_positives: int
    found_at: NDArray[np.int64]


def positives_within(
    query_utm: ArrayLike, database_utm: ArrayLike, radius_m: float = 25.0
) -> list[NDArray[np.int64]]:
    """For each query the database positions at most radius_m away, the radius included; ascending.

    query_utm [Q, 2], database_utm [N, 2]: east, north in metres. A tree, never a Q x N array.
    Raises InvalidPlaces.
    """
    if not radius_m >= 0:
        raise InvalidPlaces(f"radius_m is {radius_m}; 0 or more metres")
    from scipy.spatial import cKDTree

    queries, database = _coordinates(query_utm, "query"), _coordinates(database_utm, "database")
    if not len(database):
        return [np.empty(0, dtype=np.int64) for _ in queries]
    found = cKDTree(database).query_ball_point(queries, r=radius_m, return_sorted=True)
    return [np.array(cast(list[int], positions), dtype=np.int64) for positions in found]


def evaluate_places(
    ranks: ArrayLike, positives: Sequence[ArrayLike], ns: Sequence[int] = (1, 5, 10, 20)
) -> RecallResult:
    """Recall@N over all queries; ranks [Q, K] best first (-1 pads), positives: database positions per query.

    Raises InvalidPlaces when rows and queries differ in number, there is none, or ranks are no integers.
    """
    listed = _integers(ranks)
    if listed.ndim != 2 or len(listed) != len(positives) or not len(listed):
        raise InvalidPlaces(f"ranks {listed.shape} for {len(positives)} queries; one row per query")
    found_at = np.zeros(len(listed), dtype=np.int64)
    for q, row in enumerate(listed):
        hits = np.flatnonzero(np.isin(row, np.asarray(positives[q], dtype=np.int64)) & (row >= 0))
        found_at[q] = hits[0] + 1 if len(hits) else 0
    recall = {n: float(((found_at > 0) & (found_at <= n)).mean()) for n in ns}
    without = sum(not np.size(each) for each in positives)
    return RecallResult(recall, len(listed), without, found_at)


def one_per_panorama(ranks: ArrayLike, size: int = 12) -> NDArray[np.int64]:
    """Keep each query's best cutout of every panorama (id // size): Tokyo 24/7's second way of counting.

    ranks: [Q, K] -> [Q, K], the kept ids move up, -1 pads. Raises InvalidPlaces for size < 1.
    """
    listed = _integers(ranks)
    if size < 1 or listed.ndim != 2:
        raise InvalidPlaces(f"ranks {listed.shape}, size {size}: expected [queries, depth] and 1 or more")
    return one_per_group(listed, np.arange(int(listed.max(initial=0)) + 1) // size)


def one_per_group(ranks: ArrayLike, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same where groups [N] says of which panorama each database image is: [Q, K] -> [Q, K]."""
    listed = np.asarray(_integers(ranks), dtype=np.int64)
    kept = np.full_like(listed, -1)
    for row, ids in zip(kept, listed, strict=True):
        valid = ids[ids >= 0]
        _, first = np.unique(groups[valid], return_index=True)
        row[: len(first)] = valid[np.sort(first)]
    return kept


def utm_from_names(names: Iterable[str]) -> NDArray[np.float64]:
    """[N, 2] east, north from names such as `@0584744.97@4476709.92@...jpg`. Raises InvalidPlaces."""
    found = []
    for name in names:
        parts = name.rpartition("/")[2].split("@")
        try:
            found.append((float(parts[1]), float(parts[2])))
        except (IndexError, ValueError):
            raise InvalidPlaces(f"'{name}' holds no UTM coordinates; expected @east@north@...") from None
    return np.array(found, dtype=np.float64).reshape(-1, 2)


def read_npz_utm(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """(query UTM [Q, 2], database UTM [N, 2], radius in m) of a file with utmQ, utmDb and posDistThr."""
    if not path.is_file():
        raise InvalidPlaces(f"'{path}' is missing; expected an npz with utmQ, utmDb and posDistThr")
    try:
        utm = arrays_of_npz(path, ("utmQ", "utmDb", "posDistThr"))
        return utm["utmQ"], utm["utmDb"], float(utm["posDistThr"])
    except (ValueError, OSError, TypeError) as error:
        raise InvalidPlaces(f"'{path}' is no npz with utmQ, utmDb and posDistThr: {error}") from error


def _integers(ranks: ArrayLike) -> NDArray[np.integer]:
    listed = np.asarray(ranks)
    if listed.size and listed.dtype.kind not in "iu":
        raise InvalidPlaces(f"ranks are {listed.dtype} {listed.shape}; expected integers [queries, depth]")
    return listed


def _coordinates(utm: ArrayLike, which: str) -> NDArray[np.float64]:
    coordinates = np.asarray(utm, dtype=np.float64)
    if coordinates.size == 0:
        return coordinates.reshape(0, 2)
    if coordinates.ndim != 2 or coordinates.shape[1] != 2 or not np.isfinite(coordinates).all():
        raise InvalidPlaces(f"{which} UTM {coordinates.shape}: expected finite [N, 2] east, north in metres")
    return coordinates
