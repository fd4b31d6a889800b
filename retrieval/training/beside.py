"""What a training carries from step to step beside the network and its optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.describe.describe import DescriptorTable
from retrieval.learning.averaging import Average
from retrieval.training.memory import Memory, Standing
from retrieval.training.options import TrainingOptions


@dataclass(frozen=True, eq=False)
class Beside:
    """A mean of the weights, a memory of descriptors or all of the last mining, as far as the options ask for
    them."""

    average: Average
    memory: Memory | None
    standing: Standing | None

    @classmethod
    def of(
        cls, network: nn.Module, options: TrainingOptions, teacher: DescriptorTable | None = None
    ) -> Beside:
        return cls(
            Average(network, options.average, options.average_decay),
            Memory(options.memory) if options.memory else None,
            Standing(teacher) if options.compared_with == "descriptors" else None,
        )

    def kept(self) -> dict[str, NDArray[Any]]:
        """All of it, for a checkpoint."""
        found: dict[str, NDArray[Any]] = {}
        if self.average.count:
            found["average_count"] = np.array([self.average.count])
            found |= {f"average.{name}": value.cpu().numpy() for name, value in self.average.weights.items()}
        if self.memory is not None and len(self.memory.images):
            found |= {"memory_images": self.memory.images, "memory_rows": self.memory.rows}
        if self.standing is not None and self.standing.teacher is None and len(self.standing.table.images):
            table = self.standing.table
            found |= {"standing_images": table.images, "standing_rows": table.rows}
        return found

    def restore(self, kept: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `kept` gave."""
        if "average_count" in kept:
            weights = {name: torch.from_numpy(value) for name, value in kept.items() if "." in name}
            weights = {name.removeprefix("average."): value for name, value in weights.items()}
            self.average.restore(weights, int(kept["average_count"][0]))
        if self.memory is not None and "memory_images" in kept:
            self.memory.restore(kept["memory_images"], kept["memory_rows"])

        if self.standing is not None and "standing_images" in kept:
            self.standing.table = DescriptorTable(kept["standing_images"], kept["standing_rows"])

    def measured(self) -> dict[str, Tensor] | None:
        """The weights that val measures; None: those of the network."""
        return self.average.weights if self.average.count else None
