"""Write, read, stream, open: what goes in comes out, equal content is equal bytes, bad content is refused."""

import json
import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from storage import hdf5, hdf5_sources, schemas
from storage.digests import content_sha256, group_sha256
from storage.schemas import Dataset, Layout, UnknownSchema
from tests.storage.layout_samples import (
    SAMPLES,
    SHA,
    features,
    golden_path,
    ints,
    matches,
    pairs,
    scene,
    write_sample,
)

PROVENANCE = {"stage": "test", "options": {}, "inputs": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_written_is_read(folder, name):
    expected = SAMPLES[name]()
    path = write_sample(folder / "a.h5", name)
    found = hdf5.read(path, name)
    assert sorted(found) == sorted(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], np.asarray(value), err_msg=key)
    assert hdf5.validate(path) == []


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
        assert file.attrs["schema_version"] == schemas.layout(name).version
        assert json.loads(file.attrs["options"]) == {"seed": 0}
        assert json.loads(file.attrs["inputs"]) == [SHA[5]]
        undescribed: list[str] = []
        file.visititems(
            lambda path, each: None if each.attrs.get("description") else undescribed.append(path)
        )
        assert undescribed == []
        units = {
            each.path: each.unit for each in schemas.layout(name).datasets if each.unit and not each.item_keys
        }
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
    assert hdf5.validate(path) == []


def test_empty_content_is_content(folder):
    arrays = {key: np.zeros((0, *np.asarray(value).shape[1:])) for key, value in pairs().items()}
    arrays |= {"photos/sha256": [], "pairs/source": []}
    hdf5.write(folder / "a.h5", "pairs", arrays, **PROVENANCE)
    found = hdf5.read(folder / "a.h5")
    assert found["pairs/first"].dtype == np.int64 and found["pairs/first"].shape == (0,)
    assert hdf5.validate(folder / "a.h5") == []


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
    assert hdf5.validate(folder / "a.h5") == []


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
    assert hdf5.validate(path) == []


def test_checks_do_not_depend_on_the_size_of_a_block(folder, monkeypatch):
    monkeypatch.setattr(hdf5_sources, "BLOCK_BYTES", 8)
    for name in SAMPLES:
        assert hdf5.validate(write_sample(folder / f"{name}.h5", name)) == []
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


# ---- items ----


def item(sha: str) -> dict[str, np.ndarray]:
    return {key.split("/")[1]: value for key, value in features().items() if key.startswith(sha)}


def test_items_are_streamed_and_digested(folder):
    with hdf5.ItemWriter(folder / "a.h5", "features", **PROVENANCE) as writer:
        digests = {sha: writer.add(sha, **item(sha)) for sha in (SHA[1], SHA[0])}
        assert writer.items == [SHA[1], SHA[0]]
        assert not (folder / "a.h5").exists()
    hdf5.write(folder / "b.h5", "features", features(), **PROVENANCE)
    assert content_sha256(folder / "a.h5") == content_sha256(folder / "b.h5")
    for sha, digest in digests.items():
        assert digest == group_sha256(folder / "b.h5", sha)
    assert hdf5.validate(folder / "a.h5") == []
    assert sorted(os.listdir(folder)) == ["a.h5", "b.h5"]


def test_the_same_items_in_the_same_order_are_the_same_bytes(folder):
    for name in ("a.h5", "b.h5"):
        with hdf5.ItemWriter(folder / name, "features", **PROVENANCE) as writer:
            for sha in SHA[:2]:
                writer.add(sha, **item(sha))
    assert (folder / "a.h5").read_bytes() == (folder / "b.h5").read_bytes()


def test_pairs_are_items_of_two_names_beside_a_table(folder):
    sample = matches()
    arrays = {
        key.rsplit("/", 1)[1]: value for key, value in sample.items() if "matches" in key or "scores" in key
    }
    with hdf5.ItemWriter(folder / "a.h5", "matches", **PROVENANCE) as writer:
        writer.add((SHA[0], SHA[1]), **arrays)
        writer.add(f"{SHA[0]}/{SHA[2]}", **arrays)
        writer.add_table({key: value for key, value in sample.items() if key.startswith("attempts")})
    assert [name for name, _ in hdf5.read_items(folder / "a.h5")] == [
        f"{SHA[0]}/{SHA[1]}",
        f"{SHA[0]}/{SHA[2]}",
    ]
    assert hdf5.validate(folder / "a.h5") == []


@pytest.mark.parametrize(
    ("schema", "name", "message"),
    [
        ("features", "a/b", "the items of 'features' are named {photo}"),
        ("features", "", "are named"),
        ("features", "..", "are named"),
        ("matches", "a", "are named {first}/{second}"),
        ("matches", "attempts/b", "'attempts' is a table"),
        ("features", SHA[0], "is already in the file"),
    ],
)
def test_a_bad_item_name_is_refused_and_nothing_stays(folder, schema, name, message):
    def run() -> None:
        with hdf5.ItemWriter(folder / "a.h5", schema, **PROVENANCE) as writer:
            if schema == "features":
                writer.add(SHA[0], **item(SHA[0]))
            writer.add(name, **item(SHA[0]))

    with pytest.raises(hdf5.InvalidArrays, match=message):
        run()
    assert os.listdir(folder) == []


def test_an_item_that_breaks_the_layout_is_refused(folder):
    def run(**changes: np.ndarray) -> None:
        with hdf5.ItemWriter(folder / "a.h5", "features", **PROVENANCE) as writer:
            writer.add(SHA[0], **item(SHA[0]))
            writer.add(SHA[1], **(item(SHA[1]) | changes))

    with pytest.raises(hdf5.InvalidArrays, match=r"descriptors: has D = 5, but .* has 4"):
        run(descriptors=np.zeros((5, 0), np.uint8))
    with pytest.raises(hdf5.InvalidArrays, match=rf"{SHA[1]}/scores: has 1 along axis 0"):
        run(scores=np.ones(1, np.float32))
    with pytest.raises(hdf5.InvalidArrays, match=r"colour: is not part of schema"):
        run(colour=np.ones(1, np.float32))
    assert os.listdir(folder) == []


def test_a_missing_table_or_an_error_inside_leaves_no_file(folder):
    def run(error: type[Exception] | None) -> None:
        with hdf5.ItemWriter(folder / "a.h5", "matches", **PROVENANCE):
            if error:
                raise error("inside")

    with pytest.raises(hdf5.InvalidArrays, match=r"attempts/first: is missing .* add_table"):
        run(None)
    with pytest.raises(KeyboardInterrupt):
        run(KeyboardInterrupt)
    assert os.listdir(folder) == []


def test_misuse_of_the_item_writer_is_named(folder):
    with pytest.raises(hdf5.WrongSchema, match=r"'scene' has no items; use storage\.hdf5\.write"):
        hdf5.ItemWriter(folder / "a.h5", "scene", **PROVENANCE)
    writer = hdf5.ItemWriter(folder / "a.h5", "features", **PROVENANCE)
    with pytest.raises(hdf5.ArtifactError, match="is not open"):
        writer.add(SHA[0], **item(SHA[0]))
    with pytest.raises(hdf5.InvalidArrays, match="has no arrays"), writer:
        writer.add(SHA[0])
    with pytest.raises(hdf5.InvalidArrays, match="write each table once"):
        _table_twice(folder)


def _table_twice(folder: Path) -> None:
    table = {key: value for key, value in matches().items() if key.startswith("attempts")}
    with hdf5.ItemWriter(folder / "a.h5", "matches", **PROVENANCE) as writer:
        writer.add_table(table)
        writer.add_table(table)


def test_items_are_read_in_the_wanted_order(folder):
    path = write_sample(folder / "a.h5", "features")
    wanted = [SHA[1], SHA[0]]
    found = list(hdf5.read_items(path, wanted, fields=["keypoints"]))
    assert [name for name, _ in found] == wanted
    assert [arrays["keypoints"].shape for _, arrays in found] == [(0, 2), (3, 2)]
    assert [name for name, _ in hdf5.read_items(path)] == sorted(wanted)
    with pytest.raises(hdf5.MissingItem, match=f"no item '{SHA[2]}'"):
        list(hdf5.read_items(path, [SHA[2]]))
    with pytest.raises(hdf5.MissingItem, match="no dataset"):
        list(hdf5.read_items(path, [SHA[0]], fields=["colour"]))


# ---- opening ----


def test_an_artifact_says_what_it_is_and_reads_what_is_asked(folder):
    path = write_sample(folder / "a.h5", "scene")
    with hdf5.open_artifact(path) as artifact:
        assert (artifact.schema, artifact.version, artifact.stage) == ("scene", 1, "scene")
        assert (artifact.options, artifact.inputs, artifact.attributes) == ({"seed": 0}, [SHA[5]], {})
        assert artifact["pairs/first"].tolist() == [0]
        assert artifact.dataset("visibility/point")[1:3].tolist() == [2, 0]
        assert "pairs/first" in artifact and "pairs" not in artifact and "nothing" not in artifact
        assert artifact.items() == [] and len(artifact.paths()) == len(scene())
        assert artifact.validate() == []
        with pytest.raises(hdf5.MissingItem, match=r"no dataset 'pairs/colour' in this scene file"):
            artifact["pairs/colour"]
    assert not artifact.file


def test_another_kind_of_file_is_refused(folder):
    path = write_sample(folder / "a.h5", "pairs")
    with pytest.raises(hdf5.WrongSchema, match="a 'pairs' file, 'scene' was asked for"):
        hdf5.read(path, "scene")
    with pytest.raises(UnknownSchema, match="did you mean"):
        hdf5.read(path, "scenes")
    with pytest.raises(FileNotFoundError, match="no such file"):
        hdf5.open_artifact(folder / "b.h5")


def test_foreign_files_are_named_as_such(folder):
    path = folder / "a.h5"
    for content, message in ((b"", "it is empty"), (b"PK\x03\x04zip", "it begins with")):
        path.write_bytes(content)
        with pytest.raises(hdf5.NotAnArtifact, match=message):
            hdf5.open_artifact(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(hdf5.NotAnArtifact, match=r"without the root attribute 'schema'.*its root holds x"):
        hdf5.open_artifact(path)
    with pytest.raises(FileNotFoundError):
        hdf5.open_artifact(folder)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named_as_such(folder, share):
    path = write_sample(folder / "a.h5", "scene")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(hdf5.DamagedArtifact, match="truncated or damaged"):
        hdf5.read(path)
    assert [each.path for each in hdf5.validate(path)] == ["/"]


def test_damaged_values_are_named_on_reading(folder):
    count = 4000
    arrays = pairs() | {"pairs/first": np.zeros(count, int), "pairs/second": np.ones(count, int)}
    arrays |= {"pairs/inliers": np.arange(count), "pairs/source": ["d"] * count}
    hdf5.write(folder / "a.h5", "pairs", arrays, **PROVENANCE)
    with h5py.File(folder / "a.h5") as file:
        chunk = file["pairs/inliers"].id.get_chunk_info(0)
    content = bytearray((folder / "a.h5").read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    (folder / "a.h5").write_bytes(bytes(content))
    with pytest.raises(hdf5.DamagedArtifact, match="'pairs/inliers' cannot be read"):
        hdf5.read(folder / "a.h5")
    assert hdf5.read(folder / "a.h5", fields=["pairs/first"])["pairs/first"].shape == (count,)


def test_an_older_version_is_read_and_upgraded(folder, monkeypatch):
    old = Layout("kind", 1, "old", (Dataset("width", ("N",), "int64", "width", "cm"),))
    new = Layout(
        "kind", 2, "new", (Dataset("width_px", ("N",), "int64", "width", "px"),), previous=(old,),
        upgrade=lambda version, arrays: {"width_px": arrays["width"] * 10 * version},
    )  # fmt: skip
    monkeypatch.setattr(schemas, "all_layouts", lambda: {"kind": old})
    hdf5.write(folder / "a.h5", "kind", {"width": [1, 2]}, **PROVENANCE)
    monkeypatch.setattr(schemas, "all_layouts", lambda: {"kind": new})
    assert hdf5.read(folder / "a.h5", "kind")["width_px"].tolist() == [10, 20]
    assert hdf5.read(folder / "a.h5", fields=["width_px"])["width_px"].tolist() == [10, 20]
    assert hdf5.validate(folder / "a.h5") == []
    with pytest.raises(hdf5.MissingItem, match="no dataset 'width'"):
        hdf5.read(folder / "a.h5", fields=["width"])
    with hdf5.open_artifact(folder / "a.h5") as artifact:
        assert not artifact.is_current and artifact["width"].tolist() == [1, 2]
    hdf5.write(folder / "b.h5", "kind", {"width_px": [1]}, **PROVENANCE)
    monkeypatch.setattr(schemas, "all_layouts", lambda: {"kind": old})
    with pytest.raises(hdf5.WrongSchema, match="version 2, this package reads 1; update this package"):
        hdf5.read(folder / "b.h5")


def test_a_file_can_be_read_where_nothing_may_be_written(folder):
    path = write_sample(folder / "a.h5", "pairs")
    path.chmod(0o444)
    with hdf5.open_artifact(path), hdf5.open_artifact(path) as second:
        assert second["pairs/first"].tolist() == [0, 1]


VERSIONS = [
    (each.name, version)
    for each in schemas.all_layouts().values()
    for version in (each.version, *(old.version for old in each.previous))
]


@pytest.mark.parametrize(
    ("name", "version"), VERSIONS, ids=[f"{name}-v{version}" for name, version in VERSIONS]
)
def test_the_golden_file_of_every_accepted_version_is_read(name, version):
    """Where this fails, a layout changed its meaning: give it a new version, keep the old one in `previous`.

    `python -m tests.storage.layout_samples` writes the golden files of current versions.
    """
    path = golden_path(name, version)
    with hdf5.open_artifact(path, name) as artifact:
        assert artifact.version == version
        assert artifact.validate() == []
    if version == schemas.layout(name).version:
        expected = SAMPLES[name]()
        found = hdf5.read(path)
        assert sorted(found) == sorted(expected)
        assert all(
            np.array_equal(found[key], np.asarray(expected[key]), equal_nan=found[key].dtype.kind == "f")
            for key in found
        )
    else:
        assert hdf5.read(path)
