"""`export` on a store with a small mapped run: what comes out, and what is refused in one line."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pycolmap
import pytest
from typer.testing import CliRunner

from flows.cli import common, main
from sfm.selection.choosing import SelectionOptions, select
from sfm.training_set.training_set import TrainingSet
from storage.keys.artifacts import ArtifactRef
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import ledger
from storage.store.store import Store
from tests.sfm.conftest import scene_of, wall
from tests.sfm.exported_scenes import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def photos(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for sha, name in world.name_of.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(world.working[sha] / f"{sha}.jpg", folder / name)
    return folder


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for console in (common.out, common.err):
        monkeypatch.setattr(console, "_width", 250)


def put(
    store: Store, name: str, source: Path, items: Mapping[str, Path] | tuple[str, ...] = ()
) -> ArtifactRef:
    """An artifact that is a copy of a file or folder."""

    def build(out: Path) -> dict[str, Any]:
        shutil.copytree(source, out, dirs_exist_ok=True) if source.is_dir() else shutil.copyfile(source, out)
        return {"items": {item: {"input": "0" * 64, "content": "0" * 64} for item in items}}

    stage = Stage(name=name, kind="directory") if source.is_dir() else Stage(name=name, suffix=source.suffix)
    return store.produce(stage, Options(), [str(source)], build)


@pytest.fixture
def store(world: World, photos: Path, tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store", min_free_bytes=0)
    world.scene.to_h5(tmp_path / "scene.h5")
    refs = {
        "scene": put(store, "scene", tmp_path / "scene.h5"),
        "mapping": put(store, "mapping", world.mapped),
        "working": put(store, "working", next(iter(world.working.values())), world.working),
        "features": put(store, "features", next(iter(world.features.values())), world.features),
        "proposal_descriptors": put(
            store, "descriptors", next(iter(world.descriptors.values())), world.descriptors
        ),
        "matches": put(store, "matches", world.matches),
    }
    record = ledger.start(store, "photos", resources={"photos": str(photos)}, refs=refs)
    ledger.save(store, record.finished("completed"))
    return store


def call(store: Store, *arguments: object) -> Any:
    return CliRunner().invoke(main.app, ["export", "--store", str(store.root), *map(str, arguments)])


def test_colmap_and_hloc_at_once(store: Store, world: World, tmp_path: Path) -> None:
    result = call(store, "--colmap", tmp_path / "c", "--database", "--hloc", tmp_path / "h")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"3D models, 1: {tmp_path}/c",
        f"6 photographs, 7 verified pairs: {tmp_path}/h",
    ]
    model = pycolmap.Reconstruction(tmp_path / "c" / "sparse" / "0")
    assert {image.name for image in model.images.values()} < set(world.name_of.values()) | {"dir/y.png.jpg"}
    assert (tmp_path / "c" / "database.db").is_file()
    assert len((tmp_path / "h" / "pairs.txt").read_text(encoding="utf-8").splitlines()) == 7
    assert {path.name for path in tmp_path.iterdir()} >= {"c", "h"}
    assert not [path for path in tmp_path.iterdir() if "unfinished" in path.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to export; give --colmap DIR, --hloc DIR, --cirtorch DIR, --onnx DIR or"),
        (["--database", "--hloc", "x"], "--database is a part of --colmap"),
        (["--colmap", "."], "is there already; give a folder that is new or empty"),
        (["--colmap", "x", "--run", "nowhere"], "run 'nowhere' is not in"),
        (["--colmap", "x", "--images", "mirror"], "mirror"),
        (["--cirtorch", "x"], "has no intact training_set; run as far as select first"),
        (["--onnx", "x"], "has no intact finetune; run as far as finetune first"),
        (["--safetensors", "x", "--network", "off-the-shelf"], "has no intact network"),
        (["--onnx", "x", "--dimensions", "8"], "--dimensions 8 needs --whitening lw or pcaw"),
        (["--onnx", "x", "--whitening", "full"], "full"),
    ],
)
def test_wrong_usage_is_2(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(store, *arguments)
    assert result.exit_code == 2
    assert message in result.output and "Traceback" not in result.output
    assert not (tmp_path / "x").exists()


def test_a_damaged_run_is_refused(store: Store, tmp_path: Path) -> None:
    (ref,) = ledger.load(store, "latest").refs_of("features")
    store.path(ref).unlink()
    result = call(store, "--hloc", tmp_path / "x")
    assert result.exit_code == 2
    assert f"{ref.path} of run" in result.output and "missing or damaged" in result.output


def test_a_failed_write_is_1_and_one_line(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is named that was written to, by an error that does not name a file."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "x"
    monkeypatch.setattr("flows.serving.export.export_hloc", full)
    monkeypatch.setattr("flows.terminal.failures._free", lambda path: 2.0**21 if path == out else 1e12)
    monkeypatch.setattr(Path, "is_mount", lambda self: self == tmp_path)
    result = call(store, "--hloc", out)
    line = f"error: no space left on {str(tmp_path)!r} (2.0 MiB free): make room, "
    line += "then run the same command again; what was finished is kept\n"
    assert (result.exit_code, result.output) == (1, line)
    assert {path.name for path in tmp_path.iterdir()} == {"store", "scene.h5"}


def with_training_set(store: Store, tmp_path: Path, photos: Path) -> TrainingSet:
    walls = {f"place{p}": wall(6, prefix=f"p{p}_") for p in range(4)}
    chosen = select(scene_of(walls), SelectionOptions(query_fraction=0.5))
    chosen.to_h5(tmp_path / "training_set.h5")
    record = ledger.load(store, "latest")
    photos.mkdir()
    for name in chosen.images.name:
        (photos / str(name)).write_bytes(str(name).encode())
    refs = {"training_set": put(store, "training_set", tmp_path / "training_set.h5")}
    changed = record.model_copy(update={"resources": {"photos": str(photos)}})
    ledger.save(store, changed.with_refs(refs))
    return chosen


def test_cirtorch_has_the_list_and_every_image(store: Store, tmp_path: Path) -> None:
    chosen = with_training_set(store, tmp_path, tmp_path / "walls")
    result = call(store, "--cirtorch", tmp_path / "ct")
    assert result.exit_code == 0, result.output
    back = TrainingSet.from_cirtorch(tmp_path / "ct" / "retrieval-SfM.pkl")
    names = dict(zip(chosen.images.sha256.tolist(), chosen.images.name.tolist(), strict=True))
    for sha, path in zip(back.images.sha256.tolist(), back.images.name.tolist(), strict=True):
        assert (tmp_path / "ct" / "ims" / str(path)).read_bytes() == names[sha].encode()
    assert len(back.images.name) >= 12


def test_cirtorch_names_a_photograph_that_changed_or_is_gone(store: Store, tmp_path: Path) -> None:
    chosen = with_training_set(store, tmp_path, tmp_path / "walls")
    gone = next(n for n, split in zip(chosen.images.name, chosen.images.split, strict=True) if split == 0)
    (tmp_path / "walls" / str(gone)).write_text("another")
    assert f"'{gone}' is no longer the photograph" in call(store, "--cirtorch", tmp_path / "ct").output
    (tmp_path / "walls" / str(gone)).unlink()
    result = call(store, "--cirtorch", tmp_path / "ct")
    assert result.exit_code == 2
    assert f"'{gone}' cannot be read any more" in result.output and not (tmp_path / "ct").exists()
