"""Trainings of the published loop, written out here in plain torch, followed step by step.

The recorded ones (`test_training.py`) use Adam, the contrastive loss and a step per batch; these also SGD,
the triplet loss, several batches per step and tuples left over.
"""

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retrieval.networks.files import NetworkDescription
from retrieval.networks.network import RetrievalNetwork
from retrieval.networks.pooling import GeM
from retrieval.training.options import TrainingOptions
from retrieval.training.step import Learner, Stepping, TrainingPhotographs, set_learning_rate, train_tuples

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
RATE, DECAY, EPOCHS, TUPLES, PHOTOGRAPHS = 1e-3, 0.01, 2, 7, 40
MARGINS = {"contrastive": 0.7, "triplet": 0.1}


class Plain(nn.Module):
    """Convolutions with BatchNorm, GeM, L2, a linear layer, L2."""

    def __init__(self, exponents: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()), *(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())
        )
        self.p = nn.Parameter(torch.full((exponents,), 3.0))
        self.whiten = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        powered = self.features(x).clamp(min=1e-6).pow(self.p.view(-1, 1, 1))
        pooled = powered.mean(dim=(2, 3)).pow(1 / self.p)
        whitened = self.whiten(pooled / (pooled.norm(dim=1, keepdim=True) + 1e-6))
        return whitened / (whitened.norm(dim=1, keepdim=True) + 1e-6)


def plain_loss(name: str, rows: Tensor) -> Tensor:
    """rows: query, positive, negatives."""
    margin = MARGINS[name]
    if name == "triplet":
        to_positive = (rows[0] - rows[1]).pow(2).sum()
        return sum((margin + to_positive - (rows[0] - row).pow(2).sum()).clamp(min=0) for row in rows[2:])
    distances = [(rows[0] - row + 1e-6).norm() for row in rows[1:]]
    return 0.5 * distances[0] ** 2 + sum(0.5 * (margin - d).clamp(min=0) ** 2 for d in distances[1:])


def plain_training(
    network: Plain, epochs: Sequence[np.ndarray], photos: np.ndarray, loss: str, optimizer: str, batch: int,
    update_every: int,
) -> list[list[float]]:  # fmt: skip
    """The published loop: a backward pass per tuple, a step per update_every batches, what is left over
    dropped."""
    groups = [
        {"params": [*network.features.parameters(), *network.whiten.parameters()]},
        {"params": [network.p], "lr": RATE * (10 if len(network.p) == 1 else 100), "weight_decay": 0},
    ]
    if optimizer == "sgd":
        steps: torch.optim.Optimizer = torch.optim.SGD(groups, RATE, momentum=0.9, weight_decay=DECAY)
    else:
        steps = torch.optim.Adam(groups, RATE, weight_decay=DECAY)
    network.train()
    network.features[1].eval()
    losses = []
    for number, tuples in enumerate(epochs, start=1):
        for group, first in zip(steps.param_groups, (1, 10 if len(network.p) == 1 else 100), strict=True):
            group["lr"] = RATE * first * math.exp(-0.01 * number)
        steps.zero_grad()
        losses.append([])
        for position, images in enumerate(tuples.tolist(), start=1):
            pixels = [torch.from_numpy(photos[image]).permute(2, 0, 1) / 255.0 for image in images]
            value = plain_loss(loss, torch.cat([network(((x - MEAN) / STD)[None]) for x in pixels]))
            value.backward()
            losses[-1].append(value.item())
            if position % (batch * update_every) == 0:
                steps.step()
                steps.zero_grad()
    return losses


@pytest.mark.parametrize(
    ("optimizer", "loss", "batch", "update_every", "exponents"),
    [
        ("sgd", "contrastive", 1, 1, 1),
        ("sgd", "contrastive", 2, 3, 8),
        ("sgd", "triplet", 1, 3, 1),
        ("sgd", "triplet", 5, 1, 1),
        ("adam", "triplet", 1, 1, 8),
        ("adam", "contrastive", 1, 5, 1),
    ],
)
def test_the_published_loop(optimizer: str, loss: str, batch: int, update_every: int, exponents: int) -> None:
    generator = np.random.default_rng(0)
    photos = generator.integers(0, 256, (PHOTOGRAPHS, 24, 32, 3), dtype=np.uint8)
    epochs = [
        np.array([generator.permutation(PHOTOGRAPHS)[:5] for _ in range(TUPLES)], dtype=np.int64)
        for _ in range(EPOCHS)
    ]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = Plain(exponents)
        nn.init.uniform_(plain.features[1].running_mean, -0.5, 0.5)
        nn.init.uniform_(plain.features[1].running_var, 0.5, 2.0)
    own = copy.deepcopy(plain)
    pool = GeM(3.0, per_channel=None if exponents == 1 else exponents)
    network = RetrievalNetwork(
        own.features, pool, NetworkDescription("tiny", 8, whitening=True), whiten=own.whiten
    )
    expected = plain_training(plain, epochs, photos, loss, optimizer, batch, update_every)

    options = TrainingOptions(
        loss=loss, margin=MARGINS[loss], optimizer=optimizer, learning_rate=RATE, weight_decay=DECAY,
        tuples_per_step=batch * update_every,
    )  # fmt: skip
    learner, stepping = Learner.of(network, options), Stepping(options.tuples_per_step, step_remainder=False)
    for number, tuples in enumerate(epochs, start=1):
        set_learning_rate(learner.optimizer, options.rate_at(number))
        losses = train_tuples(learner, tuples, TrainingPhotographs(photos.__getitem__), stepping)
        np.testing.assert_allclose(losses, expected[number - 1], rtol=1e-5, atol=1e-9)
    found = dict(network.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(found["pool.p" if name == "p" else name], parameter, rtol=0, atol=1e-5)
    assert not torch.equal(network.pool.p.detach(), torch.full((exponents,), 3.0))
