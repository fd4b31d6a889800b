"""One pass over given ranks: where the ids of the first part of a database stand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

CELLS_PER_PASS = 1 << 22
SPARSE = 8
"""From so many times more places than labelled ids on, ranks in columns are read as they lie in memory."""


def places_up_to(
    listed: NDArray[np.integer], largest: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.integer]]]:
    """Per row of ranks [Q, K] the places, ascending, of ids up to `largest`, pads included; and those ids.

    Ranks that lie in columns (the published layout, transposed) take one pass, too, where few ids are that
    small. Memory: what is found, and CELLS_PER_PASS bytes or one row.
    """
    num_queries, depth = listed.shape
    in_columns = depth > 1 and num_queries > 1 and abs(listed.strides[1]) > abs(listed.strides[0])
    if not in_columns or depth < SPARSE * largest:
        for row in listed:
            lying = np.ascontiguousarray(row)
            places = np.flatnonzero(lying <= largest)
            yield places, lying[places]
        return
    step = max(1, CELLS_PER_PASS // num_queries)
    found = []
    for start in range(0, depth, step):
        part = listed[:, start : start + step].T
        place, query = np.nonzero(part <= largest)
        found.append((query, place + start, part[place, query]))
    queries, places, ids = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.argsort(queries, kind="stable")
    bounds = np.searchsorted(queries[order], np.arange(1, num_queries))
    yield from zip(np.split(places[order], bounds), np.split(ids[order], bounds), strict=True)
