"""Second moments of descriptors in float64, streamed, and the symmetric solvers that whitening needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh, solve_triangular
from scipy.linalg.blas import dsyrk, dtrsm

ROWS_PER_BLOCK = 4096
"""Descriptors that are in memory as float64 at once."""


class TooFewPairs(ValueError):
    """No matching pairs, or no descriptors, to learn a whitening from."""


@dataclass(frozen=True, eq=False)
class PairStatistics:
    """All that Lw needs of the descriptors, whatever the shrinkage: mean [D], within and total [D, D]."""

    mean: NDArray[np.float64]
    within: NDArray[np.float64]
    total: NDArray[np.float64]


def pair_statistics(
    descriptors: NDArray[Any], queries: ArrayLike, positives: ArrayLike, rows: NDArray[np.int64] | None = None
) -> PairStatistics:
    """Mean of the queries, mean scatter of the pairs' differences, scatter of `rows` (default all).

    descriptors: [N, D], read in blocks (may be a memory map). Raises TooFewPairs, ValueError.
    """
    first, second = _pairs(descriptors, queries, positives)
    mean = mean_of(descriptors, first)

    def differences(block: slice) -> NDArray[np.float64]:
        return np.subtract(descriptors[first[block]], descriptors[second[block]], dtype=np.float64)

    within = _scatter(differences, len(first), descriptors.shape[1])
    everything = np.arange(len(descriptors)) if rows is None else rows
    return PairStatistics(mean, within / len(first), scatter_about(descriptors, everything, mean))


def _pairs(
    descriptors: NDArray[Any], queries: ArrayLike, positives: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as positions of rows that are there; -1, elsewhere "none", is refused."""
    first, second = np.asarray(queries), np.asarray(positives)
    if descriptors.ndim != 2 or first.shape != second.shape or first.ndim != 1:
        raise ValueError(
            f"descriptors {descriptors.shape}, {first.shape} queries and {second.shape} positives; rows, and "
            "one positive per query"
        )
    if not len(first):
        raise TooFewPairs("no matching pairs to learn a whitening from; add photographs or use method pcaw")
    both = np.concatenate([first, second])
    outside = both[(both < 0) | (both >= len(descriptors))]
    if both.dtype.kind not in "iu" or len(outside):
        found = f"row {outside[0]}" if len(outside) else f"rows of type {both.dtype}"
        raise ValueError(
            f"matching pairs with {found}: there are rows 0..{len(descriptors) - 1}, whole numbers; leave "
            "out the queries without a positive"
        )
    return first.astype(np.int64), second.astype(np.int64)


def cholesky(within: NDArray[np.float64], shrinkage: float) -> NDArray[np.float64]:
    """Lower factor of within + shrinkage * trace/D * I, plus the least ridge that makes it positive definite.

    [D, D] -> [D, D]. Ridges are 0, 1e-10, 1e-9, ...: the reference's. Raises ValueError below 0,
    for nan and for infinity.
    """
    if not 0 <= shrinkage < np.inf:
        raise ValueError(f"shrinkage is {shrinkage}; a number, 0 or more")
    if not np.isfinite(within).all():  # no ridge would ever do
        raise ValueError("descriptors hold nan or infinite values; check the network's output")
    size = len(within)
    regular = within + shrinkage * np.trace(within) / size * np.eye(size)
    ridge = 0.0
    while True:
        try:
            return np.linalg.cholesky(regular + ridge * np.eye(size))
        except np.linalg.LinAlgError:
            ridge = 10 * ridge or 1e-10


def inverse(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a lower triangular matrix."""
    return np.asarray(solve_triangular(lower, np.eye(len(lower)), lower=True))


def eigen(symmetric: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues decreasing, eigenvectors as columns in that order, their largest entry positive."""
    values, vectors = eigh((symmetric + symmetric.T) / 2, driver="evd")
    return values[::-1], signed(vectors[:, ::-1].T).T


def signed(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row or its negative, so that its largest entry is positive: one choice on every machine."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1, keepdims=True), axis=1)
    return rows * np.where(largest < 0, -1.0, 1.0)


def mean_of(descriptors: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of the given rows, repeats counted: [N, D] -> [D]. Raises ValueError on nan or infinity."""
    total = np.zeros(descriptors.shape[1])
    for start in range(0, len(rows), ROWS_PER_BLOCK):
        total += descriptors[rows[start : start + ROWS_PER_BLOCK]].sum(axis=0, dtype=np.float64)
    mean = total / len(rows)
    if not np.isfinite(mean).all():
        raise ValueError("descriptors hold nan or infinite values; check the network's output")
    return mean


def scatter_about(
    descriptors: NDArray[Any], rows: NDArray[np.int64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum over the given rows of (x - mean)(x - mean)^T: [N, D] -> [D, D]."""

    def centred(block: slice) -> NDArray[np.float64]:
        return np.subtract(descriptors[rows[block]], mean, dtype=np.float64)

    scatter = _scatter(centred, len(rows), descriptors.shape[1])
    if not np.isfinite(scatter).all():
        raise ValueError("descriptors hold nan or infinite values; check the network's output")
    return scatter


def _scatter(rows: Callable[[slice], NDArray[np.float64]], count: int, dimension: int) -> NDArray[np.float64]:
    """Sum of x x^T [D, D] over `count` rows that come in blocks [B, D]; one triangle is summed in place."""
    upper = np.zeros((dimension, dimension), order="F")
    for start in range(0, count, ROWS_PER_BLOCK):
        block = np.ascontiguousarray(rows(slice(start, min(start + ROWS_PER_BLOCK, count))))
        upper = dsyrk(1.0, block.T, beta=1.0, c=upper, overwrite_c=1)
    return np.triu(upper) + np.triu(upper, 1).T


def solved(
    lower: NDArray[np.float64], matrix: NDArray[np.float64], *, transposed: bool = False, right: bool = False
) -> NDArray[np.float64]:
    """L^-1 A [D, K], or L^-T A where transposed, or A L^-T [K, D] where right, L lower triangular [D, D].

    BLAS itself: scipy's solve_triangular copies both into other orders first.
    """
    upper = np.ascontiguousarray(lower).T  # in the order of columns
    transpose = int(not (transposed or right))
    return np.asarray(dtrsm(1.0, upper, matrix, side=int(right), lower=0, trans_a=transpose))
