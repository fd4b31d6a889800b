"""How good the network is by now: its loss and its mAP on the val split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from retrieval.benchmarks.val import Val
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
    """The queries and the tuples of val, the same every epoch."""

    val: Val
    drawn: Draw
    loss: Loss

    @classmethod
    def of(cls, arrays: Mapping[str, Any], options: TrainingOptions, loss: Loss) -> Validation:
        """arrays: training_set.h5 by path."""
        val = Val.of(arrays, options.val_database, options.val_mean, options.val_queries)
        return cls(val, draw_validation(arrays, options), loss)

    @property
    def images(self) -> Indices:
        """Images whose descriptors it needs, ascending."""
        return np.union1d(self.val.images, self.drawn.images)

    def measured(self, described: DescriptorTable, miner: Miner) -> Measured:
        """By these descriptors; nan where val has no queries, or too few clusters for a loss."""
        each = self.val.precisions(described.__getitem__)
        return Measured(self._loss_of(described, miner), self.val.mean_of(each), each.tolist())

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
