"""A linear classifier on frozen descriptors: how much of the classes a hyperplane each can tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.official.ranking import Blocks, Rows
from retrieval.official.readers.common import Ids

BATCH = 256
LEARNING_RATE = 1e-2


def linear_probe(
    blocks: Blocks, labels: Ids, test: Rows, *, epochs: int, num_classes: int, seed: int = 0
) -> NDArray[np.int64]:
    """Train multinomial logistic regression on descriptors; the five best classes of each test row, [M, 5].

    blocks: rows of the training descriptors in the order of labels [N]; test: [M, D]. Features are scaled to
    mean 0 and deviation 1 of the training set; Adam, cosine learning rate, batches drawn with the seed.
    Fewer than five classes give that many columns. Memory: one block and the classifier. Deterministic on a
    CPU with a fixed number of threads.
    """
    import torch
    from torch.nn import functional as F

    mean, deviation = _scale(blocks)
    generator = np.random.default_rng(seed)
    weight = torch.zeros(num_classes, len(mean), requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], lr=LEARNING_RATE)
    steps = epochs * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    for _ in range(epochs):
        start = 0
        for rows in blocks():
            scaled = torch.from_numpy((rows - mean) / deviation)
            wanted = torch.from_numpy(labels[start : start + len(rows)])
            for batch in _batches(generator, len(rows)):
                optimiser.zero_grad()
                F.cross_entropy(scaled[batch] @ weight.T + bias, wanted[batch]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
            start += len(rows)
    with torch.no_grad():
        logits = torch.from_numpy((test - mean) / deviation) @ weight.T + bias
        return np.asarray(logits.topk(min(5, num_classes), dim=1).indices.numpy())


def _batches(generator: np.random.Generator, count: int) -> list[NDArray[np.int64]]:
    order = generator.permutation(count)
    return [order[start : start + BATCH] for start in range(0, count, BATCH)]


def _scale(blocks: Blocks) -> tuple[Rows, Rows]:
    """Mean and deviation per dimension [D], in two passes.

    A hundredth of the mean variance is added, so that a dimension that train hardly uses is not blown up.
    """
    count, total = 0, np.zeros(1)
    for rows in blocks():
        total = total + rows.sum(axis=0, dtype=np.float64)
        count += len(rows)
    mean = total / count
    squares = np.zeros(1)
    for rows in blocks():
        squares = squares + ((rows - mean) ** 2).sum(axis=0)
    variance = squares / count
    deviation = np.sqrt(variance + 0.01 * variance.mean())
    return mean.astype(np.float32), np.where(deviation > 0, deviation, 1).astype(np.float32)
