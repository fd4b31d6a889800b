"""Items in one file: streamed, digested, read in any order; a bad one leaves nothing behind."""

import os
from pathlib import Path

import numpy as np
import pytest

from storage.hdf5 import file as hdf5
from storage.hdf5.digests import content_sha256, group_sha256
from storage.hdf5.open import validate
from tests.storage.layout_samples import (
    SHA,
    features,
    matches,
    write_sample,
)

PROVENANCE = {"stage": "test", "options": {}, "inputs": []}


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
    assert validate(folder / "a.h5") == []
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
    assert validate(folder / "a.h5") == []


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
