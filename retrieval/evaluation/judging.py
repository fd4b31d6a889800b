"""What a verdict is made from: AP of the queries of val by both networks, every whitening and every ridge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.geometry import GeometryBenchmark
from retrieval.benchmarks.harder import AmongAll
from retrieval.benchmarks.val import Mean, Val
from retrieval.evaluation.verdict import (
    BASELINE,
    CANDIDATES,
    TRAIN_AND_VAL,
    TUNED,
    Epochs,
    Judges,
    Modes,
    Verdict,
    judge,
)
from retrieval.whitening.crossed import Crossed, crossed
from retrieval.whitening.moments import pair_statistics
from retrieval.whitening.whitening import Whitening, WhiteningOptions, training_pairs, unrotated
from storage.hdf5 import file as hdf5
from storage.hdf5.open import open_artifact

if TYPE_CHECKING:
    from retrieval.evaluation.evaluate import Configuration

PRECISIONS = "epochs/val_average_precision"


@dataclass(frozen=True, eq=False)
class Judging:
    """How Lw was learnt, and the epochs of the training, None where it knows no AP of its queries."""

    whitening: WhiteningOptions
    epochs: Epochs | None

    @classmethod
    def of(cls, training: Path, lw: Path) -> Judging:
        """From training.h5 and a whitening.h5 of Lw. Raises storage.hdf5's errors."""
        with open_artifact(lw, "whitening") as artifact:
            options = WhiteningOptions.model_validate(artifact.options)
        arrays, epochs = hdf5.read(training, "training"), None
        if PRECISIONS in arrays:
            (kept,) = np.flatnonzero(arrays["epochs/epoch"] == arrays["best_epoch"]).tolist()
            with open_artifact(training, "training") as artifact:
                told = artifact.options
            if told.get("val_queries", "models") == options.val_queries:  # else they are of other queries
                epochs = Epochs(arrays[PRECISIONS], kept, told.get("val_mean", "queries"))
        return cls(options, epochs)


def verdict_arrays(
    arrays: Mapping[str, Any], configurations: Sequence[Configuration], judging: Judging, seed: int
) -> dict[str, Any]:
    """The group `verdict` of evaluation.h5; {} where a network is missing.

    arrays: of training_set.h5 by path; configurations: at the single scale, of both networks.
    """
    by_name = {(each.network, each.whitening): each for each in configurations if each.scales == "1"}
    if not {(BASELINE, "raw"), (BASELINE, "pcaw"), (TUNED, "raw"), (TUNED, "pcaw")} <= by_name.keys():
        return {}
    whitening = judging.whitening
    val = Val.of(arrays, whitening.val_database, whitening.val_mean, whitening.val_queries)
    standing = GeometryBenchmark.from_arrays(arrays, "val")
    harder = AmongAll.of(arrays, standing, without_test=True)
    baseline, tuned = (
        _modes(arrays, val, harder, by_name[name, "raw"], by_name[name, "pcaw"].transform, whitening)
        for name in (BASELINE, TUNED)
    )
    epochs, clusters = judging.epochs, val.benchmark.clusters
    if epochs is not None and epochs.average_precisions.shape[1] != len(clusters):
        epochs = None
    more = crossed(arrays, by_name[BASELINE, "raw"].descriptors, whitening)
    judges = None if more is None else _judges(more, val.mean)
    return _columns(judge(baseline, tuned, clusters, epochs, seed, judges))


def _judges(found: Crossed, mean: Mean) -> Judges:
    values = np.minimum([found.raw, found.pcaw, *found.lw], 1)
    modes = Modes(["raw", "pcaw", *["lw"] * len(found.lw)], values, values, mean)
    return Judges(modes, found.clusters, TRAIN_AND_VAL)


def _modes(
    arrays: Mapping[str, Any],
    val: Val,
    harder: AmongAll,
    raw: Configuration,
    pcaw: Whitening | None,
    options: WhiteningOptions,
) -> Modes:
    """What `Modes` has of one network."""
    queries = [rows for (split, _), rows in raw.altered.items() if split == "val"]
    place = np.searchsorted(harder.standing.queries, val.benchmark.queries)
    altered_too = np.isin(val.benchmark.queries, harder.standing.queries)
    families, asked, judged = [], [], []
    for family, transform in _transforms(arrays, raw.descriptors, pcaw, options):
        database, *altered = (
            rows if transform is None else transform.apply(rows) for rows in (raw.descriptors, *queries)
        )
        families.append(family)
        asked.append(np.minimum(val.precisions(database.__getitem__), 1))
        rows = np.full((1 + len(altered), len(place)), np.nan)
        rows[0] = asked[-1]
        for row, each in zip(rows[1:], altered, strict=True):
            found = np.minimum(harder.precisions(each, database[harder.images]), 1)
            row[altered_too] = found[place[altered_too]]
        judged.append(_known_mean(rows))
    return Modes(families, np.array(asked), np.array(judged), val.mean)


def _known_mean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """[V] mean of each column's finite values, nan without one."""
    known = np.isfinite(rows)
    sums = np.where(known, rows, 0).sum(axis=0)
    return np.divide(sums, known.sum(axis=0), out=np.full(rows.shape[1], np.nan), where=known.any(axis=0))


def _transforms(
    arrays: Mapping[str, Any],
    descriptors: NDArray[np.float32],
    pcaw: Whitening | None,
    options: WhiteningOptions,
) -> Iterator[tuple[str, Whitening | None]]:
    """(family, whitening) in the order of `Modes`."""
    yield "raw", None
    yield "pcaw", pcaw
    pairs = training_pairs(arrays, options.positives)
    train = np.flatnonzero(np.asarray(arrays["images/split"]) == 0)
    statistics = pair_statistics(descriptors, pairs[:, 0], pairs[:, 1], train)
    for value in sorted(set(options.shrinkage_grid), reverse=True):
        yield "lw", unrotated(statistics, value)


def _columns(found: Verdict) -> dict[str, Any]:
    gains = [each.gain for each in found.candidates]
    return {
        **{
            f"verdict/{name}": [getattr(each, field) for each in found.candidates]
            for name, field in (
                ("candidate", "name"), ("network", "network"), ("whitening", "whitening"),
                ("against", "against"),
            )
        },
        "verdict/estimate": np.array([each.estimate for each in found.candidates]),
        "verdict/gain": np.array([gain.value for gain in gains]),
        "verdict/gain_low": np.array([gain.low for gain in gains]),
        "verdict/gain_high": np.array([gain.high for gain in gains]),
        "verdict/chosen": np.int64(CANDIDATES.index(found.chosen)),
        "verdict/sentence": [found.sentence],
    }  # fmt: skip
