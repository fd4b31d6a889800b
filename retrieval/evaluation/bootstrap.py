"""Intervals of a mean over queries when queries of one cluster are not independent: resample clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """A mean over queries, its percentile interval, the mean over clusters, and what it rests on.

    `low`, `high` are nan with fewer than two clusters: one cluster says nothing about another.
    """

    value: float
    low: float
    high: float
    over_clusters: float
    num_queries: int
    num_clusters: int


def bootstrap_mean(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64],
    generator: np.random.Generator,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of the finite values with a percentile bootstrap interval over clusters.

    values: [Q], nan = left out; clusters: [Q] label of each value's cluster. Each resample draws as many
    clusters as there are, with replacement, and takes all their queries. Peak memory resamples x clusters.
    Raises ValueError on shapes that differ. Source: Efron and Tibshirani 1993, sec. 13.3; Field, Welsh 2007.
    """
    values, clusters = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    if values.shape != clusters.shape or values.ndim != 1:
        raise ValueError(
            f"values {values.shape} and clusters {clusters.shape} must be two vectors of one size"
        )
    counted = np.isfinite(values)
    if not counted.any():
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, 0)
    _, members, sizes = np.unique(clusters[counted], return_inverse=True, return_counts=True)
    sums: NDArray[Any] = np.bincount(members, weights=values[counted])
    count = len(sizes)
    low = high = np.nan
    if count > 1 and resamples > 0:
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
        ends = [(1 - confidence) / 2, (1 + confidence) / 2]
        low, high = np.quantile((drawn @ sums) / (drawn @ sizes), ends).tolist()
    return Estimate(
        value=float(sums.sum() / sizes.sum()),
        low=low,
        high=high,
        over_clusters=float((sums / sizes).mean()),
        num_queries=int(sizes.sum()),
        num_clusters=count,
    )


def bootstrap_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    clusters: NDArray[np.int64],
    generator: np.random.Generator,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of first - second on the same queries, with a paired bootstrap interval over clusters.

    first, second, clusters: [Q]; a query that is nan in either is left out of both.
    """
    difference = np.asarray(first) - np.asarray(second)
    return bootstrap_mean(difference, clusters, generator, resamples=resamples, confidence=confidence)
