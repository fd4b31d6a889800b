"""Descriptors like those of real photographs, any number of them: clusters of many sizes, fitted spectra.

    python -m benchmarks.synthetic_descriptors DESCRIPTORS.npz   # fit anew: arrays x [N, D] and place [N]

A descriptor is the collection's mean, plus its place, plus its view, then unit length. Along the axes of the
whole set the variances of places and of views fall as powers; `FITTED` holds what was measured on 581
photographs of 45 places and 86 single ones, described by efficientnet_lite0 at 480 px (1280-D). The axes stay
the coordinates: a rotation changes no similarity.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK = 20_000
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Spectrum:
    """Variance of axis i = 1, 2, ...: proportional to (i + offset)^-exponent, `total` in sum."""

    total: float
    offset: float
    exponent: float

    def scales(self, dimension: int) -> Rows:
        """Standard deviation along each axis [D]."""
        shape = (np.arange(1, dimension + 1) + self.offset) ** -self.exponent
        return np.sqrt(self.total * shape / shape.sum()).astype(np.float32)


@dataclass(frozen=True)
class Fit:
    """mean: length of the mean; places, views: variances along the axes, of places and of views about theirs.

    spread: standard deviation of the logarithm of how far a view is from its place; sizes: mean and standard
    deviation of the logarithm of a place's views; single: share of the photographs that are alone.
    """

    mean: float
    places: Spectrum
    views: Spectrum
    spread: float
    sizes: tuple[float, float]
    single: float


FITTED = Fit(
    mean=0.7055,
    places=Spectrum(0.4316, 76.0, 2.5847),
    views=Spectrum(0.2062, 100.0, 1.4114),
    spread=0.2595,
    sizes=(2.2442, 0.5432),
    single=0.1480,
)


def fit(rows: Rows, place: NDArray[np.int64]) -> Fit:
    """The figures of descriptors [N, D] of known places [N]."""
    mean = rows.mean(axis=0)
    axes = np.linalg.svd(rows - mean, full_matrices=False)[2]
    along = (rows - mean) @ axes.T
    _, place, counts = np.unique(place, return_inverse=True, return_counts=True)
    centres = np.zeros((len(counts), along.shape[1]))
    np.add.at(centres, place, along)
    centres /= counts[:, None]
    several = counts[place] > 1
    difference = (along - centres[place])[several] * np.sqrt(counts[place] / (counts[place] - 1.0 + 1e-9))[
        several, None
    ]
    lengths = np.linalg.norm(difference, axis=1)
    many = np.log(counts[counts > 1])
    return Fit(
        float(np.linalg.norm(mean)),
        _spectrum(centres.var(axis=0)),
        _spectrum((difference**2).mean(axis=0)),
        float(np.log(lengths).std()),
        (float(many.mean()), float(many.std())),
        float((counts == 1).sum() / len(rows)),
    )


def _spectrum(variances: NDArray[np.float64]) -> Spectrum:
    """The fall of variances, by least squares of their logarithms, over the axes that the sample knows."""
    number = np.arange(1, len(variances) // 2 + 1)
    values = np.log(variances[: len(number)])
    best = (np.inf, 0.0, 0.0)
    for offset in np.linspace(0, 100, 101):
        (slope, _), error, *_ = np.polyfit(np.log(number + offset), values, 1, full=True)
        best = min(best, (float(error[0]), float(offset), float(-slope)))
    return Spectrum(float(variances.sum()), *best[1:])


def draw(
    num_rows: int, num_queries: int, dimension: int, seed: int = 0, figures: Fit = FITTED
) -> tuple[Rows, Iterator[Rows]]:
    """(queries [Q, D], blocks of num_rows rows): a query is a view more of a place of several views."""
    generator = np.random.default_rng(seed)
    sizes = _sizes(num_rows, generator, figures)
    eligible = np.flatnonzero(sizes > 1)
    asked = np.sort(generator.choice(eligible, num_queries, replace=False))
    queries = np.empty((num_queries, dimension), dtype=np.float32)
    found = _blocks(sizes, asked, dimension, seed, figures, queries)
    return queries, found


def _sizes(num_rows: int, generator: np.random.Generator, figures: Fit) -> NDArray[np.int64]:
    """Views of each place, in sum num_rows."""
    drawn = np.exp(generator.normal(*figures.sizes, size=num_rows)).round().clip(2).astype(np.int64)
    several = int(np.searchsorted(np.cumsum(drawn), num_rows * (1 - figures.single)))
    sizes = drawn[: max(1, several)]
    sizes = np.concatenate([sizes, np.ones(max(0, num_rows - int(sizes.sum())), dtype=np.int64)])
    return generator.permutation(sizes)


def _blocks(
    sizes: NDArray[np.int64],
    asked: NDArray[np.int64],
    dimension: int,
    seed: int,
    figures: Fit,
    queries: Rows,
) -> Iterator[Rows]:
    """Places one after another; fills in the queries on the way."""
    generator = np.random.default_rng([seed, 1])
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        start = ends[first] - sizes[first]
        last = int(np.searchsorted(ends, start + BLOCK, side="right"))
        last = max(last, first + 1)
        own = np.arange(first, last)
        inside = own[np.isin(own, asked)]
        centres = _normal(generator, len(own), dimension, figures.places)
        rows = _views(generator, np.repeat(centres, sizes[own], axis=0), figures)
        more = _views(generator, centres[inside - first], figures)
        queries[np.searchsorted(asked, inside)] = more
        yield rows
        first = last


def _normal(generator: np.random.Generator, count: int, dimension: int, spectrum: Spectrum) -> Rows:
    return generator.standard_normal((count, dimension), dtype=np.float32) * spectrum.scales(dimension)


def _views(generator: np.random.Generator, centres: Rows, figures: Fit) -> Rows:
    count, dimension = centres.shape
    spread = np.exp(generator.normal(-(figures.spread**2), figures.spread, size=(count, 1))).astype(
        np.float32
    )
    rows = centres + _normal(generator, count, dimension, figures.views) * spread
    rows[:, 0] += np.float32(figures.mean)  # any direction is as good: the axes are random to it
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("descriptors", type=Path, help="npz with x [N, D] and place [N]")
    arrays = np.load(parser.parse_args().descriptors)
    for name, value in asdict(fit(arrays["x"], arrays["place"])).items():
        print(name, value)


if __name__ == "__main__":
    main()
