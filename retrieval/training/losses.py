"""Losses on tuples: a query, its positive, its negatives.

Called with descriptors [N, D] and labels [N]: -1 query, 1 positive, 0 negative, tuples one after another and
equally long, each beginning with its query. Both losses are sums, not means, as in the published code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TupleLayout(ValueError):
    """The labels do not describe equally long tuples that each begin with their query."""


class ContrastiveLoss(nn.Module):
    """Sum over pairs of 0.5 y d^2 + 0.5 (1 - y) max(0, margin - d)^2 with d = ||x_q - x_j + eps||.

    Source: TPAMI 2018, eq. 3; eps keeps the gradient of d finite for identical descriptors.
    """

    def __init__(self, margin: float = 0.7, eps: float = 1e-6) -> None:
        super().__init__()
        self.margin = margin
        self.eps = eps

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """descriptors [N, D], labels [N] -> scalar. Raises TupleLayout."""
        length = tuple_length(descriptors, labels)
        is_positive = labels.reshape(-1, length)[:, 1:].to(descriptors.dtype)
        tuples = descriptors.reshape(-1, length, descriptors.shape[1])
        distance = (tuples[:, :1] - tuples[:, 1:] + self.eps).pow(2).sum(dim=2).sqrt()
        attract = 0.5 * is_positive * distance.pow(2)
        repel = 0.5 * (1 - is_positive) * torch.clamp(self.margin - distance, min=0).pow(2)
        return (attract + repel).sum()

    def extra_repr(self) -> str:
        return f"margin={self.margin}"


class TripletLoss(nn.Module):
    """Sum over (query, positive, negative) of max(0, margin + d_p^2 - d_n^2). One positive per tuple."""

    def __init__(self, margin: float = 0.1) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """descriptors [N, D], labels [N] -> scalar. Raises TupleLayout."""
        length = tuple_length(descriptors, labels)
        by_tuple = labels.reshape(-1, length)
        if not bool(((by_tuple == 1).sum(dim=1) == 1).all()):
            raise TupleLayout("triplet loss: every tuple needs exactly one positive (label 1)")
        dimensions = descriptors.shape[1]
        queries = descriptors[labels == -1].view(-1, 1, dimensions)
        positives = descriptors[labels == 1].view(-1, 1, dimensions)
        negatives = descriptors[labels == 0].view(len(by_tuple), length - 2, dimensions)
        to_positive = (queries - positives).pow(2).sum(dim=2)
        to_negative = (queries - negatives).pow(2).sum(dim=2)
        return torch.clamp(to_positive - to_negative + self.margin, min=0).sum()

    def extra_repr(self) -> str:
        return f"margin={self.margin}"


def tuple_length(descriptors: Tensor, labels: Tensor) -> int:
    """Photographs per tuple, after checking the layout. Raises TupleLayout."""
    if descriptors.ndim != 2 or labels.shape != descriptors.shape[:1]:
        raise TupleLayout(
            f"descriptors {tuple(descriptors.shape)} and labels {tuple(labels.shape)}: expected [N, D] and "
            "[N]"
        )
    is_query = labels == -1
    count = int(is_query.sum())
    length = len(labels) // max(count, 1)
    if count == 0 or length < 2 or length * count != len(labels) or not bool(is_query[::length].all()):
        raise TupleLayout(
            f"labels {labels.tolist()[:16]}: expected equally long tuples, each a query (-1) and then its "
            "positive (1) and negatives (0)"
        )
    if not bool(((labels == 0) | (labels == 1) | is_query).all()):
        raise TupleLayout(
            f"labels {sorted(set(labels.tolist()))}: only -1 (query), 1 (positive) and 0 (negative)"
        )
    return length


def tuple_labels(negatives: int, tuples: int = 1) -> Tensor:
    """Labels of `tuples` tuples with one positive and `negatives` negatives each: [tuples * (2 +
    negatives)]."""
    return torch.tensor([-1.0, 1.0] + [0.0] * negatives).repeat(tuples)
