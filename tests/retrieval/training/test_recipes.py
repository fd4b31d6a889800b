"""Ways to train beside the paper's: what learns, positives, means of weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrieval.benchmarks.geometry import GeometryBenchmark, InvalidBenchmark, score
from retrieval.benchmarks.val import Val
from retrieval.describe.describe import PhotographTooSmall, extract
from retrieval.describe.images import normalise
from retrieval.networks.network import build_network, load_network
from retrieval.networks.options import NetworkOptions
from retrieval.networks.trunks import halves, stages
from retrieval.training.finetune import finetune
from retrieval.training.options import NETWORK_FILE
from retrieval.training.subject import learnt
from storage.hdf5 import file as hdf5
from storage.hdf5.digests import content_sha256
from tests.retrieval.training.walls import OPTIONS, RESOURCES, Folder, Killed, history, train, with_matches


def test_several_positives_of_a_query_are_in_the_record(world: Path, tmp_path: Path) -> None:
    train(world, tmp_path, OPTIONS.model_copy(update={"epochs": 1, "positives_per_tuple": 3}))
    record = history(tmp_path)
    clusters = hdf5.read(world / "set.h5", "training_set", ["images/cluster"])["images/cluster"]
    positives = np.column_stack([record["mined/positive"], record["mined/further_positives"]])
    assert positives.shape == (8, 3) and record["mined/negatives"].shape == (8, 3)
    assert (clusters[positives] == clusters[record["mined/query"]][:, None]).all()
    assert all(
        len({int(query), *row}) == 4 for query, row in zip(record["mined/query"], positives, strict=True)
    )


@pytest.mark.parametrize("average", ["epochs", "steps"])
def test_the_mean_of_the_weights_is_measured_and_kept(world: Path, tmp_path: Path, average: str) -> None:
    options = OPTIONS.model_copy(update={"learning_rate": 1e-3})
    networks = []
    for name in ("none", average):
        each = options.model_copy(update={"average": name, "average_decay": 0.5})
        train(world, tmp_path / name, each)
        networks.append(history(tmp_path / name))
    plain, mean = networks
    assert mean["mined/negatives"].tolist() == plain["mined/negatives"].tolist()  # training is as it was
    np.testing.assert_array_equal(mean["epochs/loss_train"], plain["epochs/loss_train"])
    assert mean["epochs/loss_val"][2] != plain["epochs/loss_val"][2]


def test_the_kept_network_may_be_mixed_with_the_one_before(
    world: Path, trained: Path, tmp_path: Path
) -> None:
    options = OPTIONS.model_copy(update={"epochs": 3, "off_the_shelf_shares": (0.0, 0.25, 0.75)})
    train(world, tmp_path, options)
    record = history(tmp_path)
    assert record["blends/share"].tolist() == [0.75, 0.25, 0.0]
    best = int(np.argmax(record["blends/map_val"]))  # the first of equals has the largest share
    assert record["blends/kept"] == record["blends/share"][best]
    before, after, mixed = (
        load_network(path).state_dict()
        for path in (
            world / "network.safetensors",
            trained / "out" / NETWORK_FILE,
            tmp_path / "out" / NETWORK_FILE,
        )
    )
    share = float(record["blends/kept"])
    for name, tensor in mixed.items():
        expected = share * before[name] + (1 - share) * after[name]
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)


def test_an_epoch_can_be_judged_among_all_photographs(world: Path, tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"epochs": 1})
    measured = []
    for where in ("val", "all"):
        train(world, tmp_path / where, options.model_copy(update={"val_database": where}))
        measured.append(history(tmp_path / where)["epochs/val_average_precision"][0])
    arrays = hdf5.read(world / "set.h5", "training_set")
    paths = [world / "photos" / str(name) for name in arrays["images/name"]]
    rows = extract(load_network(world / "network.safetensors"), paths, image_size=48, device="cpu")
    expected = Val.of(arrays, "all").precisions(rows.__getitem__)
    np.testing.assert_allclose(measured[1], expected, rtol=1e-6)
    assert (measured[1] <= measured[0] + 1e-12).all() and (measured[1] < measured[0]).any()


def test_an_epoch_can_be_judged_by_clusters_of_matched_photographs(world: Path, tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"epochs": 1, "val_queries": "clusters"})
    with pytest.raises(InvalidBenchmark, match="val_queries=models"):
        train(world, tmp_path / "without", options)
    matched = with_matches(world, tmp_path / "world", [])
    train(matched, tmp_path / "with", options)
    arrays = hdf5.read(matched / "set.h5", "training_set")
    paths = [world / "photos" / str(name) for name in arrays["images/name"]]
    rows = extract(load_network(world / "network.safetensors"), paths, image_size=48, device="cpu")
    val = Val.of(arrays, queries="clusters")
    expected = val.precisions(rows.__getitem__)
    found = history(tmp_path / "with")
    np.testing.assert_allclose(found["epochs/val_average_precision"][0], expected, rtol=1e-6)
    assert found["epochs/map_val"][0] == pytest.approx(val.mean_of(expected))


def test_one_large_cluster_of_val_does_not_decide_alone(world: Path, tmp_path: Path) -> None:
    measured = {}
    for mean in ("queries", "clusters"):
        train(world, tmp_path / mean, OPTIONS.model_copy(update={"epochs": 1, "val_mean": mean}))
        measured[mean] = history(tmp_path / mean)
    each = measured["clusters"]["epochs/val_average_precision"]
    np.testing.assert_array_equal(each, measured["queries"]["epochs/val_average_precision"])
    arrays = hdf5.read(world / "set.h5", "training_set")
    clusters = arrays["images/cluster"][GeometryBenchmark.from_arrays(arrays, "val").queries]
    by_cluster = [[row[clusters == cluster].mean() for cluster in np.unique(clusters)] for row in each]
    np.testing.assert_allclose(measured["clusters"]["epochs/map_val"], np.mean(by_cluster, axis=1))
    np.testing.assert_allclose(measured["queries"]["epochs/map_val"], each.mean(axis=1))


PROJECTING = OPTIONS.model_copy(update={"trainable": "projection", "learning_rate": 1e-3, "epochs": 3})


def test_a_projection_begins_as_lw_and_ends_as_a_layer_of_the_network(world: Path, tmp_path: Path) -> None:
    train(world, tmp_path / "still", PROJECTING.model_copy(update={"learning_rate": 1e-30}))
    arrays = hdf5.read(world / "set.h5", "training_set")
    before = load_network(world / "network.safetensors")
    paths = [world / "photos" / str(name) for name in arrays["images/name"]]
    rows = extract(before, paths, image_size=48, threads=1, device="cpu")
    expected = learnt(rows, arrays, OPTIONS).apply(rows)
    still = load_network(tmp_path / "still" / "out" / NETWORK_FILE)
    assert still.description.whitening
    found = extract(still, paths, image_size=48, threads=1, device="cpu")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    all_queries = {"projection_dimensions": 16, "queries_per_epoch": None, "learning_rate": 3e-3}
    train(world, tmp_path / "moved", PROJECTING.model_copy(update=all_queries))
    moved = load_network(tmp_path / "moved" / "out" / NETWORK_FILE)
    assert moved.description.dimension == 16
    for name, tensor in before.features.state_dict().items():
        assert torch.equal(moved.features.state_dict()[name], tensor)
    record = history(tmp_path / "moved")
    assert record["epochs/loss_train"][3] < record["epochs/loss_train"][1]


def test_a_projection_goes_on_from_a_layer_and_from_a_kill(world: Path, tmp_path: Path) -> None:
    train(world, tmp_path / "first", PROJECTING.model_copy(update={"epochs": 1}))

    def kill(event) -> None:
        if (event.epoch, event.phase, event.done) == (2, "training", 3):
            raise Killed

    for place in ("killed", "calm"):
        options = PROJECTING.model_copy(update={"seed": 3})
        if place == "killed":
            with pytest.raises(Killed):
                train(world, tmp_path / place, options, progress=kill)
        train(world, tmp_path / place, options)
    assert content_sha256(tmp_path / "killed" / "out") == content_sha256(tmp_path / "calm" / "out")
    again = finetune(
        world / "set.h5",
        tmp_path / "first" / "out" / NETWORK_FILE,
        Folder(world / "photos"),
        PROJECTING,
        out=tmp_path / "again",
        work_dir=tmp_path / "work",
        resources=RESOURCES,
    )
    assert again.map_before == pytest.approx(
        history(tmp_path / "first")["epochs/map_val"][int(history(tmp_path / "first")["best_epoch"])]
    )


def test_the_last_stages_alone_move(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.training.record.best_epoch", lambda history: history[-1].epoch)
    options = OPTIONS.model_copy(update={"epochs": 1, "trainable": "last", "trainable_stages": 2})
    train(world, tmp_path, options)
    before, after = (
        load_network(path) for path in (world / "network.safetensors", tmp_path / "out" / NETWORK_FILE)
    )
    parts = [stages(network.features) for network in (before, after)]
    moved = [
        any(not torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
        for first, second in zip(*parts, strict=True)
    ]
    assert moved == [False] * (len(moved) - 2) + [True] * 2
    assert after.gem.p.item() != before.gem.p.item()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_frozen_stages_are_passed_once_and_the_training_is_the_same(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    options = OPTIONS.model_copy(
        update={"trainable": "last", "trainable_stages": 3, "epochs": 2, "precision": precision}
    )
    normalised: list[int] = []

    def counted(*arguments: Any, **named: Any) -> torch.Tensor:
        normalised.append(1)
        return normalise(*arguments, **named)

    monkeypatch.setattr("retrieval.training.subject.normalise", counted)
    train(world, tmp_path / "once", options)
    arrays = hdf5.read(world / "set.h5", "training_set", ["images/name"])
    assert 0 < len(normalised) <= len(arrays["images/name"])
    with monkeypatch.context() as patch:
        patch.setattr("retrieval.training.subject.halves", lambda features: None)
        train(world, tmp_path / "anew", options)
    once, anew = history(tmp_path / "once"), history(tmp_path / "anew")
    tolerance = 1e-5 if precision == "float32" else 2e-2
    np.testing.assert_allclose(once["epochs/loss_train"], anew["epochs/loss_train"], rtol=tolerance)
    networks = [load_network(tmp_path / name / "out" / NETWORK_FILE) for name in ("once", "anew")]
    for (name, tensor), other in zip(
        networks[0].state_dict().items(), networks[1].state_dict().values(), strict=True
    ):
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-5, msg=name)


def test_a_photograph_too_small_for_frozen_stages_is_named(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = OPTIONS.model_copy(update={"trainable": "last", "trainable_stages": 1})

    def fails(self: torch.nn.Sequential, maps: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("kernel size can't be greater than actual input size")

    monkeypatch.setattr(torch.nn.Sequential, "forward", fails)
    with pytest.raises(PhotographTooSmall, match=r"\.(jpg|png).*too small"):
        train(world, tmp_path, options)


@pytest.mark.parametrize("trainable", ["all", "last"])
def test_a_loss_on_whitened_descriptors_leaves_a_network_without_lw(
    world: Path, tmp_path: Path, trainable: str
) -> None:
    options = OPTIONS.model_copy(
        update={"loss_on": "whitened", "trainable": trainable, "learning_rate": 1e-3, "epochs": 1}
    )
    train(world, tmp_path / "plain", options.model_copy(update={"loss_on": "pooled"}))
    train(world, tmp_path / "whitened", options)
    before = load_network(world / "network.safetensors")
    after = load_network(tmp_path / "whitened" / "out" / NETWORK_FILE)
    assert after.description == before.description and after.whiten is None
    plain, whitened = history(tmp_path / "plain"), history(tmp_path / "whitened")
    assert whitened["epochs/loss_val"][0] != plain["epochs/loss_val"][0]
    assert whitened["epochs/loss_train"][1] > 0

    arrays = hdf5.read(world / "set.h5", "training_set")
    paths = [world / "photos" / str(name) for name in arrays["images/name"]]
    benchmark = GeometryBenchmark.from_arrays(arrays, "val")
    assert whitened["best_epoch"] == 1  # what comes out is the last epoch
    for epoch, network in enumerate((before, after)):  # each by its own Lw
        rows = extract(network, paths, image_size=48, threads=1, device="cpu")
        by_lw = learnt(rows, arrays, OPTIONS).apply(rows)
        expected = score(benchmark, by_lw[benchmark.queries], by_lw[benchmark.database]).medium
        found = whitened["epochs/map_val"][epoch]
        assert found == pytest.approx(expected.mean_average_precision, abs=1e-6)


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "resnet18", "squeezenet1_0", "efficientnet_lite0"])
def test_a_trunk_in_two_is_the_trunk(name: str) -> None:
    network = build_network(NetworkOptions(backbone=name, weights="random"))
    photograph = torch.rand(1, 3, 96, 80)
    parts = stages(network.features)
    with torch.no_grad():
        expected = network.features(photograph)
        for learning in range(len(parts) + 1):
            network.requires_grad_(True)
            for part in parts[: len(parts) - learning]:
                part.requires_grad_(False)
            in_two = halves(network.features)
            assert in_two is not None
            assert torch.equal(in_two[1](in_two[0](photograph)), expected)
            assert not any(parameter.requires_grad for parameter in in_two[0].parameters())
            found = {id(parameter) for parameter in in_two[1].parameters() if parameter.requires_grad}
            assert found == {id(each) for each in network.features.parameters() if each.requires_grad}
