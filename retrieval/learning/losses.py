"""Losses on tuples: a query, its positive, its negatives.

Called with descriptors [N, D] and labels [N]: -1 query, 0 negative, above 0 and at most 1 a positive of that
weight (1: as published), tuples one after another and equally long, each beginning with its query. All are
sums over tuples, not means, as in the published code. `additive`: whether the loss of a tuple is a sum over
its negatives, so that one can be looked at alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TupleLayout(ValueError):
    """The labels do not describe equally long tuples that each begin with their query."""


class ContrastiveLoss(nn.Module):
    """Sum over pairs of 0.5 y d^2, or 0.5 max(0, margin - d)^2 where y = 0, with d = ||x_q - x_j + eps||.

    Source: TPAMI 2018, eq. 3; eps keeps the gradient of d finite for identical descriptors. A weight y below
    1 pulls less.
    """

    additive = True

    def __init__(self, margin: float = 0.7, eps: float = 1e-6) -> None:
        super().__init__()
        self.margin = margin
        self.eps = eps

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """descriptors [N, D], labels [N] -> scalar. Raises TupleLayout."""
        length = tuple_length(descriptors, labels)
        weights = labels.reshape(-1, length)[:, 1:].to(descriptors.dtype)
        tuples = descriptors.reshape(-1, length, descriptors.shape[1])
        distance = (tuples[:, :1] - tuples[:, 1:] + self.eps).pow(2).sum(dim=2).sqrt()
        attract = 0.5 * weights * distance.pow(2)
        repel = 0.5 * (weights == 0) * torch.clamp(self.margin - distance, min=0).pow(2)
        return (attract + repel).sum()

    def extra_repr(self) -> str:
        return f"margin={self.margin}"


class TripletLoss(nn.Module):
    """Sum over (query, positive, negative) of y max(0, margin + d_p^2 - d_n^2), y the positive's weight."""

    additive = True

    def __init__(self, margin: float = 0.1) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """descriptors [N, D], labels [N] -> scalar. Raises TupleLayout."""
        tuples, weights = _tuples(descriptors, labels)
        squared = (tuples[:, :1] - tuples[:, 1:]).pow(2).sum(dim=2)
        of_triplet = torch.clamp(squared[:, :, None] - squared[:, None, :] + self.margin, min=0)
        return (of_triplet * weights[:, :, None] * (weights == 0)[:, None, :]).sum()

    def extra_repr(self) -> str:
        return f"margin={self.margin}"


class MultiSimilarityLoss(nn.Module):
    """Sum over queries of log(1 + sum_p exp(-alpha (s_p - base))) / alpha
    + log(1 + sum_n exp(beta (s_n - base))) / beta, s = inner product with the query.

    Of the positives those count whose similarity is below that of some negative + epsilon, of the negatives
    those above that of some positive - epsilon. Source: Wang et al., CVPR 2019, eq. 11, 12 and 15.
    """

    additive = False

    def __init__(
        self, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5, epsilon: float = 0.1
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.base, self.epsilon = alpha, beta, base, epsilon

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """descriptors [N, D], labels [N] -> scalar. Raises TupleLayout."""
        similarity, weights = _similarities(descriptors, labels)
        is_positive = weights > 0
        nearest = similarity.detach().masked_fill(is_positive, -torch.inf).amax(dim=1, keepdim=True)
        farthest = similarity.detach().masked_fill(~is_positive, torch.inf).amin(dim=1, keepdim=True)
        pulled = is_positive & (similarity.detach() < nearest + self.epsilon)
        pushed = ~is_positive & (similarity.detach() > farthest - self.epsilon)
        attract = _log_one_plus(-self.alpha * (similarity - self.base) + weights.log(), pulled) / self.alpha
        repel = _log_one_plus(self.beta * (similarity - self.base), pushed) / self.beta
        return (attract + repel).sum()

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, base={self.base}, epsilon={self.epsilon}"


class _WithTemperature(nn.Module):
    """A loss that is no sum over negatives, with differences of similarities divided by a temperature."""

    additive = False

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class SmoothAPLoss(_WithTemperature):
    """Sum over queries of 1 - AP, where a step in a rank is a sigmoid of the difference of similarities.

    AP = mean over positives i of (1 + sum over positives j of G(s_j - s_i)) / (1 + sum over all j of
    G(s_j - s_i)), j not i, G(x) = 1 / (1 + exp(-x / temperature)). Source: Brown et al., ECCV 2020, eq. 6.
    """

    def __init__(self, temperature: float = 0.01) -> None:
        super().__init__(temperature)

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """descriptors [N, D], labels [N] -> scalar. Raises TupleLayout."""
        similarity, weights = _similarities(descriptors, labels)
        is_positive = weights > 0
        ahead = torch.sigmoid((similarity[:, None, :] - similarity[:, :, None]) / self.temperature)
        ahead = ahead * ~torch.eye(similarity.shape[1], dtype=torch.bool, device=ahead.device)
        rank = 1 + ahead.sum(dim=2)
        among_positives = 1 + (ahead * is_positive[:, None, :]).sum(dim=2)
        precision = (among_positives / rank * weights).sum(dim=1) / weights.sum(dim=1)
        return (1 - precision).sum()


class SupervisedContrastiveLoss(_WithTemperature):
    """Sum over queries of the mean over positives, by their weights, of -log softmax(s / temperature).

    s: inner products of the query with all others of its tuple, the softmax over all of them. Source: Khosla
    et al., NeurIPS 2020, eq. 2; weights by overlap as in SupScene (arXiv 2601.11930).
    """

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__(temperature)

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """descriptors [N, D], labels [N] -> scalar. Raises TupleLayout."""
        similarity, weights = _similarities(descriptors, labels)
        surprise = -(similarity / self.temperature).log_softmax(dim=1)
        return ((surprise * weights).sum(dim=1) / weights.sum(dim=1)).sum()


class InfoNCELoss(_WithTemperature):
    """Sum over queries of the mean over positives, by their weights, of -log softmax(s / temperature).

    s: inner products with the query, the softmax over a positive and all negatives: positives do not compete.
    Source: van den Oord et al., arXiv 1807.03748, eq. 4, for several positives.
    """

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__(temperature)

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """descriptors [N, D], labels [N] -> scalar. Raises TupleLayout."""
        similarity, weights = _similarities(descriptors, labels)
        scaled = similarity / self.temperature
        negatives = scaled.masked_fill(weights > 0, -torch.inf).logsumexp(dim=1, keepdim=True)
        surprise = torch.logaddexp(scaled, negatives) - scaled
        return ((surprise * weights).sum(dim=1) / weights.sum(dim=1)).sum()


def _tuples(descriptors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """[T, 1 + n, D], and the weights of all but the query [T, n], 0 for negatives. Raises TupleLayout."""
    length = tuple_length(descriptors, labels)
    weights = labels.reshape(-1, length)[:, 1:].to(descriptors.dtype)
    if not bool((weights > 0).any(dim=1).all()):
        raise TupleLayout("every tuple needs a positive (label above 0)")
    return descriptors.reshape(-1, length, descriptors.shape[1]), weights


def _similarities(descriptors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each query to the others of its tuple, and their weights: [T, n] each. Raises TupleLayout."""
    tuples, weights = _tuples(descriptors, labels)
    return (tuples[:, :1] * tuples[:, 1:]).sum(dim=2), weights


def _log_one_plus(exponents: Tensor, chosen: Tensor) -> Tensor:
    """[T] log(1 + sum of exp of those chosen), without overflow."""
    chosen_only = exponents.masked_fill(~chosen, -torch.inf)
    return torch.cat([torch.zeros_like(exponents[:, :1]), chosen_only], dim=1).logsumexp(dim=1)


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
    if not bool((((labels >= 0) & (labels <= 1)) | is_query).all()):
        raise TupleLayout(
            f"labels {sorted(set(labels.tolist()))}: only -1 (query), 0 (negative) and weights of positives "
            "up to 1"
        )
    return length


def tuple_labels(negatives: int, tuples: int = 1, positives: int = 1) -> Tensor:
    """Labels of `tuples` tuples with so many positives of weight 1 and negatives: [tuples * (1 + positives +
    negatives)]."""
    return torch.tensor([-1.0] + [1.0] * positives + [0.0] * negatives).repeat(tuples)
