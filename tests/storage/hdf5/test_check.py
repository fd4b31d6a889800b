"""Defects planted in valid files with plain h5py: each is found, at its path, and nothing else is blamed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.hdf5 import file as hdf5
from storage.hdf5.check import check
from storage.hdf5.open import validate
from storage.hdf5.sources import ArraySource
from storage.schemas.layout import Dataset, Layout, RowOrder
from tests.storage.layout_samples import SHA, write_sample

Plant = Callable[[h5py.File], Any]


def put(path: str, position: Any, value: Any) -> Plant:
    def plant(file: h5py.File) -> None:
        file[path][position] = value

    return plant


def replace(path: str, value: Any, dtype: Any = None) -> Plant:
    def plant(file: h5py.File) -> None:
        description = file[path].attrs["description"]
        del file[path]
        file.create_dataset(path, data=value, dtype=dtype).attrs["description"] = description

    return plant


def delete(path: str) -> Plant:
    return lambda file: file.__delitem__(path)


def without_attribute(path: str, name: str) -> Plant:
    return lambda file: file[path].attrs.__delitem__(name)


def root(name: str, value: Any) -> Plant:
    return lambda file: file.attrs.__setitem__(name, value)


def soft_link(file: h5py.File) -> None:
    del file["points/rgb"]
    file["points/rgb"] = h5py.SoftLink("/points/xyz")


def external_link(file: h5py.File) -> None:
    file["points/more"] = h5py.ExternalLink("other.h5", "/x")


def cycle(file: h5py.File) -> None:
    file["points/again"] = file["/"]


def never_written(file: h5py.File) -> None:
    del file["points/rgb"]
    file.create_dataset("points/rgb", (10**15, 3), np.uint8, chunks=(1000, 3)).attrs["description"] = "colour"


def external_values(file: h5py.File) -> None:
    del file["points/rgb"]
    raw = [("raw.bin", 0, 9)]
    file.create_dataset("points/rgb", (3, 3), np.uint8, external=raw).attrs["description"] = "colour"


def nothing_at_all(file: h5py.File) -> None:
    del file["points/rgb"]
    file.create_dataset("points/rgb", data=h5py.Empty("u1")).attrs["description"] = "colour"


def compound(file: h5py.File) -> None:
    del file["points/rgb"]
    values = np.zeros(3, [("r", "u1"), ("g", "u1")])
    file.create_dataset("points/rgb", data=values).attrs["description"] = "colour"


SCENE_DEFECTS: dict[str, tuple[Plant, str, str]] = {
    "missing dataset": (delete("points/rgb"), "points/rgb", "is missing"),
    "missing group": (delete("pairs"), "pairs/first", "is missing"),
    "extra dataset": (
        lambda file: file.__setitem__("points/alpha", [1]),
        "points/alpha",
        "is not part of schema",
    ),
    "wrong type": (replace("points/error_px", [1, 2, 3]), "points/error_px", "has type int64"),
    "text for numbers": (replace("pairs/first", ["a"]), "pairs/first", "has type str"),
    "numbers for text": (replace("photos/reason", [1, 2, 3, 4]), "photos/reason", "has type int64"),
    "wrong rank": (replace("points/xyz", np.zeros(9)), "points/xyz", "has shape (9,)"),
    "wrong width": (replace("points/xyz", np.zeros((3, 4))), "points/xyz", "has 4 along axis 1"),
    "wrong length": (replace("pairs/inliers", [20, 21]), "pairs/inliers", "has 2 along axis 0"),
    "short indptr": (replace("visibility/indptr", [0, 5]), "visibility/indptr", "has 2 along axis 0"),
    "scalar for column": (replace("pairs/inliers", 20), "pairs/inliers", "has shape ()"),
    "dangling index": (put("visibility/point", 4, 3), "visibility/point", "dangling index 3 at [4]"),
    "negative index": (put("cameras/photo", 0, -1), "cameras/photo", "dangling index -1 at [0]"),
    "nan": (
        put("cameras/cam_from_world", (1, 2, 3), np.nan),
        "cameras/cam_from_world",
        "has nan at [1, 2, 3]",
    ),
    "infinity": (put("visibility/depth", 2, -np.inf), "visibility/depth", "has -inf at [2]"),
    "indptr begins late": (put("visibility/indptr", 0, 1), "visibility/indptr", "begins with 1"),
    "indptr falls": (put("cameras/params/indptr", 1, 9), "cameras/params/indptr", "falls from 9 to 8"),
    "indptr ends early": (put("visibility/indptr", 2, 4), "visibility/indptr", "ends with 4"),
    "unsorted row": (put("visibility/point", 2, 2), "visibility/point", "is not rising in row 1: 2 before 1"),
    "pair reversed": (put("attempts/first", 0, 2), "attempts/first", "put the smaller one first"),
    "bad digest": (put("photos/sha256", 0, b"0" * 63), "photos/sha256", "64 lower-case hexadecimal"),
    "unknown status": (put("photos/status", 0, "good"), "photos/status", "'good' at [0]"),
    "orientation": (put("photos/orientation", 1, 9), "photos/orientation", "has 9 at [1]"),
    "negative size": (put("photos/width", 0, -5), "photos/width", "has -5 at [0]"),
    "repeated name": (put("photos/name", 2, "d.jpg"), "photos/name", "'d.jpg' more than once"),
    "no description": (
        without_attribute("points/rgb", "description"),
        "points/rgb",
        "no attribute 'description'",
    ),
    "group undescribed": (without_attribute("points", "description"), "points", "no attribute 'description'"),
    "newer version": (root("schema_version", 99), "/", "has version 99"),
    "version is text": (root("schema_version", "one"), "/", "one"),
    "unknown schema": (root("schema", "scenery"), "/", "did you mean 'scene'"),
    "options damaged": (root("options", "{"), "/", "'options' (a JSON dict) is damaged"),
    "inputs of another type": (root("inputs", "{}"), "/", "'inputs' (a JSON list) is damaged"),
    "no inputs": (without_attribute("/", "inputs"), "/", "'inputs' (a JSON list) is missing"),
    "no schema": (without_attribute("/", "schema"), "/", "without the root attribute 'schema'"),
    "soft link": (soft_link, "points/rgb", "is a link to somewhere else"),
    "external link": (external_link, "points/more", "is a link to somewhere else"),
    "cycle": (cycle, "points/again", "is a second link to a group"),
    "values elsewhere": (external_values, "points/rgb", "keeps its values in another file"),
    "values never written": (never_written, "points/rgb", "but the file stores 0"),
    "no values": (nothing_at_all, "points/rgb", "has shape ()"),
    "compound type": (compound, "points/rgb", "has type"),
    "named type": (
        lambda file: file.__setitem__("points/kind", np.dtype("f8")),
        "points/kind",
        "is a named type",
    ),
    "empty group": (lambda file: file.create_group("points/more"), "points/more", "is an empty group"),
}


def plant(path: Path, defect: Plant) -> list[hdf5.Violation]:
    with h5py.File(path, "r+") as file:
        defect(file)
    return validate(path)


@pytest.mark.parametrize(("defect", "path", "message"), SCENE_DEFECTS.values(), ids=SCENE_DEFECTS)
def test_a_defect_of_a_scene_is_found_at_its_path(tmp_path, defect, path, message):
    found = plant(write_sample(tmp_path / "a.h5", "scene"), defect)
    assert [each for each in found if each.path == path and message in each.message], found
    group = path.rsplit("/", 1)[0]
    assert all(each.path == path or each.path.startswith(group) for each in found), found


ITEM_DEFECTS: dict[str, tuple[str, Plant, str, str]] = {
    "half an item": ("features", delete(f"{SHA[0]}/scores"), f"{SHA[0]}/scores", "is missing"),
    "empty item": ("features", lambda file: file.create_group("x"), "x", "is an empty group; an item needs"),
    "item size": ("features", replace(f"{SHA[0]}/scores", np.ones(4, "f4")), f"{SHA[0]}/", "axis 0"),
    "other dimension": (
        "descriptors",
        replace(f"{SHA[1]}/global_descriptor", np.ones(3, "f4")),
        f"{SHA[1]}/global_descriptor",
        "has 3 along axis 0",
    ),
    "item type": (
        "features",
        replace(f"{SHA[0]}/descriptors", np.ones((4, 3), "i2")),
        f"{SHA[0]}/descriptors",
        "uint8 or",
    ),
    "match below none": (
        "matches",
        put(f"{SHA[0]}/{SHA[1]}/matches0", 1, -2),
        f"{SHA[0]}/{SHA[1]}/matches0",
        "-2 at [1]",
    ),
    "no table": ("matches", delete("attempts/inliers"), "attempts/inliers", "is missing"),
    "ranking not written": ("evaluation", delete("scores/raw"), "scores/raw", "is missing"),
    "dangling rank": ("evaluation", put("ranks/raw", (0, 1), 3), "ranks/raw", "dangling index 3 at [0, 1]"),
    "dangling junk": (
        "training_set",
        put("benchmark/val/junk/image", 0, 9),
        "benchmark/val/junk/image",
        "index 9",
    ),
    "mean out of range": (
        "evaluation",
        put("configurations/map", 0, 1.5),
        "configurations/map",
        "within 0..1",
    ),
}


@pytest.mark.parametrize(("name", "defect", "path", "message"), ITEM_DEFECTS.values(), ids=ITEM_DEFECTS)
def test_a_defect_of_other_layouts_is_found_at_its_path(tmp_path, name, defect, path, message):
    found = plant(write_sample(tmp_path / "a.h5", name), defect)
    assert [each for each in found if message in each.message], found
    assert all(each.path.startswith(path) for each in found), found


def test_the_dataset_that_disagrees_with_most_is_blamed(tmp_path):
    """photos/alias_of comes first and says 5, eleven others say 4."""
    found = plant(write_sample(tmp_path / "a.h5", "scene"), replace("photos/alias_of", np.full(5, -1)))
    assert [each.path for each in found] == ["photos/alias_of"]
    assert "has 5 along axis 0, but photos/" in found[0].message and "makes it 4 (N)" in found[0].message


def test_the_rows_behind_a_broken_pointer_are_not_blamed(tmp_path):
    """photos/name is gone and with it nothing else: indices into N are still judged by the other columns."""
    found = plant(write_sample(tmp_path / "a.h5", "scene"), delete("photos/name"))
    assert [each.path for each in found] == ["photos/name"]
    found = plant(write_sample(tmp_path / "b.h5", "pairs"), delete("photos/sha256"))
    assert [each.path for each in found] == ["photos/sha256"]


def test_several_defects_are_all_found(tmp_path):
    def several(file: h5py.File) -> None:
        for name in ("missing dataset", "nan", "dangling index", "unsorted row", "unknown status"):
            SCENE_DEFECTS[name][0](file)

    found = {each.path for each in plant(write_sample(tmp_path / "a.h5", "scene"), several)}
    assert found == {"points/rgb", "cameras/cam_from_world", "visibility/point", "photos/status"}


def test_large_datasets_can_be_left_unread(tmp_path):
    path = write_sample(tmp_path / "a.h5", "scene")
    assert plant(path, put("visibility/point", 4, 3))[0].path == "visibility/point"
    assert validate(path, max_rows=4) == []
    assert validate(path, max_rows=5) != []


def test_a_damaged_chunk_is_named_and_the_rest_is_checked(tmp_path):
    arrays = {
        "pairs/first": np.zeros(4000, int),
        "pairs/second": np.ones(4000, int),
        "pairs/inliers": np.arange(4000),
    }
    path = write_sample(tmp_path / "a.h5", "pairs", **arrays, **{"pairs/source": None})
    with h5py.File(path) as file:
        chunk = file["pairs/inliers"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    found = validate(path)
    assert [each.path for each in found] == ["pairs/inliers"] and "cannot be read" in found[0].message


def test_no_flipped_byte_makes_validation_raise(tmp_path):
    """Every 40th byte of a small file; HDF5's own checksums turn most of them into errors."""
    good = write_sample(tmp_path / "a.h5", "pairs").read_bytes()
    path = tmp_path / "b.h5"
    noticed = 0
    for position in range(0, 2400, 40):
        content = bytearray(good)
        content[position] ^= 0x01
        path.write_bytes(bytes(content))
        noticed += bool(validate(path))
    assert noticed >= 10


def brute_force(rows: list[list[int]], order: RowOrder) -> bool:
    """Whether every row keeps the order, by its definition."""
    expected = {
        "any": lambda row: row,
        "unique": lambda row: row if len(set(row)) == len(row) else None,
        "rising": sorted,
        "increasing": lambda row: sorted(set(row)),
    }[order]
    return all(expected(row) == row for row in rows)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 4), max_size=4), max_size=5),
    order=st.sampled_from(["any", "unique", "rising", "increasing"]),
)
def test_row_orders_agree_with_their_definition(rows, order):
    layout = Layout(
        "csr",
        1,
        "",
        (
            Dataset("indptr", ("R+1",), "int64", "rows", csr="E"),
            Dataset("column", ("E",), "int64", "values", rows=order, minimum=0, maximum=4),
        ),
    )
    arrays = {
        "indptr": np.cumsum([0, *map(len, rows)]).astype(np.int64),
        "column": np.array([value for row in rows for value in row], dtype=np.int64),
    }
    found = check(ArraySource(arrays), layout)
    assert (found == []) == brute_force(rows, order)
    assert {each.path for each in found} <= {"column"}
