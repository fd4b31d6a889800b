import subprocess
import warnings

import pytest
from pydantic import ValidationError

from storage.files.digests import json_sha256, relative_files
from storage.keys import artifacts
from storage.keys.artifacts import (
    ArtifactRef,
    BrokenBuild,
    items_digest,
    read_manifest,
    read_sidecar,
    write_manifest,
)

REF = {
    "stage": "scene",
    "key": "a" * 64,
    "path": "scene/aaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb.h5",
    "file_sha256": "c" * 64,
    "content_sha256": "b" * 64,
    "bytes": 3,
    "schema": "scene",
}


def test_reference_is_frozen_json_both_ways_and_hashable():
    ref = ArtifactRef(**REF)
    assert ref.model_dump() == REF
    assert ref.schema == "scene"
    assert ref.name == "aaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb"
    assert ArtifactRef.model_validate_json(ref.model_dump_json()) == ref
    assert len({ref, ArtifactRef(**REF)}) == 1
    with pytest.raises(ValidationError):
        ref.key = "x"
    with pytest.raises(ValidationError):
        ArtifactRef(**{**REF, "colour": "red"})


def test_declaring_it_warns_nobody(start_python):
    child = start_python(
        "import warnings; warnings.simplefilter('error'); import storage.keys.artifacts; print('fine')"
    )
    assert child.communicate(timeout=30)[0] == "fine\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ArtifactRef(**REF).model_dump_json()


def test_nothing_heavy_is_imported(start_python):
    source = (
        "import sys, storage.store.store, storage.store.ledger, storage.photographs.scanning\n"
        "import storage.store.maintenance\n"
        "print([m for m in ('torch', 'pycolmap', 'prefect', 'h5py', 'faiss', 'pandas') if m in sys.modules])"
    )
    assert start_python(source).communicate(timeout=30)[0] == "[]\n"


def test_manifest(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "b").write_text("bb")
    (folder / "a").write_text("a")
    digest, content, size = write_manifest(folder)
    assert size == 3
    assert [member["path"] for member in read_manifest(folder)] == ["a", "sub/b"]
    assert [digest, content] != [content, digest]
    assert list(relative_files(folder)) == ["a", "manifest.json", "sub/b"]
    with pytest.raises(BrokenBuild, match=r"manifest\.json"):
        write_manifest(folder)


@pytest.mark.parametrize("rubbish", ["", "[]", "{}", '{"files": 1}', '{"files": [{"path": "a"}]}'])
def test_damaged_manifest_and_sidecar(tmp_path, rubbish):
    (tmp_path / "manifest.json").write_text(rubbish)
    assert read_manifest(tmp_path) is None
    assert read_sidecar(tmp_path / "manifest.json") is None
    assert read_sidecar(tmp_path / "nowhere") is None


def test_items_digest_does_not_depend_on_order():
    assert (
        items_digest({"b": "2", "a": "1"})
        == items_digest({"a": "1", "b": "2"})
        == json_sha256([["a", "1"], ["b", "2"]])
    )
    assert items_digest({"a": "2", "b": "1"}) != items_digest({"a": "1", "b": "2"})


def test_git_revision(tmp_path, monkeypatch):
    (tmp_path / "storage" / "keys").mkdir(parents=True)
    monkeypatch.setattr(artifacts, "__file__", str(tmp_path / "storage" / "keys" / "artifacts.py"))
    artifacts.git_revision.cache_clear()
    try:
        assert artifacts.git_revision() is None
        git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
        (tmp_path / "x").write_text("1")
        for command in (["init", "-q"], ["add", "x"], ["commit", "-qm", "x"]):
            subprocess.run([*git, *command], check=True)
        artifacts.git_revision.cache_clear()
        clean = artifacts.git_revision()
        assert len(clean) == 40
        (tmp_path / "x").write_text("2")
        artifacts.git_revision.cache_clear()
        assert artifacts.git_revision() == f"{clean}+"
    finally:
        artifacts.git_revision.cache_clear()
