"""Twenty ways to break a file, each on its own: every one is found, and at the place where it is."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from storage import describe
from tests.storage.layout_samples import SHA, write_sample


def replace(file: h5py.File, path: str, values: object, **options: object) -> None:
    """Another dataset in the place of one, with the same description."""
    told = dict(file[path].attrs)
    del file[path]
    file.create_dataset(path, data=values, **options)
    file[path].attrs.update(told)


def set_value(path: str, at: object, value: object) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        file[path][at] = value

    return damage


def attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        file.attrs[name] = value

    return damage


def as_type(path: str, dtype: str) -> Callable[[h5py.File], None]:
    return lambda file: replace(file, path, file[path][()].astype(dtype))


def cut(path: str) -> Callable[[h5py.File], None]:
    return lambda file: replace(file, path, file[path][:-1])


def link(file: h5py.File) -> None:
    file["points/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/x")


def outside(file: h5py.File) -> None:
    told = dict(file["points/error_px"].attrs)
    del file["points/error_px"]
    file.create_dataset(
        "points/error_px", (3,), "float64", external=[("/nowhere/values.bin", 0, h5py.h5f.UNLIMITED)]
    )
    file["points/error_px"].attrs.update(told)


def second_name(file: h5py.File) -> None:
    file["photos/again"] = file["photos"]


DEFECTS: dict[str, tuple[Callable[[h5py.File], None], str, str]] = {
    "missing dataset": (lambda file: file.__delitem__("points/rgb"), "points/rgb", "is missing"),
    "unknown dataset": (lambda f: f.create_dataset("points/x", data=1), "points/x", "is not part of"),
    "wrong type": (as_type("points/xyz", "float32"), "points/xyz", "has type float32"),
    "text for numbers": (
        lambda file: replace(file, "photos/width", ["a", "b", "c", "d"]),
        "photos/width",
        "has type str",
    ),
    "wrong rank": (
        lambda file: replace(file, "points/xyz", np.zeros(9)),
        "points/xyz",
        "has shape (9,)",
    ),
    "wrong width": (
        lambda file: replace(file, "points/xyz", np.zeros((3, 2))),
        "points/xyz",
        "the schema says 3",
    ),
    "a row too few": (cut("points/error_px"), "points/error_px", "makes it 3 (P)"),
    "dangling index": (set_value("visibility/point", 4, 9), "visibility/point", "dangling index 9 at [4]"),
    "negative index": (set_value("cameras/photo", 1, -1), "cameras/photo", "dangling index -1 at [1]"),
    "nan": (set_value("points/xyz", (1, 2), np.nan), "points/xyz", "has nan at [1, 2]"),
    "infinity": (set_value("photos/focal_prior_px", 0, np.inf), "photos/focal_prior_px", "has inf at [0]"),
    "CSR that does not begin with 0": (
        set_value("visibility/indptr", 0, 1),
        "visibility/indptr",
        "begins with 1",
    ),
    "CSR that falls": (set_value("visibility/indptr", 1, 9), "visibility/indptr", "falls from 9 to 5"),
    "CSR that ends early": (set_value("visibility/indptr", 2, 4), "visibility/indptr", "ends with 4"),
    "CSR row out of order": (
        set_value("visibility/point", slice(0, 2), [2, 0]),
        "visibility/point",
        "is not rising in row 0",
    ),
    "value out of range": (set_value("models/num_photos", 0, -3), "models/num_photos", "has -3 at [0]"),
    "unknown word": (set_value("photos/status", 2, "lost"), "photos/status", "has 'lost' at [2]"),
    "bad digest": (set_value("photos/sha256", 1, b"XYZ"), "photos/sha256", "at [1]; it must be 64"),
    "duplicate": (set_value("photos/name", 3, "c.jpg"), "photos/name", "more than once"),
    "pair the wrong way round": (set_value("pairs/first", 0, 1), "pairs/first", "has 1 at [0]"),
    "wrong schema version": (attribute("schema_version", 99), "/", "version 99"),
    "unknown schema": (attribute("schema", "scenery"), "/", "did you mean 'scene'"),
    "damaged options": (attribute("options", "{"), "/", "'options' is missing or not a JSON dict"),
    "missing description": (
        lambda file: file["points/rgb"].attrs.__delitem__("description"),
        "points/rgb",
        "no attribute 'description'",
    ),
    "link to another file": (link, "points/elsewhere", "is a link to somewhere else"),
    "values in another file": (outside, "points/error_px", "keeps its values in another file"),
    "a group with two names": (second_name, "photos", "is a second link"),
    "empty group": (lambda file: file.create_group("notes"), "notes", "is an empty group"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_found_where_it_is(tmp_path: Path, defect: str) -> None:
    damage, place, text = DEFECTS[defect]
    path = write_sample(tmp_path / "scene.h5", "scene")
    assert describe(path).violations == ()
    with h5py.File(path, "r+") as file:
        damage(file)
    found = {each.path: each.message for each in describe(path).violations}
    near = place if place in found else "photos/again"
    assert near in found and text in found[near], found


def test_there_are_at_least_twenty() -> None:
    assert len(DEFECTS) >= 20


def test_all_of_them_at_once_on_the_command_line(tmp_path: Path) -> None:
    """What leaves the rest readable, planted together: one report names every place; exit code 1."""
    together = ("wrong type", "nan", "dangling index", "CSR that ends early", "bad digest", "unknown word")
    path = write_sample(tmp_path / "scene.h5", "scene")
    places = set()
    with h5py.File(path, "r+") as file:
        for name in together[1:]:
            DEFECTS[name][0](file)
            places.add(DEFECTS[name][1])
    found = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert found.exit_code == 1
    assert places <= {each["path"] for each in json.loads(found.stdout)["violations"]}


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_named_as_such(tmp_path: Path, share: float) -> None:
    path = write_sample(tmp_path / "scene.h5", "scene")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    found = CliRunner().invoke(app, ["inspect", str(path)])
    assert found.exit_code == 1 and "not valid" not in found.stderr
    assert "truncated" in found.stdout or "not an HDF5 file" in found.stdout


def test_digests_of_the_sample_are_digests() -> None:
    assert all(len(each) == 64 for each in SHA)
