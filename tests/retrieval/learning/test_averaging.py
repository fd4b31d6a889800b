"""Means of weights by hand."""

import pytest
import torch
from torch import nn

from retrieval.learning.averaging import Average, blend


def network(value: float) -> nn.BatchNorm1d:
    made = nn.BatchNorm1d(1)
    with torch.no_grad():
        made.weight.fill_(value)
    return made


def test_the_mean_over_epochs() -> None:
    trained = network(8.0)
    average = Average(trained, "epochs", 0.99)
    for value in (1.0, 2.0, 6.0):
        trained.weight.data.fill_(value)
        average.after_step()
        average.after_epoch()
    assert average.weights["weight"].item() == pytest.approx(3.0)
    with average.applied():
        assert trained.weight.item() == pytest.approx(3.0)
    assert trained.weight.item() == 6.0


def test_the_mean_over_steps_begins_at_the_start() -> None:
    trained = network(1.0)
    average = Average(trained, "steps", 0.75)
    trained.weight.data.fill_(5.0)
    average.after_step()
    assert average.weights["weight"].item() == pytest.approx(2.0)
    other = Average(network(0.0), "steps", 0.75)
    other.restore(average.weights, average.count)
    for each in (average, other):
        each._network.weight.data.fill_(6.0)
        each.after_step()
        assert each.weights["weight"].item() == pytest.approx(3.0)


def test_without_an_average_the_network_is_itself() -> None:
    trained = network(2.0)
    average = Average(trained, "none", 0.99)
    average.after_step()
    average.after_epoch()
    with average.applied():
        assert trained.weight.item() == 2.0
    assert not average.weights and not average.count


def test_counters_are_not_mixed() -> None:
    weights = {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)}
    blend(weights, {"w": torch.tensor([4.0, 0.0]), "n": torch.tensor(9)}, 0.25)
    assert weights["w"].tolist() == [1.0, 3.0] and weights["n"].item() == 3
