"""Evaluation on the geometry benchmark: configurations side by side, with intervals over clusters."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from retrieval.benchmarks.geometry import (
    PROTOCOLS,
    GeometryBenchmark,
    GeometryResult,
    Reorder,
    Split,
    score,
)
from retrieval.describe.harder_queries import altered_rows
from retrieval.describe.rows import Files, training_rows
from retrieval.evaluation.bootstrap import Estimate, bootstrap_mean
from retrieval.evaluation.harder import harder_arrays
from retrieval.evaluation.judging import Judging, verdict_arrays
from retrieval.nearest.expansion import Reranking, alpha_query_expansion, reranked
from retrieval.whitening.whitening import Whitening
from storage.hdf5.digests import content_sha256
from storage.hdf5.file import read, write
from storage.keys.options import Options
from storage.keys.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="evaluate", schema_name="evaluation", suffix=".h5", packages=("numpy", "scipy"), code=__name__
)


class DuplicateConfiguration(ValueError):
    """Two configurations that have one name."""


class EvaluationOptions(Options):
    """What is measured on the geometry benchmark."""

    split: Split = Field("test", description="held-back clusters to measure on; test is for this alone")
    ks: tuple[int, ...] = Field((1, 5, 10), description="depths of mean precision, photographs")
    depth: int = Field(100, ge=1, description="photographs of each ranking that are stored")
    resamples: int = Field(2000, ge=0, description="bootstrap resamples of the clusters; 0 = no interval")
    confidence: float = Field(0.95, gt=0, lt=1, description="share of resamples inside the interval")
    seed: int = Field(0, ge=0, description="of the resampling")
    query_expansion: bool = Field(False, description="adds a row with alpha query expansion to each one")
    expansion_neighbours: int = Field(50, ge=1, description="photographs that expand a query, at most")
    expansion_alpha: float = Field(3.0, ge=0, description="exponent of the similarity that weighs them")
    harder: bool = Field(
        True,
        description="adds rows whose queries are cropped, small or dark, searched among the photographs of "
        "all splits; where 3D models say what queries show",
    )
    rerank: bool = Field(False, description="adds a row with re-ranking by neighbours to each one")
    reranking: Reranking = Field(Reranking(), description="how the first photographs are put in order")


@dataclass(frozen=True, eq=False)
class Configuration:
    """One way to describe the photographs of a training set.

    network, whitening, scales: its names in the table; descriptors: [N, D], row i belongs to image i of the
    training set; transform: applied to them, None = as they are; altered: (split, change) -> [Q, D] of the
    altered queries, where there are harder rows.
    """

    network: str
    whitening: str
    scales: str
    descriptors: NDArray[np.float32]
    transform: Whitening | None = None
    altered: Mapping[tuple[str, str], NDArray[np.float32]] = field(default_factory=dict)

    @property
    def name(self) -> tuple[str, str, str]:
        return self.network, self.whitening, self.scales


@dataclass(frozen=True, eq=False)
class Described:
    """A configuration whose descriptors and whitening are still in files. altered: of altered queries."""

    network: str
    whitening: str
    scales: str
    files: Files
    transform: Path | None
    altered: Files = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationRow:
    """One line of the table: a configuration under one protocol; mAP in 0..1 with its interval."""

    network: str
    whitening: str
    scales: str
    expansion: str
    protocol: str
    mean_average_precision: Estimate


@dataclass(frozen=True, eq=False)
class _Measured:
    configuration: Configuration
    expansion: str
    result: GeometryResult

    @property
    def ranking(self) -> str:
        parts = (*self.configuration.name, self.expansion)
        return "|".join(part.replace("/", "_") for part in parts if part)


def evaluate_files(
    training_set: Path,
    described: Sequence[Described],
    options: EvaluationOptions,
    *,
    out: Path,
    inputs: Sequence[str],
    attributes: Mapping[str, Any],
    training: Path | None = None,
) -> list[EvaluationRow]:
    """`evaluate` of what is still in files; descriptors of one network at the same scales are read once.

    training: training.h5, for a verdict on what is used, where there is an Lw too.
    """
    rows: dict[tuple[str, str], NDArray[np.float32]] = {}
    arrays, found = read(training_set, "training_set"), []
    for each in described:
        name = (each.network, each.scales)
        if name not in rows:
            rows[name] = training_rows(training_set, each.files)
        transform = Whitening.load(each.transform) if each.transform else None
        altered = altered_rows(arrays, each.altered) if each.altered else {}
        found.append(Configuration(each.network, each.whitening, each.scales, rows[name], transform, altered))
    learnt = next((each.transform for each in described if each.whitening == "lw" and each.transform), None)
    judging = None if training is None or learnt is None else Judging.of(training, learnt)
    more: dict[str, Any] = {"inputs": inputs, "attributes": attributes, "judging": judging}
    return evaluate(training_set, found, options, out=out, **more)


def evaluate(
    training_set: Path,
    configurations: Sequence[Configuration],
    options: EvaluationOptions,
    *,
    out: Path,
    inputs: Sequence[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    judging: Judging | None = None,
) -> list[EvaluationRow]:
    """Measure every configuration under Easy, Medium and Hard and write `evaluation.h5`.

    inputs: content digests for provenance (default: the training set's); attributes: facts for the file's
    root, such as what proposed the pairs; judging: for a verdict on what is used. Returns the rows, three per
    configuration in the given order.
    Raises DuplicateConfiguration, InvalidBenchmark, ValueError.
    """
    started = perf_counter()
    arrays = read(training_set, "training_set")
    benchmark = GeometryBenchmark.from_arrays(arrays, options.split)
    _check_names(configurations)
    measured = [
        found for configuration in configurations for found in _measure(configuration, benchmark, options)
    ]
    rows = [
        _row(found, protocol, benchmark.clusters, options) for found in measured for protocol in PROTOCOLS
    ]
    more = harder_arrays(arrays, configurations) if options.harder else {}
    if judging is not None:
        more |= verdict_arrays(arrays, configurations, judging, options.seed)
    write(
        out,
        "evaluation",
        _arrays(measured, rows, benchmark, arrays["images/name"], options) | more,
        stage=STAGE.name,
        options=options.model_dump(mode="json"),
        inputs=inputs or [content_sha256(training_set)],
        attributes={"benchmark": f"geometry {options.split}", **(attributes or {})},
    )
    logger.info(
        "evaluation on %s: %d configurations, %d queries, %d photographs, %.1f s",
        options.split, len(measured), len(benchmark.queries), len(benchmark.database),
        perf_counter() - started,
    )  # fmt: skip
    return rows


def _measure(
    configuration: Configuration, benchmark: GeometryBenchmark, options: EvaluationOptions
) -> Iterator[_Measured]:
    """The configuration as it is, then with query expansion, with re-ranking where these are asked for."""
    if len(configuration.descriptors) != benchmark.num_images:
        raise ValueError(
            f"{', '.join(configuration.name)}: {len(configuration.descriptors)} descriptors for "
            f"{benchmark.num_images} images; extract one row per image of the training set, in its order"
        )
    database = configuration.descriptors[benchmark.database]
    if configuration.transform is not None:
        database = configuration.transform.apply(database)
    own = benchmark.query_positions
    queries = database[own]

    def scored(queries: NDArray[np.float32], reorder: Reorder | None = None) -> GeometryResult:
        return score(benchmark, queries, database, depth=options.depth, ks=options.ks, reorder=reorder)

    def by_neighbours(
        q: int, scores: NDArray[np.float32], ranks: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        one = slice(q, q + 1)
        lists = queries[one], database, ranks[None], scores[None]
        new_scores, new_ranks = reranked(*lists, leave_out=own[one], **dict(options.reranking))
        return new_scores[0], new_ranks[0]

    yield _Measured(configuration, "", scored(queries))
    if options.query_expansion and len(queries):
        k = min(options.expansion_neighbours, len(database) - 1)
        expanded = alpha_query_expansion(queries, database, k, options.expansion_alpha, leave_out=own)
        yield _Measured(configuration, f"alpha={options.expansion_alpha:g}, k={k}", scored(expanded))
    if options.rerank and len(queries):
        yield _Measured(configuration, "neighbours", scored(queries, by_neighbours))


def _row(
    measured: _Measured, protocol: str, clusters: NDArray[np.int64], options: EvaluationOptions
) -> EvaluationRow:
    estimate = bootstrap_mean(
        measured.result.protocol(protocol).average_precisions,
        clusters,
        np.random.default_rng(options.seed),  # the same resamples for every row
        resamples=options.resamples,
        confidence=options.confidence,
    )
    return EvaluationRow(*measured.configuration.name, measured.expansion, protocol, estimate)


def _arrays(
    measured: Sequence[_Measured],
    rows: Sequence[EvaluationRow],
    benchmark: GeometryBenchmark,
    names: NDArray[Any],
    options: EvaluationOptions,
) -> dict[str, Any]:
    """The datasets of evaluation.h5; rows are the measured ones times PROTOCOLS."""
    rankings = [found.ranking for found in measured for _ in PROTOCOLS]
    row_names = [f"{ranking}|{row.protocol}" for ranking, row in zip(rankings, rows, strict=True)]
    results = [found.result.protocol(protocol) for found in measured for protocol in PROTOCOLS]
    arrays: dict[str, Any] = {
        "configurations/name": row_names,
        "configurations/ranking": rankings,
        "queries/name": list(names[benchmark.queries]),
        "queries/cluster": benchmark.clusters,
        "database/name": list(names[benchmark.database]),
        "precision_at/k": np.array(options.ks, dtype=np.int64),
        "precision_at/value": np.array(
            [[result.mean_precision_at[k] for k in options.ks] for result in results]
        ).reshape(len(rows), len(options.ks)),
    }
    for name in ("network", "whitening", "scales", "expansion", "protocol"):
        arrays[f"configurations/{name}"] = [getattr(row, name) for row in rows]
    parts = {"map": "value", "map_low": "low", "map_high": "high", "map_clusters": "over_clusters"}
    for name, part in parts.items():
        arrays[f"configurations/{name}"] = _unit([getattr(row.mean_average_precision, part) for row in rows])
    for found in measured:
        arrays[f"ranks/{found.ranking}"] = found.result.ranks
        arrays[f"scores/{found.ranking}"] = found.result.scores
    for name, result in zip(row_names, results, strict=True):
        arrays[f"average_precisions/{name}"] = _unit(result.average_precisions)
    return arrays


def _unit(values: Any) -> NDArray[np.float64]:
    """A perfect AP sums to 1 within rounding; the file holds 0..1."""
    return np.minimum(np.asarray(values, dtype=np.float64), 1.0)


def _check_names(configurations: Sequence[Configuration]) -> None:
    names = [each.name for each in configurations]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise DuplicateConfiguration(
                f"configuration {name} is given twice; name networks, whitenings and scales apart"
            )
