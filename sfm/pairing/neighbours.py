"""Nearest photographs by vectors, and lists of neighbours as pairs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sfm.pairing.proposal import Proposal

_BLOCK_ROWS = 1024


def nearest_neighbours(descriptors: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The k nearest other rows of each row by dot product, best first, ties to the smaller index.

    descriptors: [N, D] -> [N, min(k, N - 1)]. Memory: N x 1024 float32.
    """
    count = len(descriptors)
    k = min(k, max(count - 1, 0))
    neighbours = np.empty((count, k), np.int64)
    for start in range(0, count, _BLOCK_ROWS):
        scores = descriptors[start : start + _BLOCK_ROWS] @ descriptors.T
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf
        # Rounding makes ties of what differs by the summation order only.
        neighbours[start : start + len(scores)] = smallest(-np.round(scores, 5), k)
    return neighbours


def smallest(costs: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Positions of the k smallest per row, smallest first, ties to the smaller position: [n, N] -> [n, k]."""
    if k == 0:
        return np.empty((len(costs), 0), np.int64)
    limit = np.partition(costs, k - 1, axis=1)[:, k - 1 : k]
    row, column = np.nonzero(costs <= limit)
    order = np.lexsort((column, costs[row, column], row))
    row, column = row[order], column[order]
    place = np.arange(row.size) - np.searchsorted(row, row)
    return column[place < k].reshape(len(costs), k)


def merge(ranked: Mapping[str, NDArray[np.int64]], count: int, most: int) -> Proposal:
    """Neighbour lists of several sources as one list of pairs; over budget, the best ranks of every source
    come first.

    ranked: source -> [N, k] neighbours best first, -1 = none.
    """
    best: dict[int, tuple[int, list[str]]] = {}
    for source in sorted(ranked):
        for rank, column in enumerate(ranked[source].T):
            here = np.flatnonzero(column >= 0)
            there = column[here]
            keep = here != there
            low, high = np.minimum(here, there)[keep], np.maximum(here, there)[keep]
            for code in np.unique(low * count + high).tolist():
                known = best.setdefault(code, (rank, []))
                if source not in known[1]:
                    best[code] = (min(rank, known[0]), [*known[1], source])
    codes = sorted(best, key=lambda code: (best[code][0], code))[:most]
    codes.sort()
    first, second = np.divmod(np.array(codes, np.int64), max(count, 1))
    return Proposal(first, second, ["+".join(best[code][1]) for code in codes])
