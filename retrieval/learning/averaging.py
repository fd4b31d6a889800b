"""Means of a training's weights: over its steps, over its epochs, with the network that it began as.

Sources: Tarvainen and Valpola, NeurIPS 2017 (over steps); Izmailov et al., UAI 2018 (over epochs); Wortsman
et al., CVPR 2022 (with the network before training).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]
Kind = Literal["none", "steps", "epochs"]


class Average:
    """The network whose weights are a mean over those of a training, beside the one that is trained.

    kind: over what; decay: what a step leaves of the mean over steps. weights: the mean so far; count: how
    many networks are in it. None of both without an average.
    """

    def __init__(self, network: nn.Module, kind: Kind, decay: float) -> None:
        self._network, self._kind, self._decay = network, kind, decay
        self.count = 0
        self.weights: Weights = {} if self._kind == "none" else copied(network.state_dict())

    def after_step(self) -> None:
        """A step of the optimiser was made."""
        if self._kind == "steps":
            self._move(1 - self._decay)

    def after_epoch(self) -> None:
        """An epoch was trained."""
        if self._kind == "epochs":
            self._move(1 / (self.count + 1))

    def restore(self, weights: Mapping[str, Tensor], count: int) -> None:
        """Go on from this mean."""
        for name, mean in self.weights.items():
            mean.copy_(weights[name])
        self.count = count

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the network is the mean; it is itself without an average or before the first network."""
        if not self.count:
            yield
            return
        trained = copied(self._network.state_dict())
        self._network.load_state_dict(self.weights)
        try:
            yield
        finally:
            self._network.load_state_dict(trained)

    def _move(self, share: float) -> None:
        self.count += 1
        blend(self.weights, self._network.state_dict(), share)


def blend(weights: Weights, others: Mapping[str, Tensor], share: float) -> None:
    """Weights become (1 - share) themselves + share the others, in place; counters stay theirs."""
    with torch.no_grad():
        for name, mean in weights.items():
            if mean.is_floating_point():
                mean.lerp_(others[name].to(mean.device), share)


def copied(weights: Mapping[str, Tensor]) -> Weights:
    """Tensors of their own."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}
