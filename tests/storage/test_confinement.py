"""What is read from sidecars, runs, manifests and lists never leads out of the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from storage.keys import artifacts
from storage.keys.artifacts import ArtifactRef, Sidecar
from storage.keys.stages import Stage
from storage.store import ledger, maintenance
from storage.store.store import NoStore, Store
from tests.storage.conftest import ToyOptions

KEY, DIGEST = "a" * 64, "b" * 64
OUTSIDE = [
    "../victim", "/etc/passwd", "toy/../../victim", "toy/../victim", "toy/a/b", "toy", "toy/", "toy/.",
    "toy/..", "other/x.h5", "toy/a\\..\\b", "toy/a\0b", "", "./toy/x", "toy//x",
]  # fmt: skip


def ref(**changed: object) -> ArtifactRef:
    values = {
        "stage": "toy", "key": KEY, "path": "toy/x.h5", "file_sha256": DIGEST, "content_sha256": DIGEST,
        "bytes": 1,
    }  # fmt: skip
    return ArtifactRef.model_validate(values | changed)


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leaves_its_stage_is_refused(path: str) -> None:
    ref()
    with pytest.raises(ValidationError, match="leaves the folder"):
        ref(path=path)


@pytest.mark.parametrize("key", ["", "../x", "A" * 64, "a" * 63, "a" * 65, "a" * 63 + "/", "a" * 64 + "\n"])
def test_a_key_is_64_digits(key: str) -> None:
    with pytest.raises(ValidationError, match="key"):
        ref(key=key)


@pytest.mark.parametrize("stage", ["..", "a/b", "", "runs", "work", "a\0", ".x", "../toy"])
def test_a_stage_is_one_name(stage: str) -> None:
    with pytest.raises(ValidationError):
        ref(stage=stage, path=f"{stage}/x.h5")


def made(store: Store, options: ToyOptions, stage: Stage) -> ArtifactRef:
    return store.produce(stage, options, ["in"], lambda out: out.write_text("x") and None)


def test_collecting_garbage_deletes_nothing_beside_the_store(
    store: Store, options: ToyOptions, file_stage: Stage, tmp_path: Path
) -> None:
    found = made(store, options, file_stage)
    victim = store.root.parent / "victim"
    victim.mkdir()
    (victim / "photo.jpg").write_text("mine")
    sidecar = artifacts.sidecar_path(store.root, found)
    facts = json.loads(sidecar.read_text())
    for number, path in enumerate(("../victim", str(victim), f"{found.stage}/../../victim")):
        facts["ref"]["path"] = path
        sidecar.with_name(f"{number}{sidecar.name}").write_text(json.dumps(facts))
    record = ledger.start(store, "c").finished("completed")
    ledger.save(store, record)
    forged = json.loads((store.root / "runs" / f"{record.id}.json").read_text())
    for number, change in enumerate(({"id": "../../victim/photo.jpg"}, {"refs": {"toy": facts["ref"]}})):
        (store.root / "runs" / f"forged{number}.json").write_text(json.dumps(forged | change))
    assert [each.id for each in ledger.records(store)] == [record.id]
    maintenance.gc(store, delete=True, keep_work_s=0)
    store.index.rebuild()
    maintenance.gc(store, delete=True, keep_work_s=0)
    assert (victim / "photo.jpg").read_text() == "mine"


def test_a_run_is_a_name(store: Store) -> None:
    for run in ("../x", "a/b", "..", "/etc/passwd"):
        with pytest.raises(ledger.UnknownRun):
            ledger.load(store, run)


def test_a_manifest_lists_members_below_its_folder(tmp_path: Path) -> None:
    facts = {"path": "a/b.txt", "bytes": 1, "sha256": DIGEST}
    for path, whole in (
        ("a/b.txt", True),
        ("../b.txt", False),
        ("/b.txt", False),
        (1, False),
        ("a/../b", False),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps({"files": [facts | {"path": path}]}))
        assert (artifacts.read_manifest(tmp_path) is not None) == whole


def test_a_store_whose_folder_is_a_link_is_refused(
    store: Store, options: ToyOptions, file_stage: Stage, tmp_path: Path
) -> None:
    made(store, options, file_stage)
    elsewhere = tmp_path / "elsewhere"
    (store.root / file_stage.name).rename(elsewhere)
    (store.root / file_stage.name).symlink_to(elsewhere)
    with pytest.raises(NoStore, match="is a link; a store holds its own folders"):
        Store.open(store.root)


def test_damaged_lists_of_items_are_no_items(store: Store, options: ToyOptions, file_stage: Stage) -> None:
    from storage.store import chunks

    found = made(store, options, file_stage)
    for text in (
        '{"a": 1}',
        '{"a": {"input": "x"}}',
        "[]",
        "[" * 100_000,
        '{"a": {"input": "x", "content": 1}}',
    ):
        artifacts.items_path(store.root, found).write_text(text)
        assert chunks.read(store.root, found) == {}


def test_a_sidecar_that_is_nested_without_end_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.sidecar.json").write_text("[" * 100_000)
    assert artifacts.read_sidecar(tmp_path / "x.sidecar.json") is None
    assert Sidecar.model_fields
