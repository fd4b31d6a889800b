"""describe: what a file is and holds, also for foreign, damaged, truncated and huge ones; folders too."""

import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from rich.console import Console

from storage import describe
from storage.hdf5 import file as hdf5
from storage.inspect import tree
from storage.inspect.render import Description, render
from storage.inspect.tree import Node, Statistics
from storage.keys.artifacts import SIDECAR, ArtifactRef, Sidecar, describe_file, write_manifest
from storage.schemas.registry import all_layouts
from tests.storage.layout_samples import SAMPLES, SHA, ints, write_sample


def node(description: Description, path: str) -> Node:
    found = description.root
    for depth in range(1, path.count("/") + 2):
        assert found is not None
        wanted = "/".join(path.split("/")[:depth])
        found = next(child for child in found.children if child.path == wanted)
    assert found is not None
    return found


@pytest.mark.parametrize("name", SAMPLES)
def test_every_dataset_is_shown_with_type_unit_and_meaning(tmp_path, name):
    path = write_sample(tmp_path / "a.h5", name)
    found = describe(path)
    layout = all_layouts()[name]
    assert (found.kind, found.schema, found.version, found.stage) == ("hdf5", name, layout.version, name)
    assert (found.options, found.inputs, found.violations) == ({"seed": 0}, (SHA[5],), ())
    assert found.bytes == path.stat().st_size
    text = str(found)
    assert "seed = 0" in text and "valid" in text and "not valid" not in text
    for key, value in SAMPLES[name]().items():
        each = node(found, key)
        assert each.shape == np.shape(value) and each.description
        assert each.name in text
    parsed = json.loads(found.to_json())
    assert parsed["schema"] == name and parsed["root"]["children"]


def test_statistics_are_of_the_values_that_mean_something(tmp_path):
    found = describe(write_sample(tmp_path / "a.h5", "scene"))
    assert node(found, "photos/alias_of").statistics == Statistics(0, 0, 0, missing=3)
    assert node(found, "photos/focal_prior_px").statistics == Statistics(500, 500, 500, missing=2)
    assert node(found, "points/xyz").statistics == Statistics(0, 8, 4)
    assert node(found, "points/xyz").unit == "model units"
    assert node(found, "photos/status").sample == ("ok", "ok", "duplicate", "rejected")
    assert node(found, "photos/status").statistics is None
    assert node(found, "points").stored_bytes == sum(
        child.stored_bytes for child in node(found, "points").children
    )


def test_nothing_but_nan_has_no_statistics_that_json_cannot_hold(tmp_path):
    found = describe(
        write_sample(tmp_path / "a.h5", "catalogue", **{"photos/focal_prior_px": np.full(4, np.nan)})
    )
    assert "all 4 none" in str(found)
    assert "NaN" not in found.to_json()


def test_names_with_line_breaks_and_markup_are_harmless(tmp_path):
    names = ["[red]x[/red]\n.jpg", "b", "c", "d"]
    text = str(describe(write_sample(tmp_path / "a.h5", "scan", **{"photos/name": names})))
    assert r"[red]x[/red]\n.jpg" in text


def test_of_many_items_the_first_are_shown(tmp_path):
    with hdf5.ItemWriter(tmp_path / "a.h5", "descriptors", stage="s", options={}, inputs=[]) as writer:
        for value in range(50):
            writer.add(f"{value:064x}", global_descriptor=np.ones(2, np.float32))
    found = describe(tmp_path / "a.h5")
    assert found.root is not None
    assert (len(found.root.children), found.root.left_out) == (3, 47)
    assert "... 47 more" in str(found)
    full = describe(tmp_path / "a.h5", full=True)
    assert full.root is not None
    assert (len(full.root.children), full.root.left_out) == (50, 0)


def test_violations_are_listed_with_their_paths(tmp_path):
    path = write_sample(tmp_path / "a.h5", "scene")
    with h5py.File(path, "r+") as file:
        file["visibility/point"][4] = 9
        file.attrs["options"] = "{"
    found = describe(path)
    assert {each.path for each in found.violations} == {"/", "visibility/point"}
    assert "2 violations" in str(found) and "visibility/point: has the dangling index 9" in str(found)


def test_a_foreign_hdf5_file_is_shown_as_far_as_it_goes(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["some/values"] = np.arange(3)
        file["some"].attrs["author"] = "someone"
        file["other"] = h5py.SoftLink("/nowhere")
    found = describe(tmp_path / "a.h5")
    assert found.schema == "" and "without the root attribute 'schema'" in found.violations[0].message
    assert node(found, "some/values").statistics == Statistics(0, 2, 1)
    assert node(found, "other").kind == "other"
    assert "values" in str(found)


def test_a_newer_version_is_shown_and_named(tmp_path):
    path = write_sample(tmp_path / "a.h5", "pairs")
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 7
    found = describe(path)
    assert (found.schema, found.version) == ("pairs", 7)
    assert "version 7" in found.violations[0].message
    assert node(found, "pairs/first").shape == (2,)


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_damaged_file_is_described_by_what_is_wrong(tmp_path, content):
    (tmp_path / "a.h5").write_bytes(content)
    found = describe(tmp_path / "a.h5")
    assert (found.kind, found.bytes, found.root) == ("file", len(content), None)
    assert [each.path for each in found.violations] == ["/"]
    assert "1 violations" in str(found)


def test_a_truncated_file_is_described_by_what_is_wrong(tmp_path):
    path = write_sample(tmp_path / "a.h5", "scene")
    path.write_bytes(path.read_bytes()[:5000])
    assert "truncated" in describe(path).violations[0].message


def test_a_dataset_that_cannot_be_read_keeps_its_place(tmp_path):
    first, second = np.triu_indices(90, 1)
    arrays = {
        "photos/sha256": [f"{value:064x}" for value in range(90)],
        "pairs/first": first,
        "pairs/second": second,
        "pairs/inliers": np.arange(len(first)),
    }
    path = write_sample(tmp_path / "a.h5", "pairs", **arrays, **{"pairs/source": None})
    with h5py.File(path) as file:
        chunk = file["pairs/inliers"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    found = describe(path)
    assert "cannot be read" in node(found, "pairs/inliers").note
    assert node(found, "pairs/second").statistics == Statistics(1, 89, second.mean())
    assert [each.path for each in found.violations] == ["pairs/inliers"]


def test_a_huge_sparse_file_is_described_at_once(tmp_path):
    """20 GiB of points that take no room on a disk with sparse files: shown, marked as not read."""
    path = write_sample(tmp_path / "a.h5", "scene")
    rows = 20 * 2**30 // 24
    with h5py.File(path, "r+") as file:
        del file["points/xyz"]
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((rows, 3))
        h5py.h5d.create(file["points"].id, b"xyz", h5py.h5t.NATIVE_DOUBLE, space, creation)
    begin = time.monotonic()
    found = describe(path)
    text = str(found)
    assert time.monotonic() - begin < 2
    assert found.bytes > 20 * 2**30 and found.unchecked == ("points/xyz",)
    assert "not read for its size: points/xyz" in text and "20.0 GiB" in text
    assert "points/xyz" in {each.path for each in found.violations}


def test_large_datasets_are_shown_without_their_values(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "MAX_ROWS", 3)
    path = write_sample(tmp_path / "a.h5", "scan")
    assert node(describe(path), "photos/bytes").statistics is None
    assert node(describe(path, full=True), "photos/bytes").statistics == Statistics(0, 30, 15)


def test_a_folder_is_compared_with_its_manifest(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    write_sample(folder / "a.h5", "pairs")
    (folder / "points.bin").write_bytes(b"123")
    assert "is not an artifact" in describe(folder).violations[0].message
    write_manifest(folder)
    found = describe(folder)
    assert (found.kind, found.violations) == ("directory", ())
    assert [Path(each.path).name for each in found.members] == ["a.h5", "points.bin"]
    assert found.members[0].schema == "pairs"
    assert "points.bin" in str(found) and "pairs version 1" in str(found)
    assert json.loads(found.to_json())["members"][1]["bytes"] == 3

    (folder / "points.bin").write_bytes(b"1234")
    (folder / "more.bin").write_bytes(b"")
    (folder / "a.h5").unlink()
    messages = {each.path: each.message for each in describe(folder).violations}
    assert set(messages) == {"points.bin", "more.bin", "a.h5"}
    assert "has 4 bytes, 3 when it was made" in messages["points.bin"]
    (folder / "manifest.json").write_text("[1")
    assert "cannot be read" in describe(folder).violations[0].message


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        describe(tmp_path / "nothing.h5")


def test_rich_prints_a_description_in_colour(tmp_path):
    found = describe(write_sample(tmp_path / "a.h5", "whitening", **{"eigenvalues": np.array([2.0, 1.0])}))
    console = Console(record=True, width=120, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(found)
    assert "projection" in console.export_text()
    assert render(found).children


def test_inputs_beyond_the_first_are_counted(tmp_path):
    inputs = [f"{value:064x}" for value in range(20)]
    arrays = SAMPLES["pairs"]() | {"pairs/first": ints(0, 1)}
    hdf5.write(tmp_path / "a.h5", "pairs", arrays, stage="s", options={}, inputs=inputs)
    text = str(describe(tmp_path / "a.h5"))
    assert "... 12 more inputs" in text and inputs[7] in text and inputs[8] not in text


def test_values_of_another_digest_than_the_file_says(tmp_path):
    path = write_sample(tmp_path / "a.h5", "search_index")
    rows = SAMPLES["search_index"]()["descriptors"]
    with h5py.File(path, "r+") as file:
        file.attrs["descriptors_sha256"] = hashlib.sha256(rows.astype("<f4").tobytes()).hexdigest()
        file.attrs["faiss_sha256"] = ""  # none
    assert describe(path).violations == ()
    with h5py.File(path, "r+") as file:
        file["descriptors"][0] = file["descriptors"][1]
    found = describe(path).violations
    assert [each.path for each in found] == ["descriptors"] and "root attribute says" in found[0].message


def made(path: Path) -> Path:
    """A file or folder with a sidecar beside it, as in a store."""
    digest, content, size = write_manifest(path) if path.is_dir() else describe_file(path)
    ref = ArtifactRef(
        stage="s", key="0" * 64, path=f"s/{path.name}", file_sha256=digest, content_sha256=content, bytes=size
    )
    sidecar = Sidecar(ref=ref, key_parts={}, family="", created=datetime(2026, 1, 1, tzinfo=UTC), seconds=1.0)
    stem = path.name if path.is_dir() else path.name.split(".")[0]
    path.with_name(f"{stem}{SIDECAR}").write_text(sidecar.model_dump_json())
    return path


def test_a_sound_value_that_was_changed_later_is_noticed(tmp_path):
    """Another photograph's width breaks no promise; the store noted the digest of the file."""
    path = made(write_sample(tmp_path / "a.h5", "scan"))
    assert describe(path).violations == ()
    with h5py.File(path, "r+") as file:
        file["photos/bytes"][0] += 1
    found = describe(path).violations
    assert [each.path for each in found] == ["/"] and "was changed after it was made" in found[0].message


def test_a_member_that_was_changed_is_named(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "points3D.bin").write_bytes(b"12345")
    made(folder)
    assert describe(folder).violations == ()
    (folder / "points3D.bin").write_bytes(b"12346")
    found = describe(folder).violations
    assert [each.path for each in found] == ["points3D.bin"] and "was changed" in found[0].message
    (folder / "manifest.json").write_text('{"files": []}')
    assert "manifest.json" in {each.path for each in describe(folder).violations}


def test_a_network_is_shown_by_its_tensors(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "network.safetensors"
    save_file({"b": np.zeros((2, 3), np.float32), "a": np.ones(4, np.float16)}, path, {"pooling": "gem"})
    made(path)
    found = describe(path)
    assert found.root is not None and (found.kind, found.violations) == ("safetensors", ())
    assert [(each.path, each.shape, each.type) for each in found.root.children] == [
        ("a", (4,), "F16"),
        ("b", (2, 3), "F32"),
    ]
    assert found.attributes == {"pooling": "gem"} and "pooling: gem" in str(found)
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    assert {each.path for each in describe(path).violations} == {"/", "a"}  # the last in the file
    path.write_bytes(content[:20])
    assert "cannot be read" in describe(path).violations[0].message


def test_a_json_file_is_shown_by_its_keys(tmp_path):
    path = tmp_path / "clusters.json"
    path.write_text('{"clusters": [[1, 2], [3]], "seed": 4}')
    found = describe(path)
    assert (found.kind, found.violations) == ("json", ())
    assert found.attributes == {"clusters": "2 values", "seed": 4}
    path.write_text('{"clusters": ')
    assert [each.path for each in describe(path).violations] == ["/"]
