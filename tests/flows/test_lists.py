"""The command line with a list in place of 3D models: positions, identities, a pkl, a training set."""

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from flows.cli import common, main
from report.tables.evaluation import read_table
from retrieval.describe.harder_queries import CHANGES
from sfm.lists import identities
from sfm.training_set.training_set import TrainingSet
from storage.hdf5 import file as hdf5
from storage.schemas.training_set import Benchmark, Harder
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store

WALLS, VIEWS = 16, 3
MADE = {"scan", "training_set", "network", "finetune", "descriptors", "whiten", "evaluation"}
ROWS = 2 * 3 * 3  # networks, raw and two whitenings, protocols
CONFIG = """
network: {backbone: squeezenet1_1, weights: random}
training: {image_size: 32, epochs: 1, queries_per_epoch: 4, negatives: 2}
description: {image_size: 32, multi_scales: [1.0]}
whitening: {shrinkage_grid: [1.0]}
evaluation: {resamples: 10}
resources: {device: cpu, threads: 1}
"""


@dataclass(frozen=True)
class World:
    """Photographs of walls, the lists of them, the reference's tree of the same photographs, and a store."""

    root: Path
    name: str = "store"

    @property
    def photos(self) -> Path:
        return self.root / "photos é\n"

    @property
    def store(self) -> Store:
        return Store.open(self.root / self.name)

    def call(self, *arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(main.app, [str(each) for each in arguments])
        return result.exit_code, " ".join(result.output.split())

    def run(self, photos: Path, file: Path) -> RunRecord:
        options = ("--config", self.root / "quick.yaml", "--store", self.root / self.name)
        code, output = self.call("run", photos, *options, "--from-list", file)
        assert code == 0, output
        code, output = self.call("run", photos, *options, "--from-list", file, "--plan")
        assert code == 0 and "everything is cached" in output
        return ledger.load(self.store, "latest")

    def chosen(self, record: RunRecord) -> TrainingSet:
        return TrainingSet.from_h5(self.store.path(record.refs_of("training_set")[0]))

    def check_measured(self, record: RunRecord, source: str, more: Sequence[str] = ()) -> None:
        """Nothing but what is needed was made, and the table has every row with a number."""
        assert set(record.refs) == MADE | set(more) and record.status == "completed"
        path = self.store.path(record.refs_of("evaluation")[0])
        table = read_table(path)
        assert len(table.rows) == ROWS
        easy = [row.mean_average_precision.value for row in table.rows if row.protocol == "easy"]
        assert len(easy) == 6 and np.isfinite(easy).all()
        with hdf5.open_artifact(path, "evaluation") as artifact:
            assert json.loads(artifact.attributes["pair_sources"]) == [f"a given list: {source}"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    found = World(tmp_path_factory.mktemp("lists"))
    found.photos.mkdir()
    generator = np.random.default_rng(0)
    places, people = ["name,easting,northing,heading"], ["name,identity,camera"]
    for wall in range(WALLS):
        stones = generator.integers(0, 256, (10, 10, 3), dtype=np.uint8)
        for view in range(VIEWS):
            name = f"wall {wall:02d} ü{view}.png"
            crop = Image.fromarray(stones[view : view + 8, view : view + 8])
            crop.resize((40, 32), Image.Resampling.BICUBIC).save(found.photos / name)
            places.append(f"{name},{500000 + 100 * wall + 2 * view},5400000,{10 * view}")
            people.append(f"{name},wall {wall},{view % 2}")
    Image.new("RGB", (40, 32)).save(found.photos / "not listed.png")
    (found.root / "places.csv").write_text("\n".join(places), encoding="utf-8")
    (found.root / "people.csv").write_text("\n".join(people), encoding="utf-8")
    (found.root / "quick.yaml").write_text(CONFIG)
    chosen = identities.from_csv(found.root / "people.csv", found.photos)
    chosen.to_cirtorch(found.root / "ct" / "list.pkl", found.root / "ct" / "ims", found.photos)
    return found


def details(labels: Benchmark) -> Harder:
    """The middle of every query that has a positive, as a 3D model would say it."""
    box = np.tile(np.array([0.25, 0.25, 0.75, 0.75], np.float32), (labels.queries.size, 1))
    box[np.diff(labels.easy.indptr) + np.diff(labels.hard.indptr) == 0] = np.nan
    return Harder(box)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for console in (common.out, common.err):
        monkeypatch.setattr(console, "_width", 250)


def test_positions_then_another_list_on_the_same_run(world: World) -> None:
    record = world.run(world.photos, world.root / "places.csv")
    world.check_measured(record, "positions")
    assert set(world.chosen(record).images.split.tolist()) == {0, 1, 2}
    assert "not listed.png" not in world.chosen(record).images.name
    code, output = world.call("export", "--store", world.store.root, "--hloc", world.root / "hloc")
    assert code == 2 and "was made from a list" in output and "only --cirtorch" in output

    again = ("stage", "select", "--store", world.store.root, "--set")
    code, output = world.call(*again, f"selection.list={world.root / 'people.csv'}")
    assert code == 0, output
    listed = ledger.load(world.store, "latest")
    direct = identities.from_csv(world.root / "people.csv", world.photos).arrays()
    for path, array in world.chosen(listed).arrays().items():
        np.testing.assert_array_equal(array, direct[path], err_msg=path)
    code, output = world.call(*again, "selection.list=null")
    assert code == 1 and "select needs scene of run" in output


def test_identities_and_what_is_made_of_them(world: World) -> None:
    record = world.run(world.photos, world.root / "people.csv")
    world.check_measured(record, "identities")
    file, sheet = world.store.path(record.refs_of("training_set")[0]), world.root / "sheet.png"
    code, output = world.call("inspect", file, "--tuples", sheet, "--count", "2")
    assert code == 0 and "2 tuples in" in output and "without negatives" not in output
    assert f"queries without a positive, of {WALLS * VIEWS}: m1 0" in output
    assert Image.open(sheet).format == "PNG"

    out = world.root / "exported"
    code, output = world.call("export", "--store", world.store.root, "--cirtorch", out)
    assert code == 0, output
    theirs = pickle.loads((world.root / "ct" / "list.pkl").read_bytes())
    assert pickle.loads((out / "retrieval-SfM.pkl").read_bytes()) == theirs

    code, output = world.call(
        "stage", "evaluate", "--store", world.store.root, "--set", "evaluation.split=val"
    )
    assert code == 0, output
    assert read_table(world.store.path(ledger.load(world.store, "latest").refs_of("evaluation")[0])).rows


def test_a_list_of_the_reference(world: World) -> None:
    record = world.run(world.root / "ct", world.root / "ct" / "list.pkl")
    world.check_measured(record, "cirtorch")
    first = identities.from_csv(world.root / "people.csv", world.photos)
    found = world.chosen(record)
    assert set(found.images.sha256.tolist()) == set(first.images.sha256[first.images.split < 2].tolist())
    assert (found.images.split == 2).sum() >= VIEWS
    assert all(str(name).startswith("ims/") for name in found.images.name)


def test_the_training_set_of_another_store(world: World) -> None:
    world = World(world.root, "another store")
    first = identities.from_csv(world.root / "people.csv", world.photos)
    first = replace(first, harder={split: details(labels) for split, labels in first.benchmark.items()})
    first.to_h5(world.root / "set.h5")
    record = world.run(world.photos, world.root / "set.h5")
    world.check_measured(record, "training_set", ["altered_descriptors"])
    assert world.chosen(record).images.sha256.tolist() == first.images.sha256.tolist()
    queries = sum(labels.queries.size for labels in first.benchmark.values())
    items = [item for ref in record.refs_of("altered_descriptors") for item in world.store.item_digests(ref)]
    assert len(items) == 2 * len(CHANGES) * queries  # of two networks
    table = read_table(world.store.path(record.refs_of("evaluation")[0]))
    assert len(table.harder) == 2 * 2 * 3 * len(CHANGES)  # splits, networks, raw and two whitenings
    found = [row.mean_average_precision for row in table.harder]
    assert all(0 < each.value <= 1 for each in found) and len({each.value for each in found}) > 1
    assert {each.num_queries for each in found} == {each.queries.size for each in first.benchmark.values()}
    assert "clusters of val" in table.verdict
    code, output = world.call(
        "stage", "evaluate", "--store", world.store.root, "--set", "evaluation.harder=false"
    )
    assert code == 0 and "harder queries" not in output and "verdict: " in output
    assert "altered_descriptors" not in ledger.load(world.store, "latest").refs


def test_a_photograph_that_is_not_there(world: World) -> None:
    file = world.root / "absent.csv"
    file.write_text("name,identity\nwall 00 ü0.png,a\nabsent.png,a\n", encoding="utf-8")
    code, output = world.call("run", world.photos, "--store", world.store.root, "--from-list", file)
    assert code == 1 and "1 of 2 photographs of the list are no usable photographs" in output
    assert "'absent.png'" in output and "line 3): not in the folder" in output


def test_one_place_is_said_before_the_training(world: World) -> None:
    file = world.root / "one.csv"
    rows = "".join(f"wall 00 ü{view}.png,wall 0\n" for view in range(VIEWS))
    file.write_text(f"name,identity\n{rows}", encoding="utf-8")
    world = World(world.root, "store of one place")
    command = ("run", world.photos, "--store", world.root / world.name, "--from-list", file)
    code, output = world.call(*command, "--config", world.root / "quick.yaml")
    assert code == 1 and "error: 1 cluster was found: one place only, as far as is known" in output
    assert "add unrelated photographs, of other places log: " in output
    (record,) = ledger.records(world.store)
    assert record.status == "failed" and "training_set" in record.refs and "network" not in record.refs
    code, output = world.call(*command, "--config", world.root / "quick.yaml", "--plan")
    assert code == 2 and "one place only" in output
