"""What a training and the whitenings did, as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from report.tables.plain import plain_table
from storage.hdf5.open import open_artifact

if TYPE_CHECKING:
    from rich.table import Table

_EPOCHS = ("epoch", "learning_rate", "loss_train", "loss_val", "map_val", "mean_negative_distance", "gem_p")


@dataclass(frozen=True)
class EpochRow:
    """One epoch of training.h5; epoch 0 is the network before training. map_val in 0..1; nan = none."""

    epoch: int
    learning_rate: float
    loss_train: float
    loss_val: float
    map_val: float
    mean_negative_distance: float
    gem_p: float


@dataclass(frozen=True)
class TrainingTable:
    """A training: its epochs, the one that was kept, and how far it moved descriptors.

    median_shift: median cosine distance of a training photograph's descriptors before and after, nan = none.
    """

    epochs: tuple[EpochRow, ...]
    best_epoch: int
    median_shift: float
    num_shifted: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class WhiteningRow:
    """How a whitening was learnt. tried: (shrinkage, medium mAP on val in 0..1), () where none was tried."""

    method: str
    shrinkage: float
    num_pairs: int
    num_photographs: int
    tried: tuple[tuple[float, float], ...]


def read_training(path: Path) -> TrainingTable:
    """The table of a training.h5. Raises storage.hdf5's errors."""
    with open_artifact(path, "training") as artifact:
        columns = [artifact[f"epochs/{name}"].tolist() for name in _EPOCHS]
        shift = artifact["descriptor_shift/cosine_distance"]
        warnings = artifact["warnings/text"] if "warnings/text" in artifact.paths() else ()
        return TrainingTable(
            tuple(EpochRow(*row) for row in zip(*columns, strict=True)),
            int(artifact["best_epoch"]),
            float(np.median(shift)) if len(shift) else math.nan,
            len(shift),
            tuple(map(str, warnings)),
        )


def read_whitening(path: Path) -> WhiteningRow:
    """How the whitening of a whitening.h5 was learnt. Raises storage.hdf5's errors."""
    with open_artifact(path, "whitening") as artifact:
        facts, paths = artifact.attributes, artifact.paths()
        grid: Sequence[Any] = ()
        if "shrinkage_grid/value" in paths:
            values = artifact["shrinkage_grid/value"].tolist(), artifact["shrinkage_grid/map_val"].tolist()
            grid = tuple(zip(*values, strict=True))
        return WhiteningRow(
            str(facts.get("method", "")),
            float(facts.get("shrinkage", math.nan)),
            int(facts.get("num_pairs", 0)),
            int(facts.get("num_photographs", 0)),
            tuple(grid),
        )


def render_training(training: TrainingTable) -> Table:
    """Losses and val mAP per epoch; * marks the epoch whose network is kept."""
    moved = f"{training.median_shift:.4f}" if training.num_shifted else "unknown"
    legend = (
        f"* kept: epoch {training.best_epoch}. Median cosine distance of a photograph's descriptors "
        f"before and after training: {moved} ({training.num_shifted} photographs)."
    )
    losses = ("loss\ntrain", "loss\nval", "val mAP\nmedium, %", "mean distance\nof negatives")
    columns = ("epoch", "learning\nrate", *losses, "GeM p")
    table = plain_table("training, epoch by epoch", right=columns, caption=legend)
    for row in training.epochs:
        mark = "*" if row.epoch == training.best_epoch else " "
        label = f"before {mark}" if row.epoch == 0 else f"{row.epoch} {mark}"
        rate = "" if row.epoch == 0 else f"{row.learning_rate:.1e}"
        table.add_row(
            label,
            rate,
            _cell(row.loss_train, ".4f"),
            _cell(row.loss_val, ".4f"),
            _cell(100 * row.map_val, ".1f"),
            _cell(row.mean_negative_distance, ".3f"),
            _cell(row.gem_p, ".3f"),
        )
    return table


def render_whitenings(rows: Sequence[tuple[str, str, WhiteningRow]]) -> Table:
    """(network, name of the scales, whitening) -> pairs and chosen shrinkage of each Lw."""
    learnt = [(network, scales, row) for network, scales, row in rows if row.method == "lw"]
    legend = "Shrinkage: ridge as a multiple of the pairs' mean variance; the best medium mAP on val wins."
    numbers = ("pairs", "shrinkage", "val mAP\nmedium, %", "val mAP of all\nthat were tried, %")
    table = plain_table("whitening Lw", ("network", "scales"), numbers, caption=legend)
    for network, scales, row in learnt:
        tried = [100 * value for _, value in row.tried if math.isfinite(value)]
        best = _cell(100 * dict(row.tried).get(row.shrinkage, math.nan), ".1f")
        spread = f"{min(tried):.1f}–{max(tried):.1f}" if tried else "no query"
        table.add_row(network, scales, str(row.num_pairs), f"{row.shrinkage:g}", best, spread)
    return table


def _cell(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)
