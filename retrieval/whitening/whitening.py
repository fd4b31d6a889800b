"""Whitening of descriptors: learnt from matching pairs (Lw) or from their covariance (PCAw)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from retrieval.benchmarks.val import Database, Mean, Queries, Val
from retrieval.describe.rows import Files, training_rows
from retrieval.whitening.methods import FROM_PAIRS, METHODS
from retrieval.whitening.moments import (
    ROWS_PER_BLOCK,
    PairStatistics,
    TooFewPairs,
    cholesky,
    eigen,
    inverse,
    mean_of,
    pair_statistics,
    scatter_about,
    signed,
    solved,
)
from storage.hdf5.digests import content_sha256
from storage.hdf5.file import read, write
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.outside.guarded import read_outside

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="whiten", schema_name="whitening", suffix=".h5", packages=("numpy", "scipy"), code=__name__
)
EPSILON = 1e-6
FALLBACK_SHRINKAGE = 1.0
"""Taken where val has no query to choose by: a full ridge does little harm, none at all ruins few pairs."""


if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(sorted(METHODS))]


class LwOptions(Options):
    """How Lw is learnt."""

    positives: Literal["m2", "m3", "m2+m3"] = Field(
        "m2+m3", description="which positives make the pairs of lw, each pair once"
    )
    shrinkage_grid: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        min_length=1,
        description="ridges tried for lw on val, as multiples of the mean variance trace(S)/D of the pairs; "
        "the best medium mAP wins, of equal ones the largest ridge; 0 is exactly the reference",
    )
    val_queries: Queries = "models"
    val_database: Database = "val"
    val_mean: Mean = "queries"


class WhiteningOptions(LwOptions):
    """How descriptors are whitened."""

    method: Method = Field(
        "lw", description="lw: learnt from matching pairs; pcaw: PCA whitening of all training photographs"
    )


@dataclass(frozen=True, eq=False)
class Whitening:
    """y = projection (x - mean), then y / (|y| + 1e-6).

    mean: [D] float64; projection: [D, D] float64, rows = output dimensions by decreasing eigenvalue;
    eigenvalues: [D], None if unknown. Rows are defined up to sign; ours have their largest entry positive.
    """

    mean: NDArray[np.float64]
    projection: NDArray[np.float64]
    eigenvalues: NDArray[np.float64] | None = None

    @property
    def dimensions(self) -> int:
        """How many dimensions it can keep."""
        return len(self.projection)

    def apply(self, descriptors: NDArray[Any], dimensions: int | None = None) -> NDArray[Any]:
        """[N, D] -> [N, dimensions] of the same float type, unit length; the first `dimensions` are kept.

        Computed in float64, ROWS_PER_BLOCK rows at a time. Raises ValueError on another D or dimensions.
        """
        kept = self._kept(dimensions)
        if descriptors.ndim != 2 or descriptors.shape[1] != len(self.mean):
            raise ValueError(
                f"descriptors {descriptors.shape}: this whitening was learnt on {len(self.mean)} dimensions; "
                "use the network that it belongs to"
            )
        dtype = descriptors.dtype if descriptors.dtype.kind == "f" else np.dtype(np.float32)
        whitened = np.empty((len(descriptors), kept), dtype=dtype)
        for start in range(0, len(descriptors), ROWS_PER_BLOCK):
            rows = slice(start, start + ROWS_PER_BLOCK)
            projected = (descriptors[rows].astype(np.float64) - self.mean) @ self.projection[:kept].T
            whitened[rows] = projected / (np.linalg.norm(projected, axis=1, keepdims=True) + EPSILON)
        return whitened

    def as_linear(self, dimensions: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(weight [d, D], bias [d]) of the linear layer that does the same before its L2 normalisation."""
        weight = self.projection[: self._kept(dimensions)]
        return weight, -weight @ self.mean

    def save(self, path: Path, *, attributes: Mapping[str, Any] | None = None) -> None:
        """Write a `whitening` file (storage.schemas), atomically."""
        write(
            path, "whitening", self.arrays(), stage=STAGE.name, options={}, inputs=(), attributes=attributes
        )

    @classmethod
    def load(cls, path: Path) -> Whitening:
        """Read a `whitening` file of a store. Raises storage.hdf5's errors on anything else."""
        return cls._of(read(path, "whitening"))

    @classmethod
    def from_outside(cls, path: Path) -> Whitening:
        """Read somebody's `whitening` file, all of it checked. Raises storage.hdf5's errors."""
        return cls._of(read_outside("storage.hdf5.outside:read_whole", path, "whitening").arrays)

    @classmethod
    def _of(cls, arrays: Mapping[str, NDArray[Any]]) -> Whitening:
        eigenvalues = arrays.get("eigenvalues")
        return cls(
            arrays["mean"].astype(np.float64),
            arrays["projection"].astype(np.float64),
            None if eigenvalues is None else eigenvalues.astype(np.float64),
        )

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Its datasets by path."""
        arrays = {"mean": self.mean, "projection": self.projection}
        return arrays if self.eigenvalues is None else {**arrays, "eigenvalues": self.eigenvalues}

    def _kept(self, dimensions: int | None) -> int:
        kept = self.dimensions if dimensions is None else dimensions
        if not 1 <= kept <= self.dimensions:
            raise ValueError(f"{kept} dimensions asked; this whitening has 1..{self.dimensions}")
        return kept


def learn_whitening(
    descriptors: NDArray[Any], queries: ArrayLike, positives: ArrayLike, *, shrinkage: float = 0.0
) -> Whitening:
    """Lw: whitens the differences of matching pairs, then rotates to the axes of the whole set.

    descriptors: [N, D]; queries, positives: [P] rows of matching pairs. shrinkage 0 is exactly the reference
    (S, plus the smallest ridge of 1e-10, 1e-9, ... that makes it positive definite); else
    S + shrinkage * trace(S)/D * I. Real and finite on rank-deficient input. Peak memory beside the
    descriptors: 5 D x D float64. Raises TooFewPairs, ValueError. Source: TPAMI 2018, sec. 5.3; cirtorch
    `whitenlearn`, with a symmetric eigensolver.
    """
    return _rotate(pair_statistics(descriptors, queries, positives), shrinkage)


def learn_pca_whitening(descriptors: NDArray[Any]) -> Whitening:
    """PCAw: the covariance of all descriptors becomes the identity.

    descriptors: [N, D]. Directions without variance (eigenvalue below N or D times the rounding of the
    largest; there are some whenever N <= D) get zero rows, where the reference divides by zero.
    Raises TooFewPairs below two descriptors. Source: cirtorch `pcawhitenlearn`.
    """
    rows = np.arange(len(descriptors))
    if len(rows) < 2:
        raise TooFewPairs(f"{len(rows)} descriptors; PCA whitening needs at least two")
    mean = mean_of(descriptors, rows)
    eigenvalues, axes = eigen(scatter_about(descriptors, rows, mean) / len(rows))
    floor = max(descriptors.shape) * np.finfo(np.float64).eps * max(eigenvalues[0], 0.0)
    kept = eigenvalues > floor
    scale = np.where(kept, 1 / np.sqrt(np.where(kept, eigenvalues, 1.0)), 0.0)
    return Whitening(mean, scale[:, None] * axes.T, np.where(kept, eigenvalues, 0.0))


@dataclass(frozen=True, eq=False)
class WhiteningChoice:
    """The whitening that `whiten` learnt, its shrinkage, and the medium mAP on val of each one tried."""

    whitening: Whitening
    shrinkage: float
    tried: Mapping[float, float] = field(default_factory=dict)


def whiten_files(
    training_set: Path, files: Files, options: WhiteningOptions, *, out: Path, inputs: Sequence[str]
) -> WhiteningChoice:
    """`whiten` with the descriptors in files."""
    return whiten(training_set, training_rows(training_set, files), options, out=out, inputs=inputs)


def whiten(
    training_set: Path,
    descriptors: NDArray[np.float32],
    options: WhiteningOptions,
    *,
    out: Path,
    inputs: Sequence[str] | None = None,
) -> WhiteningChoice:
    """Learn on train, choose the shrinkage on val, write `whitening.h5`; test is never read.

    descriptors: [N, D], row i belongs to image i of the training set; inputs: content digests for provenance
    (default: the training set's). Raises TooFewPairs, InvalidBenchmark, ValueError.
    """
    started = perf_counter()
    arrays = read(training_set, "training_set")
    if len(descriptors) != len(arrays["images/split"]):
        raise ValueError(
            f"{len(descriptors)} descriptors for {len(arrays['images/split'])} images of the training set"
        )
    train = np.flatnonzero(arrays["images/split"] == 0)
    if options.method in FROM_PAIRS:
        pairs = training_pairs(arrays, options.positives)
        num_pairs = len(pairs)
        statistics = pair_statistics(descriptors, pairs[:, 0], pairs[:, 1], train)
        val = Val.of(arrays, options.val_database, options.val_mean, options.val_queries)
        choice = choose_shrinkage(statistics, descriptors, val, options.shrinkage_grid)
    else:
        choice, num_pairs = WhiteningChoice(learn_pca_whitening(descriptors[train]), 0.0), 0
    _write_choice(choice, options, num_pairs, len(train), out, inputs or [content_sha256(training_set)])
    logger.info(
        "whitening %s: %d pairs, %d photographs, shrinkage %g, %.1f s",
        options.method, num_pairs, len(train), choice.shrinkage, perf_counter() - started,
    )  # fmt: skip
    return choice


def training_pairs(arrays: Mapping[str, Any], positives: Literal["m2", "m3", "m2+m3"]) -> NDArray[np.int64]:
    """(query image, positive image) of the train split, each pair once, sorted: [P, 2]."""
    queries = np.asarray(arrays["queries/image"])
    of_train = np.asarray(arrays["queries/split"]) == 0
    found = []
    if "m2" in positives:
        best = np.asarray(arrays["positives/m2"])
        has = of_train & (best >= 0)
        found.append(np.stack([queries[has], best[has]], axis=1))
    if "m3" in positives:
        sizes = np.diff(arrays["positives/m3/indptr"])
        pairs = np.stack([np.repeat(queries, sizes), np.asarray(arrays["positives/m3/image"])], axis=1)
        found.append(pairs[np.repeat(of_train, sizes)])
    return np.unique(np.concatenate(found).astype(np.int64), axis=0)


def choose_shrinkage(
    statistics: PairStatistics,
    descriptors: NDArray[np.float32],
    val: Val,
    grid: Sequence[float],
) -> WhiteningChoice:
    """The shrinkage with the best medium mAP on val; of equal ones the largest.

    The rotation does not change a similarity at full size, so only the chosen one is diagonalised.
    FALLBACK_SHRINKAGE where val has no query with a positive.
    """
    tried: dict[float, float] = {}
    for value in sorted(set(grid)):
        transform = unrotated(statistics, value)
        tried[value] = val.mean_of(val.precisions(partial(_whitened, transform, descriptors)))
    measured = {value: result for value, result in tried.items() if np.isfinite(result)}
    best = max(measured.values(), default=np.nan)
    chosen = max((value for value, result in measured.items() if result >= best - 1e-12), default=None)
    if chosen is None:
        chosen = FALLBACK_SHRINKAGE
        logger.warning("val has no query with a positive: shrinkage %g is taken unmeasured", chosen)
    return WhiteningChoice(_rotate(statistics, chosen), chosen, tried)


def _whitened(
    transform: Whitening, descriptors: NDArray[np.float32], images: NDArray[np.int64]
) -> NDArray[np.float32]:
    return transform.apply(descriptors[images])


def unrotated(statistics: PairStatistics, shrinkage: float) -> Whitening:
    """Lw without its rotation, which changes no similarity at full size."""
    return Whitening(statistics.mean, inverse(cholesky(statistics.within, shrinkage)))


def _write_choice(
    choice: WhiteningChoice,
    options: WhiteningOptions,
    num_pairs: int,
    num_photographs: int,
    out: Path,
    inputs: Sequence[str],
) -> None:
    arrays: dict[str, Any] = choice.whitening.arrays()
    arrays["shrinkage_grid/value"] = np.array(list(choice.tried), dtype=np.float64)
    arrays["shrinkage_grid/map_val"] = np.minimum(
        np.array(list(choice.tried.values()), dtype=np.float64), 1.0
    )
    attributes = {
        "method": options.method,
        "shrinkage": choice.shrinkage,
        "num_pairs": num_pairs,
        "num_photographs": num_photographs,
    }
    write(
        out, "whitening", arrays,
        stage=STAGE.name, options=options.model_dump(mode="json"), inputs=inputs, attributes=attributes,
    )  # fmt: skip


def _rotate(statistics: PairStatistics, shrinkage: float) -> Whitening:
    """Whiten the pairs' differences, then order the axes by the scatter of the whitened set."""
    lower = cholesky(statistics.within, shrinkage)
    half = solved(lower, statistics.total)
    eigenvalues, axes = eigen(solved(lower, half, right=True))
    projection = solved(lower, axes, transposed=True).T
    return Whitening(statistics.mean, signed(projection), np.maximum(eigenvalues, 0.0))
