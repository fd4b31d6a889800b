"""How good the network is by now: its loss and its mAP on the val split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retrieval.benchmarks.geometry import GeometryBenchmark, mean_over_clusters, score
from retrieval.benchmarks.harder import harder_precisions
from retrieval.describe.describe import DescriptorTable
from retrieval.learning.gradients import Loss
from retrieval.learning.losses import tuple_labels
from retrieval.learning.mining import TooFewClusters
from retrieval.training.epoch_tuples import Draw, draw_validation
from retrieval.training.negative_checks import Miner
from retrieval.training.options import TrainingOptions
from retrieval.training.positives import Indices


@dataclass(frozen=True)
class Measured:
    """Loss per tuple of val, Medium mAP by which an epoch is chosen, and the Medium AP of each query of the
    val benchmark; nan = none."""

    loss: float
    mean_average_precision: float
    average_precisions: list[float]


@dataclass(frozen=True, eq=False)
class Validation:
    """The geometry benchmark and the tuples of val, the same every epoch."""

    benchmark: GeometryBenchmark
    drawn: Draw
    loss: Loss
    among_all: Mapping[str, Any] | None = None
    """training_set.h5 by path, where the database is all of its images."""
    by_cluster: bool = False

    @classmethod
    def of(cls, arrays: Mapping[str, Any], options: TrainingOptions, loss: Loss) -> Validation:
        """arrays: training_set.h5 by path."""
        benchmark = GeometryBenchmark.from_arrays(arrays, "val")
        among_all = arrays if options.val_database == "all" and len(benchmark.queries) else None
        drawn = draw_validation(arrays, options)
        return cls(benchmark, drawn, loss, among_all, options.val_mean == "clusters")

    @property
    def images(self) -> Indices:
        """Images whose descriptors it needs, ascending."""
        if self.among_all is not None:
            return np.arange(self.benchmark.num_images)
        return np.unique(np.concatenate([self.benchmark.database, self.drawn.images]))

    def measured(self, described: DescriptorTable, miner: Miner) -> Measured:
        """By these descriptors; nan where val has no queries or too few clusters."""
        benchmark = self.benchmark
        if not len(benchmark.queries):
            return Measured(self._loss_of(described, miner), math.nan, [])
        asked = described[benchmark.queries]
        if self.among_all is not None:
            each = harder_precisions(self.among_all, "val", {"whole": asked}, described.rows)["whole"]
        else:
            each = score(benchmark, asked, described[benchmark.database]).medium.average_precisions
        return Measured(self._loss_of(described, miner), self._mean(each), each.tolist())

    def _mean(self, each: NDArray[np.float64]) -> float:
        if self.by_cluster:
            return mean_over_clusters(each, self.benchmark.clusters)
        known = each[np.isfinite(each)]
        return float(known.mean()) if known.size else math.nan

    def _loss_of(self, described: DescriptorTable, miner: Miner) -> float:
        if len(self.drawn.queries) == 0:
            return math.nan
        try:
            tuples = miner.mine(self.drawn, described, miner.plan(self.drawn, None)).tuples
        except TooFewClusters as error:
            miner.warn(f"no validation loss: {error}")
            return math.nan
        rows = torch.from_numpy(described[tuples.ravel()]).double()
        loss = self.loss(rows, tuple_labels(tuples.shape[1] - 2, len(tuples)))
        return float(loss) / len(tuples)
