"""Descriptors of the last mining in place of photographs, and photographs that are to find themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from retrieval.describe.describe import DescriptorTable, extract
from retrieval.learning.gradients import query_gradients
from retrieval.learning.losses import InfoNCELoss
from retrieval.networks.network import load_network
from retrieval.training.augmentation import drawn_views, view
from retrieval.training.epoch_tuples import with_those_beside
from retrieval.training.finetune import finetune
from retrieval.training.memory import Standing
from retrieval.training.options import NETWORK_FILE
from retrieval.training.positives import WithoutMatches
from retrieval.training.step import train_tuples
from retrieval.training.subject import learnt
from storage.hdf5 import file as hdf5
from storage.hdf5.digests import content_sha256
from tests.retrieval.training.test_memory import unit, world
from tests.retrieval.training.walls import OPTIONS, RESOURCES, Folder, Killed, history, train, with_matches

STANDING = OPTIONS.model_copy(
    update={
        "compared_with": "descriptors",
        "loss": "info_nce",
        "temperature": 0.1,
        "positives_per_tuple": 2,
        "augment_scale": 0.8,
        "augment_crop": 0.2,
        "augment_views": 2,
        "own_views": 5,
        "learning_rate": 1e-3,
    }
)


def test_a_query_is_compared_with_the_pool_but_what_may_show_its_place() -> None:
    standing = Standing()
    rows = unit(0, 0.1, 1, 2, 3, 4, 5)
    standing.table = DescriptorTable(np.arange(7), rows)
    tuples = np.array([[0, 1, 3], [4, 4, -1], [6, 6, -1], [2, 3, 5]])
    standing.know(world(), tuples, np.arange(7))
    positives, negatives = standing.others(tuples[0], 1)
    np.testing.assert_array_equal(positives, rows[[1]])
    np.testing.assert_array_equal(negatives, rows[[2, 3, 5]])  # 4 is refused, 6 has no verdict
    positives, negatives = standing.others(tuples[1], 1)
    np.testing.assert_array_equal(positives, rows[[4]])
    np.testing.assert_array_equal(negatives, rows[[2, 3, 6]])  # 4 was refused for the cluster of 0 and 1
    np.testing.assert_array_equal(standing.others(tuples[2], 1)[1], rows[:6])
    np.testing.assert_array_equal(standing.others(tuples[3], 1)[1], rows[[0, 1, 4, 5]])


def test_what_was_matched_without_a_model_is_no_negative() -> None:
    """Image 6 was matched with 2 and is no query: neither the cluster of 2 nor itself is its negative."""
    standing, rows = Standing(), unit(0, 0.1, 1, 2, 3, 4, 5)
    standing.table = DescriptorTable(np.arange(7), rows)
    pairs = {"matched/first": np.array([2]), "matched/second": np.array([6])}
    tuples = np.array([[6, 2, -1], [3, 3, -1]])
    standing.know(world() | pairs, tuples, np.arange(7))
    positives, negatives = standing.others(tuples[0], 1)
    np.testing.assert_array_equal(positives, rows[[2]])
    np.testing.assert_array_equal(negatives, rows[[0, 1, 4, 5]])
    np.testing.assert_array_equal(standing.others(tuples[1], 1)[1], rows[[0, 1, 4, 5, 6]])


def test_further_queries_are_shuffled_among_the_tuples() -> None:
    mined = np.array([[0, 1, 2, 5, 6], [3, 4, 2, 7, 8]])
    beside = np.array([[9, 9, 9], [7, 1, 3]])
    found = with_those_beside(mined, beside, np.random.default_rng(0))
    assert sorted(found.tolist()) == sorted([*mined.tolist(), [9, 9, 9, -1, -1], [7, 1, 3, -1, -1]])
    assert with_those_beside(mined, beside[:0], np.random.default_rng(0)) is mined


def test_a_training_on_what_was_matched(world: Path, tmp_path: Path) -> None:
    options = STANDING.model_copy(update={"through_matches": 0.5, "epochs": 1})
    with pytest.raises(WithoutMatches, match=r"select it anew, or set through_matches=0"):
        train(world, tmp_path / "none", options)
    names = hdf5.read(world / "set.h5", "training_set", ["images/name"])["images/name"].tolist()
    lonely = names.index("lonely1.png")
    matched = with_matches(world, tmp_path / "world", [(0, lonely, 12), (4, lonely, 10)])
    given: list[Any] = []

    def noted(learner: Any, tuples: Any, *rest: Any, **named: Any) -> Any:
        given.append(tuples)
        return train_tuples(learner, tuples, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrieval.training.trainer.train_tuples", noted)
        train(matched, tmp_path / "some", options)
    (tuples,) = given
    (mine,) = tuples[tuples[:, 0] == lonely]
    assert set(mine[1:3].tolist()) == {0, 4} and (mine[3:] == -1).all()
    assert lonely not in history(tmp_path / "some")["mined/query"]


def test_gradients_of_a_query_among_descriptors_that_stand() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(4, 3).double()
    photograph = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    others = torch.nn.functional.normalize(torch.randn(6, 3, generator=generator, dtype=torch.float64))
    weights, loss = torch.tensor([1.0, 0.5], dtype=torch.float64), InfoNCELoss(0.3)
    value, row = query_gradients(layer, photograph, others[:2], others[2:], loss, weights)
    expected = layer(photograph)
    similarity = (others @ expected[0] / 0.3).exp()
    terms = [-torch.log(each / (each + similarity[2:].sum())) for each in similarity[:2]]
    wanted = (terms[0] + 0.5 * terms[1]) / 1.5
    (gradient,) = torch.autograd.grad(wanted, layer.weight)
    torch.testing.assert_close(layer.weight.grad, gradient, rtol=1e-10, atol=1e-12)
    assert value == pytest.approx(wanted.item()) and torch.equal(row, expected.detach())


def test_views_are_few_and_always_the_same() -> None:
    photograph = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    assert view(photograph, STANDING, 3, 0) is photograph
    first, again, second, other = (
        view(photograph, STANDING, *key) for key in ((3, 1), (3, 1), (3, 2), (4, 1))
    )
    assert np.array_equal(first, again) and first.shape != photograph.shape
    assert not np.array_equal(first, second) and not np.array_equal(first, other)
    tuples = np.array([[0, 1, 2]] * 200 + [[5, 5, -1]] * 200)
    numbers = drawn_views(tuples, STANDING, 1)
    assert set(numbers[:200].ravel().tolist()) == {0, 1, 2} and set(numbers[200:].ravel().tolist()) == {1, 2}
    np.testing.assert_array_equal(drawn_views(tuples[7:], STANDING, 1, first=7), numbers[7:])


@pytest.mark.parametrize(("trainable", "teacher"), [("all", ()), ("last", ()), ("last", (48, 64))])
def test_queries_alone_pass_and_a_killed_training_ends_the_same(
    world: Path, tmp_path: Path, trainable: str, teacher: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"trainable": trainable, "teacher_sizes": teacher, "loss_on": "whitened"}
    options = STANDING.model_copy(update=more)
    given: list[tuple[Any, int]] = []

    def noted(learner: Any, tuples: Any, *rest: Any, **named: Any) -> Any:
        assert named["standing"] is not None
        given.append((tuples, named["weights"].shape[1]))
        return train_tuples(learner, tuples, *rest, **named)

    monkeypatch.setattr("retrieval.training.trainer.train_tuples", noted)

    def kill(event: Any) -> None:
        if (event.epoch, event.phase, event.done) == (2, "training", 7):
            raise Killed

    several = {"threads": 2, "loader_threads": 1}  # who computes first what is kept must not matter
    resources = RESOURCES.model_copy(update={"checkpoint_steps": 1, "checkpoint_pause_s": 0} | several)
    for place in ("killed", "calm"):
        for progress in (kill, lambda event: None) if place == "killed" else (lambda event: None,):
            try:
                finetune(
                    world / "set.h5",
                    world / "network.safetensors",
                    Folder(world / "photos"),
                    options,
                    out=tmp_path / place / "out",
                    work_dir=tmp_path / place / "work",
                    resources=resources,
                    progress=progress,
                )
            except Killed:
                assert progress is kill
    assert content_sha256(tmp_path / "killed" / "out") == content_sha256(tmp_path / "calm" / "out")
    assert [len(tuples) for tuples, _ in given] == [13, 13, 8, 13, 13]  # the second of the killed goes on
    own = [int((tuples[:, 0] == tuples[:, 1]).sum()) for tuples, _ in given]
    assert own[0] == own[1] == 5 and {positives for _, positives in given} == {2}
    record = history(tmp_path / "calm")
    assert (record["mined/query"] != record["mined/positive"]).all() and len(record["mined/query"]) == 16
    before, after = (
        load_network(path).state_dict()
        for path in (world / "network.safetensors", tmp_path / "calm" / "out" / NETWORK_FILE)
    )
    assert int(record["best_epoch"]) == 0 or any(
        not torch.equal(before[name], tensor) for name, tensor in after.items()
    )


@pytest.mark.parametrize("loss_on", ["pooled", "whitened"])
def test_a_teacher_is_the_network_before_training_at_several_sizes(
    world: Path, tmp_path: Path, loss_on: str
) -> None:
    """What queries are compared with is the sum of its descriptors, in every epoch, and in no checkpoint."""
    options = STANDING.model_copy(update={"teacher_sizes": (48, 64), "loss_on": loss_on})
    given: list[Any] = []

    def noted(learner: Any, tuples: Any, *rest: Any, **named: Any) -> Any:
        given.append(named["standing"].table)
        return train_tuples(learner, tuples, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrieval.training.trainer.train_tuples", noted)
        train(world, tmp_path, options)
    arrays = hdf5.read(world / "set.h5", "training_set")
    paths = [world / "photos" / str(name) for name in arrays["images/name"]]
    before = load_network(world / "network.safetensors")
    rows = sum(extract(before, paths, image_size=size, threads=1, device="cpu") for size in (48, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    expected = learnt(rows, arrays, options).apply(rows) if loss_on == "whitened" else rows
    assert len(given) == 2
    for table in given:
        np.testing.assert_array_equal(table.images, np.arange(len(rows)))
        np.testing.assert_allclose(table.rows @ table.rows.T, expected @ expected.T, atol=1e-4)
    losses = history(tmp_path)["epochs/loss_train"]
    assert np.isfinite(losses[1:]).all()
    for checkpoint in (tmp_path / "work").glob("epoch_*.safetensors"):
        assert not any("standing" in name for name in load_file(checkpoint))


def test_it_learns(world: Path, tmp_path: Path) -> None:
    plain = {"epochs": 4, "own_views": 0, "augment_views": None, "augment_scale": 1.0, "augment_crop": 0.0}
    train(world, tmp_path, STANDING.model_copy(update=plain | {"queries_per_epoch": None}))
    losses = history(tmp_path)["epochs/loss_train"]
    assert losses[4] < losses[1]
