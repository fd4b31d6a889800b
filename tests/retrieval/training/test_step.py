"""The inner loop: the published training's numbers, and that shortcuts change nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from retrieval.learning.gradients import tuple_gradients
from retrieval.learning.losses import (
    ContrastiveLoss,
    MultiSimilarityLoss,
    SmoothAPLoss,
    SupervisedContrastiveLoss,
    TripletLoss,
)
from retrieval.networks.files import NetworkDescription
from retrieval.networks.network import RetrievalNetwork
from retrieval.networks.pooling import MAC, GeM, Regional
from retrieval.training.options import MARGINS, TrainingOptions, TrainingResources
from retrieval.training.step import (
    Learner,
    Stepping,
    TrainingDiverged,
    TrainingPhotographs,
    make_loss,
    make_optimizer,
    set_learning_rate,
    train_tuples,
)
from tests.official import listed, needs, official

SHARED = official("oracles", "train")
ORACLES = listed("*.npz", "oracles", "train")
with_oracles = needs(SHARED)


def tiny(pool: nn.Module | None = None) -> RetrievalNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()), *(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())
        )
        whiten = nn.Linear(8, 8)
    return RetrievalNetwork(
        features,
        GeM(3) if pool is None else pool,
        NetworkDescription("tiny", 8, whitening=True),
        whiten=whiten,
    )


def photographs(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 24, 32, 3), dtype=np.uint8)


def parameters(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@with_oracles
@pytest.mark.parametrize("together", [1, 4])
@pytest.mark.parametrize("path", ORACLES, ids=lambda path: path.stem)
def test_the_published_training(path: Path, together: int) -> None:
    oracle = np.load(path)
    config = json.loads(str(oracle["config"]))
    network = tiny()
    start = {name[5:]: torch.from_numpy(oracle[name]) for name in oracle.files if name.startswith("init.")}
    network.load_state_dict({name: tensor.clone() for name, tensor in start.items()})
    options = TrainingOptions(
        loss=config["loss"],
        margin=config["margin"],
        optimizer=config["optimizer"],
        learning_rate=config["lr"],
        weight_decay=config["weight_decay"],
        momentum=config["momentum"],
        tuples_per_step=config["batch_size"] * config["update_every"],
    )
    learner = Learner.of(network, options)
    stepping = Stepping(options.tuples_per_step, step_remainder=False, negatives_at_a_time=together)
    for epoch in range(config["epochs"]):
        set_learning_rate(learner.optimizer, options.rate_at(epoch + 1))
        rates = [group["lr"] for group in learner.optimizer.param_groups]
        np.testing.assert_allclose(rates, oracle["lr_per_epoch"][epoch][:2], rtol=1e-5)
        load = TrainingPhotographs(
            lambda i: oracle["images_landscape" if i % 2 else "images_portrait"][i // 2]
        )
        losses = train_tuples(learner, oracle[f"epoch{epoch}_tuples"], load, stepping)
        np.testing.assert_allclose(losses, oracle[f"epoch{epoch}_losses"], rtol=1e-5)
        assert network.pool.p.item() == pytest.approx(oracle["gem_p"][epoch], abs=1e-5)
    for name, tensor in network.state_dict().items():
        np.testing.assert_allclose(tensor, oracle[f"final.{name}"], atol=1e-4, err_msg=name)


@with_oracles
def test_the_published_schedule_also_after_resuming() -> None:
    schedule = json.loads((SHARED / "lr_schedule.json").read_text())
    options = TrainingOptions(learning_rate=schedule["l0"])
    rates = [options.rate_at(epoch) for epoch in range(1, 7)]
    np.testing.assert_allclose(rates, schedule["uninterrupted"], rtol=1e-12)
    np.testing.assert_allclose(rates[3:], schedule["resumed_after_epoch_3"], rtol=1e-12)


def test_other_schedules_by_hand() -> None:
    matlab = TrainingOptions(learning_rate=1.0, schedule="exponential_matlab")
    np.testing.assert_allclose([matlab.rate_at(1), matlab.rate_at(11)], [1, np.exp(-1)])
    assert TrainingOptions(learning_rate=0.5, schedule="constant").rate_at(9) == 0.5
    cosine = TrainingOptions(learning_rate=1.0, schedule="cosine", epochs=4)
    np.testing.assert_allclose([cosine.rate_at(epoch) for epoch in (1, 3, 5)], [1, 0.5, 0], atol=1e-15)


@pytest.mark.parametrize(
    "loss",
    [
        ContrastiveLoss(0.2),
        ContrastiveLoss(1.5),
        TripletLoss(0.1),
        TripletLoss(3.0),
        MultiSimilarityLoss(epsilon=2.0),
        SmoothAPLoss(0.1),
        SupervisedContrastiveLoss(0.2),
    ],
)
@pytest.mark.parametrize("sizes", [(32, 20, 24, 32, 24), (32, 32, 24, 24), (32, 20, 24), (20, 20)])
@pytest.mark.parametrize(("weights", "further"), [([1.0], 0), ([1.0], 3), ([0.7, 0.2], 2)])
def test_gradients_are_those_of_one_graph_over_the_whole_tuple(
    loss: nn.Module, sizes: tuple[int, ...], weights: list[float], further: int
) -> None:
    torch.manual_seed(0)
    if len(sizes) <= len(weights):
        weights = weights[:1]
    network = tiny().double().train()
    labels = torch.tensor([-1.0, *weights, *[0.0] * (len(sizes) - 1 - len(weights) + further)])
    batch = [torch.randn(1, 3, 24, size, dtype=torch.float64) for size in sizes]
    more = nn.functional.normalize(torch.randn(further, 8, dtype=torch.float64))
    described = torch.cat([network(photo) for photo in batch])
    value = loss(torch.cat([described, more]), labels.double())
    value.backward()
    expected = [parameter.grad.clone() for parameter in network.parameters()]
    for together in (1, 2, 8):
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        found, rows = tuple_gradients(
            network,
            batch,
            loss,
            weights=torch.tensor(weights, dtype=torch.float64),
            further=(lambda anchors: more) if further else None,
            negatives_at_a_time=together,
            anchors_together=together > 1,
        )
        assert found == pytest.approx(value.item())
        torch.testing.assert_close(rows, described.detach())
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_in_bfloat16_query_and_positive_of_equal_size_share_a_pass() -> None:
    """Query and positive, which are kept together anyway; in float32 each has its own."""
    passes: dict[str, list[int]] = {}
    for precision in ("float32", "bfloat16"):
        network, batches = tiny(), []
        network.register_forward_hook(lambda _, given, out, seen=batches: seen.append(len(given[0])))
        given = photographs(7)
        optimizer = make_optimizer(network, TrainingOptions())
        learner, load = (
            Learner(network, optimizer, ContrastiveLoss(1.5)),
            TrainingPhotographs(given.__getitem__),
        )
        train_tuples(learner, np.arange(7)[None], load, Stepping(precision=precision))
        passes[precision] = batches
    assert passes == {"float32": [1] * 7, "bfloat16": [2, 1, 1, 1, 1, 1]}


def test_one_negatives_activations_are_kept_at_a_time() -> None:
    """However many negatives there are: query, positive and one negative have a graph, never more."""
    alive, most = [0], [0]

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(context, rows):  # type: ignore[no-untyped-def]
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            return rows.clone()

        @staticmethod
        def backward(context, gradient):  # type: ignore[no-untyped-def]
            alive[0] -= 1
            return gradient

    network = tiny().train()

    def forward(photo: torch.Tensor) -> torch.Tensor:
        return Watched.apply(network(photo))

    for negatives in (1, 10):
        alive[0], most[0] = 0, 0
        batch = [torch.randn(1, 3, 24, 32) for _ in range(2 + negatives)]
        tuple_gradients(forward, batch, ContrastiveLoss(2.0))
        assert most[0] == 3 and alive[0] == 0


def test_negatives_beyond_the_margin_run_no_backward_pass() -> None:
    class Fixed(nn.Module):
        """Photograph i -> its descriptor; counts the backward passes."""

        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Parameter(
                torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.3, 0.0], [9.0, 0.0], [0.0, 9.0]])
            )
            self.passes = 0

        def forward(self, photo: torch.Tensor) -> torch.Tensor:
            row = self.rows[int(photo.flatten()[0])][None]
            if row.requires_grad:
                row.register_hook(lambda gradient: setattr(self, "passes", self.passes + 1))
            return row

    network = Fixed()
    photos = [torch.full((1, 3, 1, 1), float(i)) for i in range(5)]
    tuple_gradients(network, photos, ContrastiveLoss(0.7))
    assert network.passes == 3
    assert network.rows.grad[3:].abs().sum() == 0


@pytest.mark.parametrize(("tuples", "remainder", "steps"), [(5, True, 3), (5, False, 2), (4, True, 2)])
def test_steps_per_tuples(tuples: int, remainder: bool, steps: int) -> None:
    network, photos = tiny(), photographs(8)
    optimizer = make_optimizer(network, TrainingOptions())
    taken: list[int] = []
    optimizer.register_step_post_hook(lambda *_: taken.append(1))
    rows = np.random.default_rng(0).permutation(8)[None, :4].repeat(tuples, axis=0)
    learner = Learner(network, optimizer, ContrastiveLoss(0.7))
    train_tuples(
        learner, rows, TrainingPhotographs(photos.__getitem__), Stepping(2, step_remainder=remainder)
    )
    assert len(taken) == steps


def test_statistics_stay_and_everything_else_moves() -> None:
    network, photos = tiny(), photographs(8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = make_optimizer(network, TrainingOptions(learning_rate=1e-3))
    learner = Learner(network, optimizer, ContrastiveLoss(0.7))
    train_tuples(learner, np.array([[0, 1, 2, 3]]), TrainingPhotographs(photos.__getitem__))
    same = {name for name, tensor in network.state_dict().items() if torch.equal(before[name], tensor)}
    assert same == {f"features.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert not network.training


def test_rates_of_the_exponent() -> None:
    def rates(pool: nn.Module) -> list[tuple[float, float]]:
        optimizer = make_optimizer(tiny(pool), TrainingOptions(learning_rate=1e-3, weight_decay=0.1))
        set_learning_rate(optimizer, 2.0)
        return [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]

    assert rates(GeM(3)) == [(2.0, 0.1), (20.0, 0.0)]
    assert rates(GeM(3, per_channel=8)) == [(2.0, 0.1), (200.0, 0.0)]
    assert rates(Regional(GeM(3))) == [(2.0, 0.1), (20.0, 0.0)]
    assert rates(MAC()) == [(2.0, 0.1)]


def test_margins() -> None:
    options = TrainingOptions()
    assert options.margin_for("resnet101") == MARGINS["resnet"] == 0.85
    assert options.margin_for("vgg16") == 0.75 and options.margin_for("alexnet") == 0.7
    assert TrainingOptions(margin=0.3).margin_for("vgg16") == 0.3
    assert isinstance(make_loss(TrainingOptions(loss="triplet"), "vgg16"), TripletLoss)


def test_loading_ahead_changes_nothing() -> None:
    photos, rows = photographs(12), np.random.default_rng(1).permutation(12).reshape(3, 4)
    results = []
    for threads in (0, 2):
        network = tiny()
        optimizer = make_optimizer(network, TrainingOptions(learning_rate=1e-2))
        learner = Learner(network, optimizer, ContrastiveLoss(0.7))
        stepping = Stepping(1, loader_threads=threads)
        losses = train_tuples(learner, rows, TrainingPhotographs(photos.__getitem__), stepping)
        results.append(torch.cat([parameters(network), torch.from_numpy(losses).float()]))
    assert torch.equal(results[0], results[1])


def test_divergence_names_the_tuple() -> None:
    network = tiny()
    network.features[0].weight.data.fill_(float("nan"))
    learner = Learner(network, make_optimizer(network, TrainingOptions()), ContrastiveLoss(0.7))
    named = TrainingPhotographs(photographs(3).__getitem__, name=lambda image: f"p{image}")
    with pytest.raises(
        TrainingDiverged, match=r"tuple 1 \(query 'p2', positives \['p0'\], negatives \['p1'\]\)"
    ):
        train_tuples(learner, np.array([[2, 0, 1]]), named)


@pytest.mark.parametrize(
    "name", ["contrastive", "triplet", "multi_similarity", "smooth_ap", "supervised_contrastive"]
)
def test_every_loss_of_the_options_falls_when_it_is_trained_for(name: str) -> None:
    torch.manual_seed(0)
    options = TrainingOptions(loss=name, optimizer="sgd", learning_rate=0.02, tuples_per_step=2)
    photographs = np.random.default_rng(0).integers(0, 255, (8, 40, 40, 3), dtype=np.uint8)
    learner = Learner.of(tiny(), options)
    tuples = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    set_learning_rate(learner.optimizer, 0.02)
    losses = [
        train_tuples(
            learner,
            tuples,
            TrainingPhotographs(photographs.__getitem__),
            Stepping.of(options, TrainingResources()),
        ).sum()
        for _ in range(8)
    ]
    assert losses[0] > 0 and losses[-1] < losses[0]
