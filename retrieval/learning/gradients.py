"""The gradients of one tuple's loss, with the activations of few photographs at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of descriptors and labels, see `retrieval.learning.losses`."""
Forward = Callable[[Tensor], Tensor]
"""Photographs [B, 3, H, W] -> descriptors [B, D]."""
Further = Callable[[Tensor], Tensor]
"""Descriptors of query and positives [1 + P, D] -> those of more negatives [K, D]."""


def tuple_gradients(
    forward: Forward,
    photographs: Sequence[Tensor],
    loss: Loss,
    *,
    weights: Tensor | None = None,
    further: Further | None = None,
    negatives_at_a_time: int = 1,
    anchors_together: bool = False,
) -> tuple[float, Tensor]:
    """Add the gradients of one tuple's loss to the parameters -> the loss, the descriptors without graph.

    photographs: query, positives, negatives, [1, 3, H, W] each; weights: of the positives [P], None: one of
    weight 1; further: gives more negatives, which get no gradient. The losses are sums over
    negatives, so the gradient of a negative's descriptor depends on query and positives only: its backward
    pass runs at once, and its activations go before the next negative comes. Memory does not grow with their
    number. A negative beyond the margin has no gradient and runs no backward pass. anchors_together: query
    and positives of equal size share a pass too; all are kept in any case. A loss that is no such sum is
    asked first, about descriptors without activations; then every photograph passes again.
    """
    weights = torch.ones(1, device=photographs[0].device) if weights is None else weights
    anchors = 1 + len(weights)
    if not getattr(loss, "additive", True):
        return _in_two_passes(forward, photographs, loss, _labels(weights), further, negatives_at_a_time)
    groups = _groups(photographs[:anchors], anchors if anchors_together else 1)
    passed = [forward(batch) for _, batch in groups]
    order = [position for positions, _ in groups for position in positions]
    fixed = torch.cat([rows.detach() for rows in passed])[np.argsort(order)]
    negatives = [fixed.new_empty(1, fixed.shape[1]) for _ in photographs[anchors:]]
    for positions, batch in _groups(photographs[anchors:], negatives_at_a_time):
        rows = forward(batch)
        leaf = rows.detach().requires_grad_()
        value = loss(torch.cat([fixed, leaf]), _labels(weights, len(positions)))
        (gradient,) = torch.autograd.grad(value, leaf)
        if bool(gradient.any()):
            rows.backward(gradient)
        for place, position in enumerate(positions):
            negatives[position] = leaf.detach()[place : place + 1]
    more = negatives if further is None else [*negatives, further(fixed)]
    fixed.requires_grad_()
    value = loss(torch.cat([fixed, *more]), _labels(weights, sum(map(len, more))))
    (gradient,) = torch.autograd.grad(value, fixed)
    if bool(gradient.any()):
        torch.autograd.backward(passed, [gradient[positions] for positions, _ in groups])
    return float(value.detach()), torch.cat([fixed.detach(), *negatives])


def query_gradients(
    forward: Forward, photograph: Tensor, positives: Tensor, negatives: Tensor, loss: Loss, weights: Tensor
) -> tuple[float, Tensor]:
    """Add the gradients of the loss of a query among descriptors that stand still -> the loss, the query's
    descriptor [1, D] without graph.

    photograph [1, 3, H, W]; positives [P, D] of weights [P]; negatives [K, D].
    """
    row = forward(photograph)
    value = loss(torch.cat([row, positives, negatives]), _labels(weights, len(negatives)))
    value.backward()
    return float(value.detach()), row.detach()


def _in_two_passes(
    forward: Forward,
    photographs: Sequence[Tensor],
    loss: Loss,
    anchors: Tensor,
    further: Further | None,
    largest: int,
) -> tuple[float, Tensor]:
    groups = _groups(photographs, largest)
    with torch.no_grad():
        found = [forward(batch) for _, batch in groups]
    order = [position for positions, _ in groups for position in positions]
    rows = torch.cat(found)[np.argsort(order)].requires_grad_()
    known = rows.detach()[: len(anchors)]
    everything = rows if further is None else torch.cat([rows, further(known)])
    labels = torch.cat([anchors, anchors.new_zeros(len(everything) - len(anchors))])
    value = loss(everything, labels)
    (gradient,) = torch.autograd.grad(value, rows)
    for positions, batch in groups:
        if bool(gradient[positions].any()):
            forward(batch).backward(gradient[positions])
    return float(value.detach()), rows.detach()


def _labels(weights: Tensor, negatives: int = 0) -> Tensor:
    """Of a query, its positives and so many negatives."""
    return torch.cat([-torch.ones_like(weights[:1]), weights, weights.new_zeros(negatives)])


def _groups(photographs: Sequence[Tensor], largest: int) -> list[tuple[list[int], Tensor]]:
    """Photographs of equal size in batches: (positions, [B, 3, H, W])."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for position, photograph in enumerate(photographs):
        by_size.setdefault(tuple(photograph.shape), []).append(position)
    groups = [
        positions[start : start + largest]
        for positions in by_size.values()
        for start in range(0, len(positions), largest)
    ]
    return [(positions, torch.cat([photographs[p] for p in positions])) for positions in groups]
