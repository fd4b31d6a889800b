"""A mapped scene for export: two places, one with a model, under names that people have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm.mapping.clusters import ClusterOptions, find_clusters
from sfm.mapping.map import MappingOptions, map_cluster
from sfm.matching.match import Attempts, MatchingOptions, match_pairs, read_attempts
from sfm.scene.scene import Scene, assemble
from sfm.scene.tables import Pairs
from storage.hdf5.file import ItemWriter
from storage.hdf5.open import open_artifact
from tests.sfm.feature_scenes import HEIGHT, WIDTH, all_pairs, make_place, write_places, write_working

HOUSE, TOWER = make_place("house", 4), make_place("tower", 2)
NAMES = ("a b.jpg", "größe/x.JPG", "new\nline.jpg", "dir/y.png", "dir-y.png.jpg", "#1.jpeg")
"""Of the photographs of the two places, in their order."""


@dataclass(frozen=True)
class World:
    """What a run leaves for export; mapped: the folder of the house's models."""

    scene: Scene
    mapped: Path
    working: dict[str, Path]
    features: dict[str, Path]
    matches: Path
    descriptors: dict[str, Path]
    attempts: Attempts

    @property
    def name_of(self) -> dict[str, str]:
        return dict(zip([*HOUSE.shas, *TOWER.shas], NAMES, strict=True))


def make_world(folder: Path) -> World:
    shas = sorted([*HOUSE.shas, *TOWER.shas])
    features = write_places(folder / "f.h5", HOUSE, TOWER)
    working = write_working(folder / "working", shas)
    match_pairs(all_pairs(shas), features, MatchingOptions(), folder / "m.h5")
    attempts = read_attempts([folder / "m.h5"])
    found = find_clusters(shas, *attempts, ClusterOptions(), folder / "c.json")
    (number,) = [n for n, cluster in enumerate(found) if len(cluster.photographs) == 4]
    with open_artifact(folder / "m.h5") as artifact:
        files = {tuple(item.split("/")): folder / "m.h5" for item in artifact.items()}
    map_cluster(found[number], features, files, working, MappingOptions(), folder / "mapped")  # type: ignore[arg-type]
    names = dict(zip([*HOUSE.shas, *TOWER.shas], NAMES, strict=True))
    cluster_of = {sha: n for n, cluster in enumerate(found) for sha in cluster.photographs}
    catalogue = catalogue_of(names)
    sha256 = catalogue["sha256"]
    clusters = np.array([cluster_of[sha.decode()] for sha in sha256.tolist()])
    pairs = Pairs.of_digests(sha256, *attempts)
    scene = assemble(catalogue, clusters, {number: [folder / "mapped" / "0"]}, pairs=pairs, attempts=pairs)
    descriptors = write_descriptors(folder / "d.h5", shas)
    return World(scene, folder / "mapped", working, features, folder / "m.h5", descriptors, attempts)


def catalogue_of(names: dict[str, str]) -> dict[str, np.ndarray]:
    """The columns of a catalogue of upright photographs: sha256 -> name."""
    ordered, count = sorted(names.items(), key=lambda pair: pair[1]), len(names)
    columns: dict[str, np.ndarray] = {
        "name": np.array([name for _, name in ordered], dtype=object),
        "sha256": np.array([sha for sha, _ in ordered], dtype="S64"),
        "status": np.array(["ok"] * count, dtype=object),
        "reason": np.array([""] * count, dtype=object),
        "orientation": np.ones(count, dtype=np.int64),
        "alias_of": np.full(count, -1, dtype=np.int64),
        "focal_prior_px": np.full(count, np.nan),
    }
    for key, value in (("width", WIDTH), ("height", HEIGHT)):
        columns |= {key: np.full(count, 2 * value), f"working_{key}": np.full(count, value)}
    return columns


def write_descriptors(path: Path, shas: list[str]) -> dict[str, Path]:
    rows = np.eye(len(shas), dtype=np.float32)
    with ItemWriter(path, "descriptors", stage="descriptors", options={}, inputs=[]) as writer:
        for sha, row in zip(shas, rows, strict=True):
            writer.add(sha, global_descriptor=row)
    return dict.fromkeys(shas, path)
