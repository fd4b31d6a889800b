"""A linear layer on descriptors that begins as it was found."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from retrieval.networks.files import NetworkDescription
from retrieval.networks.pooling import l2_normalize


class Projection(nn.Module):
    """z [B, d] of unit length -> z + A z of unit length; A [d, d] begins as 0.

    description: of the network whose descriptors they are. It has no GeM.
    """

    mean_exponent = math.nan
    gem = None

    def __init__(self, description: NetworkDescription) -> None:
        super().__init__()
        self.description = description
        self.change = nn.Parameter(torch.zeros(description.dimension, description.dimension))

    def forward(self, rows: Tensor) -> Tensor:
        return l2_normalize(rows + rows @ self.change.T)

    def fold_into(self, layer: nn.Linear) -> None:
        """Let a layer whose output of unit length is z give what this gives, in place."""
        with torch.no_grad():
            changed = torch.eye(len(self.change)).to(self.change) + self.change
            layer.bias.copy_(changed @ layer.bias)
            layer.weight.copy_(changed @ layer.weight)
