"""hloc's files, read as hloc reads them."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from sfm.export.hloc import export_hloc, hloc_name, pair_group
from sfm.export.names import verified_pairs
from storage.hdf5.file import read_items
from tests.sfm.exported_scenes import HOUSE, TOWER, World, make_world

NAMES = ["a%20b.jpg", "größe/x.JPG", "new%0Aline.jpg", "dir/y.png.jpg", "dir-y.png.jpg", "%231.jpeg"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export")
    matches = verified_pairs(world.scene, [world.matches])
    export_hloc(
        world.scene, out, working=world.working, features=world.features, matches=matches,
        descriptors=world.descriptors,
    )  # fmt: skip
    return out


def names_in(path: Path) -> set[str]:
    """As hloc's list_h5_names."""
    found = set()
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda _, each: found.add(each.parent.name.strip("/")) if isinstance(each, h5py.Dataset) else None
        )
    return found


def matches_of(path: Path, first: str, second: str) -> np.ndarray:
    """As hloc's get_matches."""
    with h5py.File(path, "r") as file:
        pair, reverse = "/".join((first.replace("/", "-"), second.replace("/", "-"))), False
        if pair not in file:
            pair, reverse = "/".join((second.replace("/", "-"), first.replace("/", "-"))), True
        matches = file[pair]["matches0"].__array__()
        assert len(file[pair]["matching_scores0"]) == len(matches)
    at = np.where(matches != -1)[0]
    found = np.stack([at, matches[at]], -1)
    return found[:, ::-1] if reverse else found


def exported_names(world: World) -> dict[str, str]:
    found = dict(zip([*HOUSE.shas, *TOWER.shas], NAMES, strict=True))
    slash = HOUSE.shas[3]
    found[slash] = f"dir/y.png.jpg.{slash[:12]}.jpg"  # as a pair group it would be dir-y.png.jpg
    return found


def test_every_file_has_the_same_names_and_no_white_space(world: World, folder: Path) -> None:
    names = set(exported_names(world).values())
    assert names_in(folder / "features.h5") == names_in(folder / "global-descriptors.h5") == names
    assert {
        str(p.relative_to(folder / "images")) for p in (folder / "images").rglob("*.*") if p.is_file()
    } == names
    assert not any(letter.isspace() for name in names for letter in name)


def test_features_are_ours(world: World, folder: Path) -> None:
    with h5py.File(folder / "features.h5", "r") as file, h5py.File(folder / "global-descriptors.h5") as other:
        for sha, name in exported_names(world).items():
            ((_, arrays),) = read_items(world.features[sha], [sha])
            for field in ("keypoints", "descriptors", "scores", "image_size"):
                np.testing.assert_array_equal(file[name][field].__array__(), arrays[field])
            assert file[name]["keypoints"].dtype == np.float32
            assert other[name]["global_descriptor"][()].sum() == 1


def test_every_listed_pair_has_its_matches(world: World, folder: Path) -> None:
    shas = {name: sha for sha, name in exported_names(world).items()}
    lines = [line.split() for line in (folder / "pairs.txt").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 7
    for first, second in lines:
        pair = sorted((shas[first], shas[second]))
        ((_, group),) = read_items(world.matches, ["/".join(pair)])
        at = np.flatnonzero(group["matches0"] >= 0)
        wanted = np.stack([at, group["matches0"][at]], -1)
        swapped = shas[first] != pair[0]
        np.testing.assert_array_equal(
            matches_of(folder / "matches.h5", first, second), wanted[:, ::-1] if swapped else wanted
        )
        assert len(wanted) >= 15


def test_an_export_has_the_same_bytes_again(world: World, folder: Path, tmp_path: Path) -> None:
    matches = verified_pairs(world.scene, [world.matches])
    export_hloc(
        world.scene, tmp_path, working=world.working, features=world.features, matches=matches,
        descriptors=world.descriptors, images="none",
    )  # fmt: skip
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.jpg", "a.jpg"),
        ("a b\t.jpg", "a%20b%09.jpg"),
        ("#a.jpg", "%23a.jpg"),
        ("a\u00a0.jpg", "a%C2%A0.jpg"),
    ],
)
def test_hloc_names_survive_split(name: str, found: str) -> None:
    assert hloc_name(name) == found
    assert f"{found} x".split() == [found, "x"]


def test_pair_groups_are_hlocs() -> None:
    assert pair_group("a/b.jpg", "c.jpg") == "a-b.jpg/c.jpg"
