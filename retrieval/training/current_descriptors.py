"""Descriptors of the network as it is in the middle of a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.describe.describe import DescriptorTable, Passes, iterate_descriptors
from retrieval.learning.processes import ALONE, Processes
from retrieval.networks.network import RetrievalNetwork
from retrieval.training.options import TrainingOptions, TrainingResources
from retrieval.training.step import TrainingDiverged


@dataclass(frozen=True)
class CurrentDescriptors:
    """Describes images of a training set. load: image -> [H, W, 3] uint8; names: for errors."""

    network: RetrievalNetwork
    load: Callable[[int], NDArray[np.uint8]]
    names: list[str]
    options: TrainingOptions
    resources: TrainingResources
    processes: Processes = ALONE

    def table(
        self, images: NDArray[np.int64], epoch: int, report: Callable[[int, int], None]
    ) -> DescriptorTable:
        """Descriptors of images [K], ascending; report(done, total). Raises TrainingDiverged."""
        own = self.processes.share(images)
        rows = np.empty((len(own), self.network.description.dimension), dtype=np.float32)
        passes = Passes(
            precision=self.options.precision,
            batch_size=self.resources.batch_size,
            device=str(next(self.network.parameters()).device),
            loader_threads=self.resources.loader_threads,
        )
        described = iterate_descriptors(self.network, self.load, own.tolist(), passes)
        for done, (position, descriptor) in enumerate(described, start=1):
            rows[position] = descriptor
            report(done, len(own))
        parts = self.processes.gather(rows)
        rows = np.empty((len(images), rows.shape[1]), dtype=np.float32)
        for rank, part in enumerate(parts):
            rows[rank :: len(parts)] = part
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise TrainingDiverged(
                f"epoch {epoch}: the descriptor of {self.names[images[~finite][0]]!r} is not finite; lower "
                "training.learning_rate; the last good checkpoint is kept"
            )
        return DescriptorTable(images, rows)
