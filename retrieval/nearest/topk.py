"""The best k of each row of similarities: exact, deterministic, without sorting the row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SCORES_PER_BLOCK = 8_000_000
"""Scores held at once (32 MB of float32)."""


class InvalidDescriptors(ValueError):
    """Descriptors that cannot be compared: shapes that differ, nan or infinite values, or too few."""


def top_k(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k largest of each row, best first, ties by lower column: exact, without sorting the row.

    scores: [Q, N] -> (values [Q, k], columns [Q, k]); 1 <= k <= N. Selects the k-th value (numpy's is
    vectorised), then orders only what reaches it. Peak memory: one copy of the scores and a mask.
    Raises InvalidDescriptors on nan.
    """
    scores = np.ascontiguousarray(scores)
    num_queries, num_columns = scores.shape
    largest = np.partition(scores, num_columns - k, axis=1)[:, num_columns - k :]
    if np.isnan(largest).any():  # nan sorts as the largest
        raise InvalidDescriptors("similarities hold nan; check the descriptors")
    threshold = largest[:, 0]
    flat = np.flatnonzero(scores >= threshold[:, None])
    counts = np.bincount(flat // num_columns, minlength=num_queries)
    if (counts > k).any():
        flat = _without_surplus_ties(scores, flat, threshold, counts, k)
    columns = (flat % num_columns).reshape(num_queries, k)
    values = scores.ravel()[flat].reshape(num_queries, k)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(columns, order, axis=1)


def check_pair(
    first: NDArray[np.float32], second: NDArray[np.float32], first_name: str, second_name: str
) -> None:
    """Both are matrices of the same number of dimensions, or InvalidDescriptors."""
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise InvalidDescriptors(
            f"{first_name} {first.shape} and {second_name} {second.shape}: expected rows of the same "
            "dimension; extract both with one network and one whitening"
        )


def _without_surplus_ties(
    scores: NDArray[np.float32],
    flat: NDArray[np.int64],
    threshold: NDArray[np.float32],
    counts: NDArray[np.int64],
    k: int,
) -> NDArray[np.int64]:
    """Of the flat indices (ascending, counts[q] in row q) keep k a row: the last at the threshold go."""
    rows = flat // scores.shape[1]
    tied = scores.ravel()[flat] == threshold[rows]
    ties_before = np.cumsum(tied) - tied
    first = np.cumsum(counts) - counts
    place_among_ties = ties_before - ties_before[first][rows]
    num_above = counts - np.add.reduceat(tied, first)
    return flat[~tied | (place_among_ties < (k - num_above)[rows])]
