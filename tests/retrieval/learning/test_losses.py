"""Losses against hand-computed values, properties, and the published code's numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from retrieval.learning.losses import (
    ContrastiveLoss,
    InfoNCELoss,
    MultiSimilarityLoss,
    SmoothAPLoss,
    SupervisedContrastiveLoss,
    TripletLoss,
    TupleLayout,
    tuple_labels,
)
from tests.official import listed, needs, official

ORACLES = listed("*.npz", "oracles", "loss")


LOSSES = [
    InfoNCELoss(0.3),
    ContrastiveLoss(0.9),
    TripletLoss(0.5),
    MultiSimilarityLoss(epsilon=0.7),
    SmoothAPLoss(0.3),
    SupervisedContrastiveLoss(0.3),
]


def random_tuples(tuples: int, negatives: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tuples)
    rows = torch.randn(tuples * (2 + negatives), 6, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(rows), tuple_labels(negatives, tuples)


def test_contrastive_by_hand() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.3, 0.4], [0.0, 0.6], [3.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([-1, 1, 0, 0])
    # positive 0.5 * 0.25, near negative 0.5 * (0.7 - 0.6)^2, far negative nothing
    assert ContrastiveLoss(0.7)(rows, labels).item() == pytest.approx(0.125 + 0.005, abs=1e-6)


def test_triplet_by_hand() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.3, 0.4], [0.0, 0.6], [3.0, 0.0]], dtype=torch.float64)
    assert TripletLoss(0.2)(rows, torch.tensor([-1, 1, 0, 0])).item() == pytest.approx(0.2 + 0.25 - 0.36)


def with_similarities(positives: list[float], negatives: list[float]) -> tuple[Tensor, Tensor]:
    """A tuple whose similarities to the query are these, several positives too."""
    found = torch.tensor([1.0, *positives, *negatives], dtype=torch.float64)
    rows = torch.stack([found, (1 - found**2).clamp(min=0).sqrt()], dim=1)
    return rows, torch.tensor([-1.0] + [1.0] * len(positives) + [0.0] * len(negatives))


def test_multi_similarity_by_hand() -> None:
    rows, labels = with_similarities([0.9, 0.4], [0.8, 0.6, 0.1])
    # the positive of 0.9 is not below 0.8 + 0.05; the negative of 0.1 is not above 0.4 - 0.05
    expected = np.log(1 + np.exp(-2 * (0.4 - 0.5))) / 2
    expected += np.log(1 + np.exp(10 * (0.8 - 0.5)) + np.exp(10 * (0.6 - 0.5))) / 10
    found = MultiSimilarityLoss(alpha=2, beta=10, base=0.5, epsilon=0.05)(rows, labels)
    assert found.item() == pytest.approx(expected)
    far = with_similarities([0.9], [0.1, 0.2])
    assert MultiSimilarityLoss()(*far).item() == 0


def test_smooth_ap_by_hand() -> None:
    rows, labels = with_similarities([0.9, 0.4], [0.6])

    def step(difference: float) -> float:
        return 1 / (1 + np.exp(-difference / 0.2))

    first = (1 + step(0.4 - 0.9)) / (1 + step(0.4 - 0.9) + step(0.6 - 0.9))
    second = (1 + step(0.9 - 0.4)) / (1 + step(0.9 - 0.4) + step(0.6 - 0.4))
    assert SmoothAPLoss(0.2)(rows, labels).item() == pytest.approx(1 - (first + second) / 2)
    # with a step that is a step it is the average precision: ranks 1 and 3
    assert SmoothAPLoss(1e-4)(rows, labels).item() == pytest.approx(1 - (1 / 1 + 2 / 3) / 2)


def test_supervised_contrastive_by_hand() -> None:
    rows, labels = with_similarities([0.9, 0.4], [0.6])
    labels[2] = 0.25
    everything = np.exp(np.array([0.9, 0.4, 0.6]) / 0.5)
    near, far = -np.log(everything[:2] / everything.sum())
    expected = (1.0 * near + 0.25 * far) / 1.25
    assert SupervisedContrastiveLoss(0.5)(rows, labels).item() == pytest.approx(expected)


def test_info_nce_by_hand() -> None:
    rows, labels = with_similarities([0.9, 0.4], [0.6, 0.1])
    labels[2] = 0.25
    found = np.exp(np.array([0.9, 0.4, 0.6, 0.1]) / 0.5)
    near, far = -np.log(found[:2] / (found[:2] + found[2:].sum()))  # positives do not compete
    expected = (1.0 * near + 0.25 * far) / 1.25
    assert InfoNCELoss(0.5)(rows, labels).item() == pytest.approx(expected)


def test_weights_of_positives_by_hand() -> None:
    rows, labels = with_similarities([0.9, 0.4], [0.6])
    labels[2] = 0.5
    squared = 2 - 2 * np.array([0.9, 0.4, 0.6])  # rows of unit length
    pulled = 0.5 * (squared[0] + 0.5 * squared[1])
    assert ContrastiveLoss(0.1)(rows, labels).item() == pytest.approx(pulled, abs=1e-5)
    hinges = np.maximum(0, squared[:2] - squared[2] + 0.9)
    assert TripletLoss(0.9)(rows, labels).item() == pytest.approx(hinges[0] + 0.5 * hinges[1])
    steps = 1 / (1 + np.exp(-np.array([[0, -0.5, -0.3], [0.5, 0, 0.2]]) / 0.2))
    precision = [(1 + own[:2].sum() - 0.5) / (1 + own.sum() - 0.5) for own in steps]
    expected = 1 - (precision[0] + 0.5 * precision[1]) / 1.5
    assert SmoothAPLoss(0.2)(rows, labels).item() == pytest.approx(expected)
    pull = 2 * 0.5 * np.exp(-2 * (0.4 - 0.5)) / 2
    found = MultiSimilarityLoss(alpha=2, beta=10, base=0.5, epsilon=0.05)(rows, labels).item()
    assert found == pytest.approx(np.log(1 + pull) / 2 + np.log(1 + np.exp(10 * (0.6 - 0.5))) / 10)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_take_several_weighted_positives(loss: torch.nn.Module) -> None:
    rows, _ = random_tuples(2, 4)
    labels = torch.tensor([-1, 1, 0.3, 0, 0, 0] * 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), rows.requires_grad_())


@pytest.mark.parametrize(
    "loss", [MultiSimilarityLoss(), SmoothAPLoss(), SupervisedContrastiveLoss(), InfoNCELoss()]
)
def test_a_tuple_without_a_positive_is_refused(loss: torch.nn.Module) -> None:
    with pytest.raises(TupleLayout, match="needs a positive"):
        loss(torch.eye(3), torch.tensor([-1, 0, 0]))


def test_labels_of_tuples() -> None:
    assert tuple_labels(2, 2).tolist() == [-1, 1, 0, 0, -1, 1, 0, 0]
    assert tuple_labels(1, positives=3).tolist() == [-1, 1, 1, 1, 0]


@pytest.mark.parametrize("loss", LOSSES)
def test_several_tuples_sum_up(loss: torch.nn.Module) -> None:
    rows, labels = random_tuples(3, 4)
    alone = [loss(rows[i : i + 6], labels[:6]) for i in (0, 6, 12)]
    torch.testing.assert_close(loss(rows, labels), sum(alone))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_values(loss: torch.nn.Module) -> None:
    rows, labels = random_tuples(2, 3)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), rows.requires_grad_())


def test_far_negatives_have_no_gradient() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.2], [5.0, 5.0]], requires_grad=True)
    ContrastiveLoss(0.7)(rows, tuple_labels(2)).backward()
    assert rows.grad[3].tolist() == [0, 0] and rows.grad[2].abs().sum() > 0


def test_equal_descriptors_have_a_finite_gradient() -> None:
    rows = torch.ones(3, 4, requires_grad=True)
    ContrastiveLoss(0.7)(rows, tuple_labels(1)).backward()
    assert torch.isfinite(rows.grad).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, -1, 0], "equally long tuples"),
        ([-1, 1, 0, -1, 1], "equally long tuples"),
        ([-1, 1, 0, 0, -1, 1], "equally long tuples"),
        ([0, 1, 0], "equally long tuples"),
        ([-1, 1, 2], "only -1"),
        ([-1, 1, -0.5], "only -1"),
        ([-1, -1, -1], "equally long tuples"),
    ],
)
@pytest.mark.parametrize("loss", [ContrastiveLoss(0.7), TripletLoss(0.1)])
def test_broken_layouts_are_refused(loss: torch.nn.Module, labels: list[int], message: str) -> None:
    with pytest.raises(TupleLayout, match=message):
        loss(torch.ones(len(labels), 2), torch.tensor(labels))


def test_triplets_need_a_positive_and_rows_need_labels() -> None:
    with pytest.raises(TupleLayout, match="needs a positive"):
        TripletLoss(0.1)(torch.ones(3, 2), torch.tensor([-1, 0, 0]))
    with pytest.raises(TupleLayout, match=r"\[N, D\]"):
        ContrastiveLoss(0.1)(torch.ones(3, 2), torch.tensor([-1, 1]))


@needs(official("oracles", "loss"))
@pytest.mark.parametrize("path", ORACLES, ids=lambda path: path.stem)
def test_values_and_gradients_of_the_published_code(path: Path) -> None:
    oracle = np.load(path)
    labels = torch.from_numpy(oracle["label"])
    for name, loss in {
        "contrastive": ContrastiveLoss(float(oracle["margin"])),
        "triplet": TripletLoss(float(oracle["triplet_margin"])),
        "triplet_m05": TripletLoss(0.5),
    }.items():
        rows = torch.from_numpy(oracle["x"].T.copy()).requires_grad_()
        value = loss(rows, labels)
        value.backward()
        assert value.item() == pytest.approx(float(oracle[name]), rel=1e-5)
        np.testing.assert_allclose(rows.grad.T, oracle[f"{name}_grad"], rtol=1e-4, atol=1e-9)
