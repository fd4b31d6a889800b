"""What a verdict is made from: AP of the queries of val by both networks, every whitening and every ridge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.geometry import GeometryBenchmark, score
from retrieval.benchmarks.harder import harder_precisions
from retrieval.evaluation.verdict import (
    BASELINE,
    CANDIDATES,
    TUNED,
    WITHOUT_VAL,
    Epochs,
    Modes,
    Verdict,
    judge,
)
from retrieval.whitening.moments import pair_statistics
from retrieval.whitening.whitening import Whitening, training_pairs, unrotated
from storage.hdf5 import file as hdf5
from storage.hdf5.open import open_artifact

if TYPE_CHECKING:
    from retrieval.evaluation.evaluate import Configuration

PRECISIONS = "epochs/val_average_precision"


@dataclass(frozen=True, eq=False)
class Judging:
    """How Lw was learnt, and the epochs of the training. positives, grid: of the whitenings; epochs: None
    where the training knows no AP of its queries."""

    positives: Literal["m2", "m3", "m2+m3"]
    grid: tuple[float, ...]
    epochs: Epochs | None

    @classmethod
    def of(cls, training: Path, lw: Path) -> Judging:
        """From training.h5 and a whitening.h5 of Lw. Raises storage.hdf5's errors."""
        with open_artifact(lw, "whitening") as artifact:
            options = artifact.options
        arrays, epochs = hdf5.read(training, "training"), None
        if PRECISIONS in arrays:
            (kept,) = np.flatnonzero(arrays["epochs/epoch"] == arrays["best_epoch"]).tolist()
            with open_artifact(training, "training") as artifact:
                by_cluster = artifact.options.get("val_mean") == "clusters"
            epochs = Epochs(arrays[PRECISIONS], kept, by_cluster)
        return cls(options["positives"], tuple(options["shrinkage_grid"]), epochs)


def verdict_arrays(
    arrays: Mapping[str, Any], configurations: Sequence[Configuration], judging: Judging, seed: int
) -> dict[str, Any]:
    """The group `verdict` of evaluation.h5; {} where a network is missing.

    arrays: of training_set.h5 by path; configurations: at the single scale, of both networks.
    """
    by_name = {(each.network, each.whitening): each for each in configurations if each.scales == "1"}
    if not {(BASELINE, "raw"), (BASELINE, "pcaw"), (TUNED, "raw"), (TUNED, "pcaw")} <= by_name.keys():
        return {}
    standing = GeometryBenchmark.from_arrays(arrays, "val")
    if not len(standing.queries):
        return _columns(WITHOUT_VAL)
    baseline, tuned = (
        _modes(arrays, standing, by_name[name, "raw"], by_name[name, "pcaw"].transform, judging)
        for name in (BASELINE, TUNED)
    )
    fits = judging.epochs is not None and judging.epochs.average_precisions.shape[1] == len(standing.queries)
    return _columns(judge(baseline, tuned, standing.clusters, judging.epochs if fits else None, seed))


def _modes(
    arrays: Mapping[str, Any],
    standing: GeometryBenchmark,
    raw: Configuration,
    pcaw: Whitening | None,
    judging: Judging,
) -> Modes:
    """What `Modes` has of one network."""
    queries = {change: rows for (split, change), rows in raw.altered.items() if split == "val"}
    families, medium, judged = [], [], []
    for family, transform in _transforms(arrays, raw.descriptors, pcaw, judging):
        database = raw.descriptors if transform is None else transform.apply(raw.descriptors)
        found = score(standing, database[standing.queries], database[standing.database], ks=()).medium
        altered = {c: rows if transform is None else transform.apply(rows) for c, rows in queries.items()}
        more = harder_precisions(arrays, "val", altered, database) if altered else {}
        families.append(family)
        medium.append(found.average_precisions)
        judged.append(
            np.mean([np.minimum(ap, 1) for ap in (found.average_precisions, *more.values())], axis=0)
        )
    return Modes(families, np.array(medium), np.array(judged))


def _transforms(
    arrays: Mapping[str, Any], descriptors: NDArray[np.float32], pcaw: Whitening | None, judging: Judging
) -> Iterator[tuple[str, Whitening | None]]:
    """(family, whitening) in the order of `Modes`."""
    yield "raw", None
    yield "pcaw", pcaw
    pairs = training_pairs(arrays, judging.positives)
    train = np.flatnonzero(np.asarray(arrays["images/split"]) == 0)
    statistics = pair_statistics(descriptors, pairs[:, 0], pairs[:, 1], train)
    for value in sorted(set(judging.grid), reverse=True):
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
