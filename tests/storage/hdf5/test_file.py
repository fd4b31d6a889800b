"""Write and read: what goes in comes out, equal content is equal bytes, bad content is refused."""

import json
import os
import time

import h5py
import numpy as np
import pytest

from storage.hdf5 import file as hdf5
from storage.hdf5 import sources
from storage.hdf5.digests import content_sha256
from storage.hdf5.open import validate
from storage.schemas.layout import UnknownSchema
from storage.schemas.registry import layout
from tests.storage.layout_samples import (
    SAMPLES,
    SHA,
    ints,
    pairs,
    scene,
    write_sample,
)

PROVENANCE = {"stage": "test", "options": {}, "inputs": []}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_written_is_read(folder, name):
    expected = SAMPLES[name]()
    path = write_sample(folder / "a.h5", name)
    found = hdf5.read(path, name)
    assert sorted(found) == sorted(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], np.asarray(value), err_msg=key)
    assert validate(path) == []


@pytest.mark.parametrize("name", SAMPLES)
def test_equal_content_is_equal_bytes(folder, name):
    first = write_sample(folder / "a.h5", name).read_bytes()
    time.sleep(0.12 if name != "scene" else 1.1)  # HDF5 time stamps count seconds
    reordered = dict(reversed(SAMPLES[name]().items()))
    hdf5.write(folder / "b.h5", name, reordered, stage=name, options={"seed": 0}, inputs=[SHA[5]])
    assert (folder / "b.h5").read_bytes() == first


@pytest.mark.parametrize("name", SAMPLES)
def test_plain_h5py_finds_provenance_descriptions_and_units(folder, name):
    with h5py.File(write_sample(folder / "a.h5", name)) as file:
        assert (file.attrs["schema"], file.attrs["stage"]) == (name, name)
        assert file.attrs["schema_version"] == layout(name).version
        assert json.loads(file.attrs["options"]) == {"seed": 0}
        assert json.loads(file.attrs["inputs"]) == [SHA[5]]
        undescribed: list[str] = []
        file.visititems(
            lambda path, each: None if each.attrs.get("description") else undescribed.append(path)
        )
        assert undescribed == []
        units = {each.path: each.unit for each in layout(name).datasets if each.unit and not each.item_keys}
        assert {path: file[path].attrs["unit"] for path in units if path in file} == {
            path: unit for path, unit in units.items() if path in file
        }


def test_a_scalar_and_text_come_back_as_such(folder):
    found = hdf5.read(write_sample(folder / "a.h5", "training"))
    assert found["best_epoch"].shape == () and found["best_epoch"] == 2
    assert found["warnings/text"].dtype.kind == "U"


def test_names_that_are_not_utf8_survive(folder):
    name = os.fsdecode(b"caf\xe9 \n.jpg")
    path = write_sample(folder / "a.h5", "scan", **{"photos/name": [name, "b", "c", "d"]})
    assert hdf5.read(path, fields=["photos/name"])["photos/name"].tolist() == [name, "b", "c", "d"]
    assert validate(path) == []


def test_empty_content_is_content(folder):
    arrays = {key: np.zeros((0, *np.asarray(value).shape[1:])) for key, value in pairs().items()}
    arrays |= {"photos/sha256": [], "pairs/source": []}
    hdf5.write(folder / "a.h5", "pairs", arrays, **PROVENANCE)
    found = hdf5.read(folder / "a.h5")
    assert found["pairs/first"].dtype == np.int64 and found["pairs/first"].shape == (0,)
    assert validate(folder / "a.h5") == []


def test_narrower_types_and_lists_are_converted(folder):
    changes = {"pairs/first": np.array([0, 1], np.int32), "pairs/second": [2, 3], "pairs/inliers": (20, 17)}
    found = hdf5.read(write_sample(folder / "a.h5", "pairs", **changes))
    assert {found[key].dtype for key in changes} == {np.dtype(np.int64)}
    assert found["pairs/second"].tolist() == [2, 3]


def test_big_endian_and_strided_arrays_are_stored_little_endian(folder):
    strided = np.arange(6)[::3]
    path = write_sample(
        folder / "a.h5", "pairs", **{"pairs/first": ints(0, 1).astype(">i8"), "pairs/inliers": strided}
    )
    with h5py.File(path) as file:
        assert file["pairs/first"].dtype == "<i8"
        assert file["pairs/inliers"][()].tolist() == [0, 3]
    assert hdf5.read(path)["pairs/first"].tolist() == [0, 1]


def test_large_arrays_are_compressed_in_chunks_of_rows(folder):
    count = 300_000
    values = np.zeros((count, 2))
    arrays = scene() | {
        "visibility/indptr": ints(0, 0, count),
        "visibility/point": np.zeros(count, np.int64),
        "visibility/xy_px": values,
        "visibility/keypoint": np.arange(count),
        "visibility/depth": np.ones(count, np.float32),
    }
    hdf5.write(folder / "a.h5", "scene", arrays, **PROVENANCE)
    with h5py.File(folder / "a.h5") as file:
        column = file["visibility/xy_px"]
        assert (column.compression, column.shuffle) == ("gzip", True)
        assert column.chunks[1] == 2 and column.chunks[0] < count
        assert column.id.get_storage_size() < values.nbytes / 50
    assert validate(folder / "a.h5") == []


def test_facts_beside_the_content_are_attributes(folder):
    facts = {
        "seconds_train": [1.5, 2.5],
        "warning": "too few clusters",
        "skipped": {"hidden": 3},
        "long": list(range(20_000)),
        "exact": True,
    }
    write_sample(folder / "a.h5", "pairs")
    hdf5.write(folder / "b.h5", "pairs", pairs(), attributes=facts, **PROVENANCE)
    with hdf5.open_artifact(folder / "b.h5") as artifact:
        assert artifact.attributes["seconds_train"] == [1.5, 2.5]
        assert artifact.attributes["warning"] == "too few clusters"
        assert json.loads(artifact.attributes["skipped"]) == {"hidden": 3}
        assert json.loads(artifact.attributes["long"])[-1] == 19_999
        assert artifact.attributes["exact"] is True
    assert content_sha256(folder / "a.h5") == content_sha256(folder / "b.h5")
    with pytest.raises(hdf5.InvalidArrays, match="attribute 'stage' is written by"):
        hdf5.write(folder / "c.h5", "pairs", pairs(), attributes={"stage": "x"}, **PROVENANCE)


def test_options_and_inputs_may_be_long(folder):
    inputs = [f"{value:064x}" for value in range(5000)]
    options = {"text": "ü" * 100_000}
    hdf5.write(folder / "a.h5", "pairs", pairs(), stage="pairs", options=options, inputs=inputs)
    with hdf5.open_artifact(folder / "a.h5") as artifact:
        assert artifact.inputs == inputs
        assert artifact.options == options


BAD = {
    "unknown dataset": ("pairs", {"pairs/third": ints(1)}, r"pairs/third: is not part of schema 'pairs'"),
    "missing": ("pairs", {"pairs/first": None}, r"pairs/first: is missing"),
    "sizes": (
        "pairs",
        {"pairs/second": ints(2)},
        r"pairs/second: has 1 along axis 0, but pairs/first makes it 2 \(K\)",
    ),
    "fixed size": (
        "scene",
        {"points/xyz": np.zeros((3, 2))},
        r"points/xyz: has 2 along axis 1, the schema says 3",
    ),
    "dimensions": ("pairs", {"pairs/first": np.zeros((2, 1), int)}, r"pairs/first: has shape \(2, 1\)"),
    "type": (
        "pairs",
        {"pairs/first": np.array([0.0, 1])},
        r"pairs/first: has type float64, the schema says int64",
    ),
    "precision": (
        "training_set",
        {"candidates/overlap": np.array([0.5, 0.2])},
        r"overlap: has type float64.*float32",
    ),
    "objects": ("pairs", {"pairs/first": [0, None]}, r"pairs/first: has type object"),
    "ragged": ("pairs", {"pairs/first": [[0], [1, 2]]}, r"pairs/first: not an array"),
    "not text": ("scan", {"photos/name": ["a", "b", None, "d"]}, r"photos/name: has None at \[2\]"),
    "zero byte": ("scan", {"photos/name": ["a", "b", "c\0", "d"]}, r"photos/name: a text holds a zero byte"),
    "digest": (
        "scan",
        {"photos/sha256": [*SHA[:3], "AB"]},
        r"photos/sha256: has 'AB' at \[3\]; it must be 64",
    ),
    "long digest": ("scan", {"photos/sha256": [*SHA[:3], "0" * 65]}, r"photos/sha256: has type S65"),
    "index": (
        "pairs",
        {"pairs/second": ints(2, 4)},
        r"pairs/second: has the dangling index 4 at \[1\]; .* 0\.\.3",
    ),
    "negative index": (
        "pairs",
        {"pairs/first": ints(-1, 1)},
        r"pairs/first: has the dangling index -1 at \[0\]",
    ),
    "below none": (
        "scene",
        {"photos/model": ints(0, -2, 0, 0)},
        r"photos/model: has the dangling index -2 .* -1 \(none\)",
    ),
    "empty target": (
        "training_set",
        {"benchmark/test/junk/image": ints(9)},
        r"junk/image: has the dangling index 9",
    ),
    "nan": ("scene", {"points/xyz": np.full((3, 3), np.nan)}, r"points/xyz: has nan at \[0, 0\]"),
    "inf": (
        "training",
        {"epochs/loss_val": np.array([1, np.inf])},
        r"epochs/loss_val: has inf at \[1\]; .* finite or nan",
    ),
    "minimum": (
        "scan",
        {"photos/bytes": ints(1, 2, -3, 4)},
        r"photos/bytes: has -3 at \[2\]; it must be within 0",
    ),
    "maximum": (
        "training_set",
        {"candidates/overlap": np.array([0.5, 1.5], "f4")},
        r"overlap: has 1.5 at \[1\]; .* 0..1",
    ),
    "choice": (
        "catalogue",
        {"photos/status": ["ok", "ok", "fine", "ok"]},
        r"photos/status: has 'fine' at \[2\]; allowed: ok",
    ),
    "number choice": (
        "training_set",
        {"queries/split": np.array([0, 3], "i1")},
        r"queries/split: has 3 at \[1\]",
    ),
    "twice": ("scan", {"photos/name": ["a", "b", "a", "c"]}, r"photos/name: holds 'a' more than once"),
    "first not smaller": (
        "pairs",
        {"pairs/first": ints(0, 3)},
        r"pairs/first: has 3 at \[1\], but pairs/second has 3",
    ),
    "indptr start": ("scene", {"visibility/indptr": ints(1, 2, 5)}, r"visibility/indptr: begins with 1"),
    "indptr falls": (
        "scene",
        {"visibility/indptr": ints(0, 6, 5)},
        r"visibility/indptr: falls from 6 to 5 at \[2\]",
    ),
    "indptr end": (
        "scene",
        {"visibility/indptr": ints(0, 2, 4)},
        r"visibility/indptr: ends with 4, but .* 5 rows",
    ),
    "indptr empty": ("training_set", {"positives/m3/indptr": ints()}, r"m3/indptr: has 0 along axis 0"),
    "row order": (
        "scene",
        {"visibility/point": ints(2, 0, 0, 1, 2)},
        r"visibility/point: is not rising in row 0: 2 before 0",
    ),
    "row repeats": (
        "training_set",
        {"positives/m3/indptr": ints(0, 2, 2), "positives/m3/image": ints(1, 1)},
        r"m3/image: holds 1 twice in row 0",
    ),
    "row equal": (
        "training_set",
        {"benchmark/val/easy/indptr": ints(0, 2), "benchmark/val/easy/image": ints(1, 1)},
        r"easy/image: is not increasing in row 0: 1 before 1",
    ),
    "half an item": ("features", {f"{SHA[0]}/scores": None}, rf"{SHA[0]}/scores: is missing"),
    "item size": (
        "features",
        {f"{SHA[0]}/scores": np.ones(2, "f4")},
        rf"{SHA[0]}/scores: has 2 along axis 0, but .* 3 \(n\)",
    ),
    "unlisted item": (
        "evaluation",
        {"ranks/lw": np.array([[0]]), "scores/lw": np.ones((1, 1), "f4")},
        r"ranking 'lw'",
    ),
    "listed item": (
        "evaluation",
        {"average_precisions/raw-hard": None},
        r"configurations/name: names 'raw-hard'",
    ),
}


@pytest.mark.parametrize(("name", "changes", "message"), BAD.values(), ids=BAD)
def test_bad_content_is_refused_by_path_value_and_remedy(folder, name, changes, message):
    path = folder / "a.h5"
    path.write_bytes(b"what was there before")
    with pytest.raises(hdf5.InvalidArrays, match=message):
        write_sample(path, name, **changes)
    assert path.read_bytes() == b"what was there before"
    assert os.listdir(folder) == ["a.h5"]


def test_an_order_within_rows_may_break_between_rows(folder):
    """Row 0 ends with 2, row 1 begins with 0: that is rising in each row."""
    path = write_sample(folder / "a.h5", "scene", **{"visibility/point": ints(1, 2, 0, 1, 1)})
    assert validate(path) == []


def test_checks_do_not_depend_on_the_size_of_a_block(folder, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_BYTES", 8)
    for name in SAMPLES:
        assert validate(write_sample(folder / f"{name}.h5", name)) == []
    with pytest.raises(hdf5.InvalidArrays, match=r"dangling index 4 at \[1\]"):
        write_sample(folder / "a.h5", "pairs", **{"pairs/second": ints(2, 4)})


def test_every_violation_of_several_is_named(folder):
    with pytest.raises(hdf5.InvalidArrays, match=r"pairs/first.*photos/sha256|photos/sha256.*pairs/first"):
        write_sample(folder / "a.h5", "pairs", **{"pairs/first": ints(9, 9), "photos/sha256": ["x"] * 4})


def test_an_unknown_schema_is_refused(folder):
    with pytest.raises(UnknownSchema, match="did you mean 'scene'"):
        hdf5.write(folder / "a.h5", "scen", {}, **PROVENANCE)
    with pytest.raises(hdf5.InvalidArrays, match="give a list of content digests"):
        hdf5.write(folder / "a.h5", "pairs", pairs(), stage="s", options={}, inputs="abc")
    assert os.listdir(folder) == []
