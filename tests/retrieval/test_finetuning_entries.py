"""Lists that people bring are trained on by the same code: positions of walls along a street, identities."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.networks.make import make_network
from retrieval.networks.options import NetworkOptions
from retrieval.training.finetune import finetune
from retrieval.training.options import TRAINING_FILE, TrainingOptions, TrainingResources
from sfm.lists import identities, positions
from sfm.lists.position_tables import read_positions
from sfm.training_set.training_set import TrainingSet
from storage.hdf5 import file as hdf5

WALLS, VIEWS, SPACING_M = 30, 3, 20.0
OPTIONS = TrainingOptions(image_size=48, epochs=2, queries_per_epoch=8, learning_rate=1e-4, negatives=3)
RESOURCES = TrainingResources(device="cpu", threads=1, loader_threads=0)


class Folder:
    """Photographs of a plain folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Walls every 20 m along a street that is interrupted after every fifth, three views each."""
    root = tmp_path_factory.mktemp("entries")
    generator = np.random.default_rng(0)
    places, people = ["name,easting,northing,heading"], ["name,identity,camera"]
    for wall in range(WALLS):
        stones = generator.integers(0, 256, (10, 10, 3), dtype=np.uint8)
        for view in range(VIEWS):
            name = f"wall {wall:02d} ü{view}.png"
            crop = Image.fromarray(stones[view : view + 8, view : view + 8])
            crop.resize((60, 45), Image.Resampling.BICUBIC).save(root / name)
            easting = 500000 + SPACING_M * wall + 100 * (wall // 5) + 2 * view
            places.append(f"{name},{easting},5400000,{10 * view}")
            people.append(f"{name},wall {wall},{view % 2}")
    (root / "places.csv").write_text("\n".join(places), encoding="utf-8")
    (root / "people.csv").write_text("\n".join(people), encoding="utf-8")
    make_network(NetworkOptions(backbone="squeezenet1_1", weights="random"), out=root / "network.safetensors")
    return root


def trained(world: Path, chosen: TrainingSet, out: Path) -> dict[str, np.ndarray]:
    chosen.to_h5(out / "set.h5")
    finetune(
        out / "set.h5",
        world / "network.safetensors",
        Folder(world),
        OPTIONS,
        out=out / "out",
        work_dir=out / "work",
        resources=RESOURCES,
    )
    record = hdf5.read(out / "out" / TRAINING_FILE, "training")
    assert np.isfinite(record["epochs/loss_train"][1:]).all() and np.isfinite(record["epochs/map_val"]).all()
    assert len(record["mined/query"]) == 2 * 8 and record["mined/negatives"].shape == (16, 3)
    assert (record["descriptor_shift/cosine_distance"] > 0).any()
    return record


def test_positions(world: Path, tmp_path: Path) -> None:
    chosen = positions.from_csv(world / "places.csv", world)
    record = trained(world, chosen, tmp_path)
    rows = read_positions(world / "places.csv")
    place_of = dict(zip(rows.names, rows.positions[:, 0], strict=True))
    easting = np.array([place_of[name] for name in chosen.images.name])
    query, positive = easting[record["mined/query"]], easting[record["mined/positive"]]
    assert np.abs(query - positive).max() <= 10
    assert np.abs(query[:, None] - easting[record["mined/negatives"]]).min() > 25


def test_identities(world: Path, tmp_path: Path) -> None:
    options = identities.IdentityOptions(other_camera=True)
    chosen = identities.from_csv(world / "people.csv", world, options)
    record = trained(world, chosen, tmp_path)
    wall = np.array([name[:7] for name in chosen.images.name])
    camera = np.array([int(name[-5]) % 2 for name in chosen.images.name])
    query, positive = record["mined/query"], record["mined/positive"]
    assert (wall[query] == wall[positive]).all() and (camera[query] != camera[positive]).all()
    assert (wall[query][:, None] != wall[record["mined/negatives"]]).all()
