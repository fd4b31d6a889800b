"""What happened in a training: the rows of training.h5."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.training.options import STAGE, TrainingOptions, TrainingSummary
from storage.hdf5 import file as hdf5


@dataclass(frozen=True)
class EpochRecord:
    """One row of training.h5's epochs; epoch 0 is the network before training. Unknown values are nan."""

    epoch: int
    loss_train: float
    loss_val: float
    map_val: float
    learning_rate: float
    gem_p: float
    mean_negative_distance: float
    seconds: dict[str, float] = field(default_factory=dict)
    val_average_precisions: list[float] = field(default_factory=list)


COLUMNS = ("loss_train", "loss_val", "map_val", "learning_rate", "gem_p", "mean_negative_distance")
PARTS = ("describe", "mine", "train", "validate")


@dataclass(frozen=True)
class EpochProgress:
    """An epoch that has begun. part: the mining that `tuples` [T, 2 + n] reach to; losses [L]: of the tuples
    trained so far; distances [P]: query to mined negatives, per part; seconds: as in EpochRecord."""

    epoch: int
    part: int = -1
    tuples: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    losses: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    distances: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    seconds: dict[str, float] = field(default_factory=dict)

    def mined(self, tuples: NDArray[np.int64], distance: float) -> EpochProgress:
        """The next part was mined."""
        return replace(
            self,
            part=self.part + 1,
            tuples=np.concatenate([self.tuples, tuples]) if len(self.tuples) else tuples,
            distances=np.append(self.distances, distance),
            counts=np.append(self.counts, len(tuples)),
        )

    def trained(self, losses: NDArray[np.float64]) -> EpochProgress:
        """More tuples were trained."""
        return replace(self, losses=np.append(self.losses, losses))

    @property
    def mean_negative_distance(self) -> float:
        return float((self.distances * self.counts).sum() / max(1, self.counts.sum()))


@dataclass(frozen=True)
class Blends:
    """Mixtures of the kept epoch with the network before training. share [B] of the latter, map_val [B],
    kept: the share of the network that is the result."""

    share: NDArray[np.float64]
    map_val: NDArray[np.float64]
    kept: float


@dataclass
class TrainingState:
    """Everything of a training that is not in the network and the optimiser.

    mined: epoch -> tuples [T, 2 + n]; checks [V, 4]: epoch, image, query cluster, most inliers with it;
    within: the epoch that has begun; beside: what options need beside that, by name (the memory's images and
    rows, the mean of the weights); blends: what was tried after the last epoch.
    """

    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    warnings: list[str] = field(default_factory=list)
    mined: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    checks: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 4), dtype=np.int64))
    within: EpochProgress | None = None
    beside: dict[str, Any] = field(default_factory=dict)
    blends: Blends | None = None

    @property
    def epoch(self) -> int:
        """The last finished epoch, -1 before any."""
        return self.history[-1].epoch if self.history else -1

    def finish(self, record: EpochRecord, tuples: NDArray[np.int64]) -> None:
        """Add an epoch and choose the best again. Tuples for which nothing was mined are not kept."""
        self.history.append(record)
        self.within = None
        self.mined[record.epoch] = tuples[tuples[:, -1] >= 0]
        self.best_epoch = best_epoch(self.history)

    def stops_early(self, patience: int | None) -> bool:
        """Whether `patience` epochs have passed since the best one."""
        return patience is not None and self.epoch > 0 and self.epoch - self.best_epoch >= patience


def best_epoch(history: Sequence[EpochRecord]) -> int:
    """The epoch with the highest val mAP, 0 (before training) too; without a val benchmark the lowest val
    loss, else the last.

    Of equal mAP the lowest val loss: a small val benchmark is soon at 100. The earlier one of equals.
    """
    by_map = [record for record in history if math.isfinite(record.map_val)]
    if by_map:
        return min(by_map, key=lambda record: (-record.map_val, _loss(record), record.epoch)).epoch
    by_loss = [record for record in history if math.isfinite(record.loss_val)]
    if by_loss:
        return min(by_loss, key=lambda record: (record.loss_val, record.epoch)).epoch
    return history[-1].epoch if history else 0


def _loss(record: EpochRecord) -> float:
    """loss_val to sort by: unknown last."""
    return record.loss_val if math.isfinite(record.loss_val) else math.inf


def write_training(
    path: Path,
    state: TrainingState,
    may_match: NDArray[np.int64],
    shift: tuple[NDArray[np.int64], NDArray[np.float32]],
    options: TrainingOptions,
    inputs: Sequence[str],
) -> None:
    """Write training.h5.

    may_match [M, 3]: two clusters, inliers; shift: images [S] and the cosine distance of their descriptors
    before and after [S].
    """
    arrays: dict[str, Any] = {
        "epochs/epoch": np.array([record.epoch for record in state.history], dtype=np.int64)
    }
    for name in COLUMNS:
        arrays[f"epochs/{name}"] = np.array(
            [getattr(record, name) for record in state.history], dtype=np.float64
        )
    arrays["epochs/val_average_precision"] = np.array(
        [record.val_average_precisions for record in state.history], dtype=np.float64
    ).reshape(len(state.history), -1)
    arrays |= _mined(state, options.positives_per_tuple)
    if state.blends is not None:
        arrays |= {"blends/share": state.blends.share, "blends/map_val": state.blends.map_val}
        arrays["blends/kept"] = np.float64(state.blends.kept)
    for column, name in enumerate(("epoch", "image", "cluster", "max_inliers")):
        arrays[f"checks/{name}"] = state.checks[:, column]
    for column, name in enumerate(("first", "second", "inliers")):
        arrays[f"may_match/{name}"] = may_match[:, column]
    arrays["best_epoch"] = np.int64(state.best_epoch)
    arrays["descriptor_shift/image"], arrays["descriptor_shift/cosine_distance"] = shift
    if state.warnings:
        arrays["warnings/text"] = list(state.warnings)
    seconds = {
        f"seconds_{part}": [record.seconds.get(part, 0.0) for record in state.history] for part in PARTS
    }
    hdf5.write(
        path,
        "training",
        arrays,
        stage=STAGE.name,
        options=options.model_dump(mode="json"),
        inputs=list(inputs),
        attributes=seconds,
    )


def summarise(state: TrainingState, shift: NDArray[np.float32]) -> TrainingSummary:
    """The few numbers that a log line and a table need."""
    by_epoch = {record.epoch: record for record in state.history}
    return TrainingSummary(
        best_epoch=state.best_epoch,
        last_epoch=state.epoch,
        map_before=by_epoch[0].map_val,
        map_best=by_epoch[state.best_epoch].map_val,
        median_descriptor_shift=float(np.median(shift)) if len(shift) else math.nan,
        warnings=tuple(state.warnings),
        seconds={part: sum(record.seconds.get(part, 0.0) for record in state.history) for part in PARTS},
    )


def _mined(state: TrainingState, positives: int) -> dict[str, NDArray[np.int64]]:
    """The tuples of all epochs below each other; epochs with fewer negatives are filled up with -1."""
    widest = max((tuples.shape[1] for tuples in state.mined.values()), default=1 + positives)
    epochs = [np.full(len(tuples), epoch, dtype=np.int64) for epoch, tuples in sorted(state.mined.items())]
    filled = [
        np.pad(tuples, ((0, 0), (0, widest - tuples.shape[1])), constant_values=-1)
        for _, tuples in sorted(state.mined.items())
    ]
    rows = np.concatenate([np.empty((0, widest), dtype=np.int64), *filled])
    found = {
        "mined/epoch": np.concatenate([np.empty(0, dtype=np.int64), *epochs]),
        "mined/query": rows[:, 0],
        "mined/positive": rows[:, 1],
        "mined/negatives": rows[:, 1 + positives :],
    }
    return found if positives == 1 else found | {"mined/further_positives": rows[:, 2 : 1 + positives]}
