"""Open an artifact: what it is, foreign, truncated and damaged files, older versions."""

import h5py
import numpy as np
import pytest

from storage.files.errors import DamagedArtifact, NotAnArtifact
from storage.hdf5 import file as hdf5
from storage.hdf5.open import validate
from storage.schemas import registry
from storage.schemas.layout import Dataset, Layout, UnknownSchema
from tests.storage.layout_samples import (
    SAMPLES,
    SHA,
    golden_path,
    pairs,
    scene,
    write_sample,
)

PROVENANCE = {"stage": "test", "options": {}, "inputs": []}


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
        with pytest.raises(NotAnArtifact, match=message):
            hdf5.open_artifact(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(NotAnArtifact, match=r"without the root attribute 'schema'.*its root holds x"):
        hdf5.open_artifact(path)
    with pytest.raises(FileNotFoundError):
        hdf5.open_artifact(folder)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named_as_such(folder, share):
    path = write_sample(folder / "a.h5", "scene")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DamagedArtifact, match="truncated or damaged"):
        hdf5.read(path)
    assert [each.path for each in validate(path)] == ["/"]


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
    with pytest.raises(DamagedArtifact, match="'pairs/inliers' cannot be read"):
        hdf5.read(folder / "a.h5")
    assert hdf5.read(folder / "a.h5", fields=["pairs/first"])["pairs/first"].shape == (count,)


def test_an_older_version_is_read_and_upgraded(folder, monkeypatch):
    old = Layout("kind", 1, "old", (Dataset("width", ("N",), "int64", "width", "cm"),))
    new = Layout(
        "kind", 2, "new", (Dataset("width_px", ("N",), "int64", "width", "px"),), previous=(old,),
        upgrade=lambda version, arrays: {"width_px": arrays["width"] * 10 * version},
    )  # fmt: skip
    monkeypatch.setattr(registry, "all_layouts", lambda: {"kind": old})
    hdf5.write(folder / "a.h5", "kind", {"width": [1, 2]}, **PROVENANCE)
    monkeypatch.setattr(registry, "all_layouts", lambda: {"kind": new})
    assert hdf5.read(folder / "a.h5", "kind")["width_px"].tolist() == [10, 20]
    assert hdf5.read(folder / "a.h5", fields=["width_px"])["width_px"].tolist() == [10, 20]
    assert validate(folder / "a.h5") == []
    with pytest.raises(hdf5.MissingItem, match="no dataset 'width'"):
        hdf5.read(folder / "a.h5", fields=["width"])
    with hdf5.open_artifact(folder / "a.h5") as artifact:
        assert not artifact.is_current and artifact["width"].tolist() == [1, 2]
    hdf5.write(folder / "b.h5", "kind", {"width_px": [1]}, **PROVENANCE)
    monkeypatch.setattr(registry, "all_layouts", lambda: {"kind": old})
    with pytest.raises(hdf5.WrongSchema, match="version 2, this package reads 1; update this package"):
        hdf5.read(folder / "b.h5")


def test_a_file_can_be_read_where_nothing_may_be_written(folder):
    path = write_sample(folder / "a.h5", "pairs")
    path.chmod(0o444)
    with hdf5.open_artifact(path), hdf5.open_artifact(path) as second:
        assert second["pairs/first"].tolist() == [0, 1]


VERSIONS = [
    (each.name, version)
    for each in registry.all_layouts().values()
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
    if version == registry.layout(name).version:
        expected = SAMPLES[name]()
        found = hdf5.read(path)
        assert sorted(found) == sorted(expected)
        assert all(
            np.array_equal(found[key], np.asarray(expected[key]), equal_nan=found[key].dtype.kind == "f")
            for key in found
        )
    else:
        assert hdf5.read(path)


def test_a_dataset_in_one_piece_is_mapped_and_outlives_the_file(tmp_path):
    path = write_sample(tmp_path / "a.h5", "search_index")
    with hdf5.open_artifact(path) as artifact:
        mapped = artifact.mapped("descriptors")
        with pytest.raises(hdf5.MissingItem, match="no dataset 'nothing'"):
            artifact.mapped("nothing")
    assert isinstance(mapped, np.memmap) and not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, SAMPLES["search_index"]()["descriptors"])


def test_a_compressed_dataset_is_not_mapped(tmp_path):
    rows = np.zeros((4096, 2), np.float64)
    path = write_sample(tmp_path / "a.h5", "whitening", mean=np.zeros(2), projection=rows, eigenvalues=None)
    with hdf5.open_artifact(path) as artifact, pytest.raises(DamagedArtifact, match="one uncompressed"):
        artifact.mapped("projection")


def test_what_is_mapped_is_never_compressed(tmp_path):
    rows = np.zeros((40_000, 3), np.float32)
    names = [str(number) for number in range(len(rows))]
    changes = {"photos/name": names, "photos/sha256": None, "descriptors": rows}
    path = write_sample(tmp_path / "a.h5", "search_index", **changes)
    with hdf5.open_artifact(path) as artifact:
        assert artifact.dataset("descriptors").chunks is None
        assert artifact.mapped("descriptors").shape == rows.shape
        assert artifact.validate() == []
