"""A whole training on photographs of painted walls: a few seconds, every promise about resuming and
determinism."""

import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.learning.mining import TooFewClusters
from retrieval.networks.network import load_network
from retrieval.training.finetune import finetune
from retrieval.training.options import NETWORK_FILE, STAGE, TRAINING_FILE, TrainingOptions
from retrieval.training.positives import NoQueries
from retrieval.training.step import TrainingDiverged
from storage.hdf5 import file as hdf5
from storage.hdf5.digests import content_sha256
from tests.killed_children import killing_children
from tests.retrieval.training.walls import (
    OPTIONS,
    RESOURCES,
    VIEWS,
    Folder,
    Killed,
    history,
    train,
)


def test_record_says_what_happened(world: Path, trained: Path) -> None:
    record, arrays = history(trained), hdf5.read(world / "set.h5", "training_set")
    assert record["epochs/epoch"].tolist() == [0, 1, 2, 3]
    assert np.isnan(record["epochs/loss_train"][0]) and np.isfinite(record["epochs/loss_train"][1:]).all()
    assert np.isfinite(record["epochs/loss_val"]).all() and np.isfinite(record["epochs/map_val"]).all()
    np.testing.assert_allclose(record["epochs/learning_rate"], [0, *(1e-4 * np.exp(-0.01 * np.arange(1, 4)))])
    each = record["epochs/val_average_precision"]
    assert each.shape == (4, 3 * VIEWS)
    np.testing.assert_allclose(each.mean(axis=1), record["epochs/map_val"])
    assert record["epochs/gem_p"][0] == 3 and record["epochs/gem_p"][3] != 3
    best = int(record["best_epoch"])
    assert record["epochs/map_val"][best] == record["epochs/map_val"].max()
    clusters, split = arrays["images/cluster"], arrays["images/split"]
    query, positive, negatives = (record[f"mined/{name}"] for name in ("query", "positive", "negatives"))
    assert len(query) == 3 * 8 and negatives.shape[1] == 3
    assert (clusters[query] == clusters[positive]).all() and (query != positive).all()
    assert (clusters[negatives] != clusters[query][:, None]).all()
    assert all(len(set(clusters[row])) == 3 for row in negatives)
    assert (split[query] == 0).all() and (split[negatives] == 0).all()
    lonely = [i for i, name in enumerate(arrays["images/name"]) if "lonely" in name]
    assert not np.isin(negatives, lonely[1:]).any()  # no allowed verdict
    assert record["descriptor_shift/image"].tolist() == np.flatnonzero(split == 0).tolist()
    assert (record["descriptor_shift/cosine_distance"] > 0).any()


def test_training_learns_the_walls(trained: Path) -> None:
    record = history(trained)
    losses = record["epochs/loss_train"][1:]
    assert losses[-1] < losses[0]


def test_the_network_kept_is_the_best_epochs(trained: Path, world: Path) -> None:
    network = load_network(trained / "out" / NETWORK_FILE)
    before = load_network(world / "network.safetensors")
    record = history(trained)
    assert network.gem.p.item() == pytest.approx(record["epochs/gem_p"][int(record["best_epoch"])])
    moved = [not torch.equal(a, b) for a, b in zip(network.parameters(), before.parameters(), strict=True)]
    assert all(moved)


def test_two_trainings_are_identical(world: Path, trained: Path, tmp_path: Path) -> None:
    train(world, tmp_path, OPTIONS.model_copy(update={"epochs": 3}))
    assert content_sha256(tmp_path / "out") == content_sha256(trained / "out")


@pytest.mark.parametrize(
    ("epoch", "phase"), [(1, "training"), (2, "training"), (3, "validating"), (0, "describing")]
)
def test_a_killed_training_ends_as_if_undisturbed(
    world: Path, trained: Path, tmp_path: Path, epoch: int, phase: str
) -> None:
    options = OPTIONS.model_copy(update={"epochs": 3})

    def kill(event) -> None:
        if (event.epoch, event.phase, event.done) == (epoch, phase, 3):
            raise Killed

    with pytest.raises(Killed):
        train(world, tmp_path, options, progress=kill)
    seen: list[int] = []
    train(world, tmp_path, options, progress=lambda event: seen.append(event.epoch))
    assert min(seen) == max(epoch, 0)  # nothing before the last checkpoint is done again
    assert content_sha256(tmp_path / "out") == content_sha256(trained / "out")


class SameWall:
    """A matcher that finds walls 0 and 1 to be one, and everything else different."""

    def __init__(self, clusters: np.ndarray) -> None:
        self.clusters = clusters
        self.asked: list[tuple[int, int]] = []

    def __call__(self, pairs: np.ndarray) -> np.ndarray:
        self.asked += [tuple(pair) for pair in pairs.tolist()]
        return np.where(np.sort(self.clusters[pairs], axis=1).tolist() == np.array([0, 1]), 99, 3).min(axis=1)


def test_clusters_that_turn_out_to_be_one_place_are_no_negatives(world: Path, tmp_path: Path) -> None:
    """Also after a kill: what was matched before it is not matched again, and the end is the same."""
    clusters = hdf5.read(world / "set.h5", "training_set", ["images/cluster"])["images/cluster"]
    calm, options = SameWall(clusters), OPTIONS.model_copy(update={"epochs": 3, "queries_per_epoch": None})
    train(world, tmp_path / "calm", options, matcher=calm)
    record = history(tmp_path / "calm")
    found = [record[f"may_match/{name}"].tolist() for name in ("first", "second", "inliers")]
    assert found == [[0], [1], [99]]
    ends = clusters[record["mined/query"]], clusters[record["mined/negatives"]]
    assert not ((ends[0][:, None] <= 1) & (ends[1] <= 1)).any()
    pairs = set(zip(record["checks/image"].tolist(), record["checks/cluster"].tolist(), strict=True))
    assert len(pairs) == len(record["checks/image"]) > 0
    plain = history_of_plain(world, tmp_path, options)
    ends = clusters[plain["mined/query"]], clusters[plain["mined/negatives"]]
    assert ((ends[0][:, None] <= 1) & (ends[1] <= 1)).any()  # the check had something to prevent

    def kill(event) -> None:
        if (event.epoch, event.phase, event.done) == (2, "training", 3):
            raise Killed

    killed, rest = SameWall(clusters), SameWall(clusters)
    with pytest.raises(Killed):
        train(world, tmp_path / "killed", options, progress=kill, matcher=killed)
    train(world, tmp_path / "killed", options, matcher=rest)
    assert content_sha256(tmp_path / "killed" / "out") == content_sha256(tmp_path / "calm" / "out")
    assert len(rest.asked) < len(calm.asked)


def history_of_plain(world: Path, tmp_path: Path, options: TrainingOptions) -> dict[str, np.ndarray]:
    train(world, tmp_path / "plain", options)
    return history(tmp_path / "plain")


def test_more_epochs_continue_a_finished_training(world: Path, trained: Path, tmp_path: Path) -> None:
    train(world, tmp_path)
    epochs: set[int] = set()
    train(
        world,
        tmp_path,
        OPTIONS.model_copy(update={"epochs": 3}),
        progress=lambda event: epochs.add(event.epoch) if event.phase == "training" else None,
    )
    assert epochs == {3}
    assert content_sha256(tmp_path / "out") == content_sha256(trained / "out")


@pytest.mark.parametrize("damage", ["cut off", "a bit of a tensor", "a digit of the history"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    world: Path, trained: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    train(world, tmp_path)
    newest = sorted((tmp_path / "work" / "training").glob("epoch_*"))[-1]
    written = bytearray(newest.read_bytes())
    if damage == "cut off":
        del written[1000:]
    elif damage == "a bit of a tensor":
        written[-9] ^= 1
    else:
        place = written.index(b"loss_val") + len(b'loss_val\\": 0.')
        written[place] = ord("1") + (written[place] == ord("1"))
    newest.write_bytes(written)
    train(world, tmp_path, OPTIONS.model_copy(update={"epochs": 3}))
    assert f"{newest.name} is damaged" in caplog.text
    assert content_sha256(tmp_path / "out") == content_sha256(trained / "out")


def test_other_options_do_not_inherit_checkpoints(world: Path, tmp_path: Path) -> None:
    train(world, tmp_path, OPTIONS.model_copy(update={"epochs": 1}))
    phases: set[tuple[int, str]] = set()
    train(
        world,
        tmp_path,
        OPTIONS.model_copy(update={"epochs": 1, "seed": 7}),
        progress=lambda event: phases.add((event.epoch, event.phase)),
    )
    assert (1, "training") in phases


FURTHER = {
    "positives_per_tuple": 2,
    "positive_weights": "overlap",
    "loss": "smooth_ap",
    "memory": 20,
    "negative_mining": "random",
    "average": "steps",
}
KILLED_AT = ((4, 4), (7, 7), (8, 7), (10, 9), (11, 9), (13, 12))


@pytest.mark.parametrize(("further", "kills"), [({}, KILLED_AT), (FURTHER, KILLED_AT[2::2])])
def test_a_training_killed_within_an_epoch_goes_on_from_its_last_step(
    world: Path, tmp_path: Path, further: dict, kills: tuple
) -> None:
    """Two minings an epoch, a checkpoint after every step (5 tuples, then the rest of a part)."""
    options = OPTIONS.model_copy(
        update={"queries_per_epoch": 16, "minings_per_epoch": 2, "tuples_per_step": 3, **further}
    )
    often = RESOURCES.model_copy(update={"checkpoint_steps": 1, "checkpoint_pause_s": 0.0})
    train(world, tmp_path / "calm", options)
    for kill_at, first in kills:
        place = tmp_path / str(kill_at)

        def kill(event, kill_at=kill_at) -> None:
            if (event.epoch, event.phase, event.done) == (2, "training", kill_at):
                raise Killed

        with pytest.raises(Killed):
            train(world, place, options, progress=kill, resources=often)
        seen: list[tuple[int, int]] = []
        train(
            world, place, options, resources=often,
            progress=lambda event, seen=seen: seen.append((event.epoch, event.done))
            if event.phase == "training" else None,
        )  # fmt: skip
        assert seen[0] == (2, first), kill_at
        assert content_sha256(place / "out") == content_sha256(tmp_path / "calm" / "out")
        assert not list((place / "work" / "training").glob("within_*"))


def test_random_changes_of_photographs_survive_a_kill(world: Path, trained: Path, tmp_path: Path) -> None:
    options = OPTIONS.model_copy(
        update={"augment_scale": 0.8, "augment_crop": 0.3, "augment_colour": 0.3, "tuples_per_step": 3}
    )
    often = RESOURCES.model_copy(
        update={"checkpoint_steps": 1, "checkpoint_pause_s": 0.0, "checkpoints_kept": 9}
    )

    def kill(event) -> None:
        if (event.epoch, event.phase, event.done) == (2, "training", 5):
            raise Killed

    with pytest.raises(Killed):
        train(world, tmp_path / "killed", options, progress=kill, resources=often)
    for place in ("killed", "calm"):
        train(world, tmp_path / place, options, resources=often)
    calm = content_sha256(tmp_path / "calm" / "out")
    assert content_sha256(tmp_path / "killed" / "out") == calm
    plain = options.model_copy(update={"augment_scale": 1.0, "augment_crop": 0.0, "augment_colour": 0.0})
    train(world, tmp_path / "plain", plain)
    assert content_sha256(tmp_path / "plain" / "out") != calm
    kept = sorted(path.name for path in (tmp_path / "calm" / "work" / "training").glob("epoch_*"))
    assert kept == [f"epoch_{epoch:06d}.safetensors" for epoch in range(options.epochs + 1)]


def test_negatives_mined_twice_an_epoch_come_from_the_network_of_the_moment(
    world: Path, tmp_path: Path
) -> None:
    """With a high rate the second half of an epoch sees other negatives than if mined once."""
    options = OPTIONS.model_copy(update={"epochs": 1, "queries_per_epoch": None, "learning_rate": 2e-3})
    records = []
    for times in (1, 2):
        train(world, tmp_path / str(times), options.model_copy(update={"minings_per_epoch": times}))
        records.append(history(tmp_path / str(times)))
    once, twice = records
    assert once["mined/query"].tolist() == twice["mined/query"].tolist()
    half = -(-len(once["mined/query"]) // 2)
    assert once["mined/negatives"][:half].tolist() == twice["mined/negatives"][:half].tolist()
    assert once["mined/negatives"][half:].tolist() != twice["mined/negatives"][half:].tolist()


class TheSameWall:
    """As SameWall, for processes of their own: importable and without a memory."""

    def __init__(self, clusters: np.ndarray) -> None:
        self.clusters = clusters

    def __call__(self, pairs: np.ndarray) -> np.ndarray:
        return SameWall(self.clusters)(pairs)


def test_two_processes_train_as_one(world: Path, tmp_path: Path) -> None:
    """Steps of 3 tuples shared by two processes: the same tuples, losses and parameters up to rounding."""
    clusters = hdf5.read(world / "set.h5", "training_set", ["images/cluster"])["images/cluster"]
    options, events = OPTIONS.model_copy(update={"tuples_per_step": 3}), []
    matcher = TheSameWall(clusters)
    two = RESOURCES.model_copy(update={"training_processes": 2})
    one_summary = train(world, tmp_path / "one", options, matcher=matcher)
    summary = train(world, tmp_path / "two", options, matcher=matcher, resources=two, progress=events.append)
    one, both = history(tmp_path / "one"), history(tmp_path / "two")
    for name in ("mined/query", "mined/positive", "mined/negatives", "checks/image", "may_match/first"):
        assert one[name].tolist() == both[name].tolist(), name
    np.testing.assert_allclose(both["epochs/loss_train"][1:], one["epochs/loss_train"][1:], rtol=1e-4)
    first, second = (load_network(tmp_path / name / "out" / NETWORK_FILE) for name in ("one", "two"))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert (summary.best_epoch, summary.warnings) == (one_summary.best_epoch, one_summary.warnings)
    assert {event.phase for event in events} == {"describing", "training", "validating"}


def test_an_error_in_a_process_is_raised_here(world: Path, tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"learning_rate": 1e30, "optimizer": "sgd"})
    two = RESOURCES.model_copy(update={"training_processes": 2})
    with pytest.raises(TrainingDiverged, match="last good checkpoint is kept"):
        train(world, tmp_path, options, resources=two)


def test_a_killed_process_of_several_is_tried_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are killed, then one of them while the other waits for it; the third try goes through."""
    tries = killing_children(
        monkeypatch, "retrieval.training.distributed:train", signal.SIGKILL, times=3, after_s=1.0
    )
    monkeypatch.setattr("retrieval.training.distributed._GRACE_S", 0.5)
    two = RESOURCES.model_copy(update={"training_processes": 2})
    train(world, tmp_path, OPTIONS.model_copy(update={"epochs": 1}), resources=two)
    assert len(tries) == 6 and history(tmp_path)["epochs/loss_train"].shape == (2,)


@pytest.mark.parametrize("strategy", ["m1", "m2"])
def test_strategies(world: Path, tmp_path: Path, strategy: str) -> None:
    train(world, tmp_path, OPTIONS.model_copy(update={"epochs": 1, "positives": strategy}))
    record, arrays = history(tmp_path), hdf5.read(world / "set.h5", "training_set")
    if strategy == "m2":
        row_of = {int(image): row for row, image in enumerate(arrays["queries/image"])}
        wanted = [arrays["positives/m2"][row_of[int(query)]] for query in record["mined/query"]]
        assert record["mined/positive"].tolist() == wanted


def test_too_few_clusters_is_a_warning_unless_asked_for(world: Path, tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"epochs": 1, "negatives": 12})
    with pytest.raises(TooFewClusters) as error:
        train(world, tmp_path, options.model_copy(update={"one_per_cluster": True}))
    assert "12" in str(error.value) and "training.negatives" in str(error.value)
    train(world, tmp_path, options, work="other")
    warnings = history(tmp_path)["warnings/text"]
    assert any("several negatives of a query may come from one cluster" in text for text in warnings)


def test_a_loss_that_is_no_number_names_its_tuple_and_keeps_the_checkpoint(
    world: Path, tmp_path: Path
) -> None:
    options = OPTIONS.model_copy(update={"learning_rate": 1e30, "optimizer": "sgd"})
    with pytest.raises(TrainingDiverged, match=r"epoch 1.*c\d/v\d\.png.*last good checkpoint is kept"):
        train(world, tmp_path, options)
    kept = sorted(path.name for path in (tmp_path / "work" / "training").glob("epoch_*"))
    assert kept == ["epoch_000000.safetensors"]


def test_early_stopping(world: Path, tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"epochs": 6, "learning_rate": 1e-12, "early_stopping": 1})
    summary = train(world, tmp_path, options)
    assert summary.best_epoch == 0 and summary.last_epoch == 1
    assert summary.median_descriptor_shift == pytest.approx(0, abs=1e-6)
    assert math.isclose(summary.map_before, summary.map_best)


def test_no_queries(world: Path, tmp_path: Path) -> None:
    arrays = hdf5.read(world / "set.h5", "training_set")
    arrays["positives/m2"] = np.full_like(arrays["positives/m2"], -1)
    hdf5.write(tmp_path / "set.h5", "training_set", arrays, stage="select", options={}, inputs=[])
    with pytest.raises(NoQueries, match=r"training.positives"):
        finetune(
            tmp_path / "set.h5",
            world / "network.safetensors",
            Folder(world / "photos"),
            OPTIONS.model_copy(update={"positives": "m2"}),
            out=tmp_path / "out",
            work_dir=tmp_path / "work",
            resources=RESOURCES,
        )


def test_global_state_is_restored(world: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(world, tmp_path, OPTIONS.model_copy(update={"epochs": 1}))
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_stage_is_a_folder_of_network_and_record(trained: Path) -> None:
    assert STAGE.kind == "directory"
    assert sorted(path.name for path in (trained / "out").iterdir()) == sorted([NETWORK_FILE, TRAINING_FILE])
