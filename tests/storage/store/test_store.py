import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from storage.files import whole as files
from storage.files.digests import file_sha256
from storage.hdf5 import file as hdf5
from storage.hdf5.digests import content_sha256
from storage.keys import artifacts
from storage.keys.artifacts import ArtifactRef, BrokenBuild
from storage.keys.keys import FORMAT_VERSION, stage_key
from storage.keys.stages import Stage
from storage.store.store import NoStore, Store


class Counted:
    """A build that writes text (or, with a dict, files in a folder) and counts its calls."""

    def __init__(self, content="hello", report=None) -> None:
        self.content, self.report, self.calls = content, report, 0

    def __call__(self, path: Path):
        self.calls += 1
        if isinstance(self.content, str):
            path.write_text(self.content)
        else:
            for name, text in self.content.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_text(text)
        return self.report


FOLDER = {"cameras.bin": "c", "sub/images.bin": "images"}


def flip(path: Path, keep_mtime: bool = False) -> None:
    """Flip one bit of one byte."""
    before = path.stat()
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(raw)
    if keep_mtime:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def settle() -> None:
    """Let the file system's clock tick, so that what was verified is believed by its mtime."""
    time.sleep(0.03)


def test_file_artifact_by_hand(store, file_stage, options):
    ref = store.produce(file_stage, options, ["a"], Counted("hello"))
    path = store.path(ref)
    key = stage_key(file_stage, options, ["a"])
    assert path.read_text() == "hello"
    assert ref == ArtifactRef(
        stage="toy",
        key=key,
        path=f"toy/{key[:16]}-{file_sha256(path)[:16]}.txt",
        file_sha256=file_sha256(path),
        content_sha256=content_sha256(path),
        bytes=5,
        schema=None,
    )
    assert ArtifactRef.model_validate_json(ref.model_dump_json()) == ref


def test_folder_artifact_by_hand(store, folder_stage, options):
    ref = store.produce(folder_stage, options, ["a"], Counted(FOLDER))
    path = store.path(ref)
    manifest = json.loads((path / "manifest.json").read_text())
    assert [(m["path"], m["bytes"], m["sha256"]) for m in manifest["files"]] == [
        (name, len(text), file_sha256(path / name)) for name, text in sorted(FOLDER.items())
    ]
    assert ref.bytes == 7
    assert ref.file_sha256 == file_sha256(path / "manifest.json")
    assert store.member_digest(ref, "sub/images.bin") == content_sha256(path / "sub/images.bin")
    (path / "manifest.json").unlink()
    assert ref.content_sha256 == content_sha256(path)  # the manifest is not part of the meaning
    with pytest.raises(KeyError, match="nothing"):
        store.member_digest(ref, "nothing")


def test_hdf5_artifact_is_checked(store, options):
    stage = Stage(name="whitening", schema_name="whitening", suffix=".h5")
    values = {"mean": np.zeros(2), "projection": np.eye(2), "eigenvalues": np.ones(2)}
    arrays = {name: value.astype(np.float32) for name, value in values.items()}

    def build(path: Path) -> None:
        hdf5.write(path, "whitening", arrays, stage="whitening", options={}, inputs=[])

    ref = store.produce(stage, options, [], build)
    assert ref.schema == "whitening"
    assert ref.path.endswith(".h5")
    with pytest.raises(BrokenBuild, match="a 'whitening' file, not 'scene'"):
        store.produce(stage.model_copy(update={"schema_name": "scene"}), options, [], build)
    with pytest.raises(BrokenBuild, match="not an HDF5 file"):
        store.produce(stage, options, ["other"], Counted("no"))
    assert [p.name for p in (store.root / "whitening").iterdir() if p.name.startswith(".")] == []


def test_second_time_is_found(store, file_stage, options):
    build = Counted()
    first = store.produce(file_stage, options, ["a"], build)
    assert store.produce(file_stage, options, ["a"], build) == first
    assert store.find("toy", first.key) == first
    assert store.find("toy", "0" * 64) is None
    assert store.find("other", first.key) is None
    assert build.calls == 1
    store.produce(file_stage, options, ["b"], build)
    store.produce(file_stage, options.model_copy(update={"size": 2.0}), ["a"], build)
    assert build.calls == 3


def test_sidecar_tells_where_it_comes_from(store, file_stage, folder_stage, options):
    source = store.produce(folder_stage, options, [], Counted(FOLDER))
    build = Counted(report={"sidecar": {"gpu_seconds": 2.5}})
    ref = store.produce(file_stage, options, [source.content_sha256], build, upstream=[source])
    sidecar = store.sidecar(ref)
    assert sidecar.ref == ref
    assert sidecar.upstream == (source,)
    assert sidecar.key_parts["inputs"] == [source.content_sha256]
    assert sidecar.facts == {"gpu_seconds": 2.5}
    assert sidecar.machine["python"]
    assert sidecar.seconds >= 0
    assert sidecar.created.tzinfo is not None


@pytest.mark.parametrize("keep_mtime", [False, True])
def test_flipped_byte_of_a_file_is_rebuilt(store, file_stage, options, keep_mtime):
    build = Counted()
    ref = store.produce(file_stage, options, [], build)
    settle()
    assert store.is_intact(ref)
    flip(store.path(ref), keep_mtime)
    assert not store.is_intact(ref, full=True)
    if keep_mtime:
        return
    assert not store.is_intact(ref)
    assert store.find("toy", ref.key) is None
    assert store.produce(file_stage, options, [], build) == ref
    assert build.calls == 2
    assert store.path(ref).read_text() == "hello"
    assert store.is_intact(ref, full=True)


@pytest.mark.parametrize("member", ["cameras.bin", "sub/images.bin", "manifest.json"])
def test_flipped_byte_of_a_member_is_rebuilt(store, folder_stage, options, member):
    build = Counted(FOLDER)
    ref = store.produce(folder_stage, options, [], build)
    settle()
    flip(store.path(ref) / member)
    assert not store.is_intact(ref)
    assert store.produce(folder_stage, options, [], build) == ref
    assert build.calls == 2
    assert store.is_intact(ref, full=True)


@pytest.mark.parametrize("member", ["", "sub/images.bin", "manifest.json"])
def test_deleted_is_rebuilt(store, folder_stage, options, member):
    build = Counted(FOLDER)
    ref = store.produce(folder_stage, options, [], build)
    settle()
    files.remove(store.path(ref) / member if member else store.path(ref))
    assert not store.is_intact(ref)
    assert store.produce(folder_stage, options, [], build) == ref
    assert build.calls == 2


def test_stray_file_in_a_folder_does_no_harm(store, folder_stage, options):
    ref = store.produce(folder_stage, options, [], Counted(FOLDER))
    (store.path(ref) / ".DS_Store").write_text("x")
    assert store.is_intact(ref)
    assert store.is_intact(ref, full=True)


def test_touched_but_equal_is_intact(store, file_stage, options):
    ref = store.produce(file_stage, options, [], Counted())
    os.utime(store.path(ref))
    assert store.is_intact(ref)


@pytest.mark.parametrize("rubbish", ["", "{", "[]", '{"files": 3}', "null", '{"sha256": 1}'])
def test_garbled_records_are_tolerated(store, file_stage, options, rubbish):
    build = Counted()
    ref = store.produce(file_stage, options, [], build)
    for path in [
        *(store.root / "verified").rglob("*.json"),
        *(store.root / "index" / "keys").rglob("*.json"),
    ]:
        path.write_text(rubbish)
    assert store.find("toy", ref.key) == ref
    assert build.calls == 1
    artifacts.sidecar_path(store.root, ref).write_text(rubbish)
    shutil.rmtree(store.root / "index")
    again = Store.open(store.root)
    assert again.produce(file_stage, options, [], build) == ref
    assert build.calls == 2


def test_force_builds_again_and_the_older_reference_stays(store, file_stage, options):
    first = store.produce(file_stage, options, [], Counted("one"))
    second = store.produce(file_stage, options, [], Counted("two"), force=True)
    assert first.key == second.key
    assert store.path(first).read_text() == "one"
    assert store.find("toy", first.key) == second
    assert store.is_intact(first)
    files.remove(store.path(second))
    assert store.find("toy", first.key) == first


def test_force_with_the_same_content_keeps_the_file(store, folder_stage, options):
    build = Counted(FOLDER)
    first = store.produce(folder_stage, options, [], build)
    inode = (store.path(first) / "cameras.bin").stat().st_ino
    assert store.produce(folder_stage, options, [], build, force=True) == first
    assert build.calls == 2
    assert (store.path(first) / "cameras.bin").stat().st_ino == inode


def test_moved_store_is_still_whole(store, file_stage, folder_stage, options, tmp_path):
    build, builds = Counted(), Counted(FOLDER)
    refs = [store.produce(file_stage, options, [], build), store.produce(folder_stage, options, [], builds)]
    shutil.move(store.root, tmp_path / "elsewhere")
    moved = Store.open(tmp_path / "elsewhere")
    assert [
        moved.produce(file_stage, options, [], build),
        moved.produce(folder_stage, options, [], builds),
    ] == refs
    assert (build.calls, builds.calls) == (1, 1)
    shutil.copytree(moved.root, tmp_path / "copy", copy_function=shutil.copyfile)  # new mtimes and inodes
    copied = Store.open(tmp_path / "copy")
    assert [copied.find(r.stage, r.key) for r in refs] == refs
    for path in moved.root.rglob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_two_stores_do_not_mix(tmp_path, file_stage, options):
    one, two = (Store.create(tmp_path / name, min_free_bytes=0) for name in ("one", "two"))
    ref = one.produce(file_stage, options, [], Counted())
    assert two.find("toy", ref.key) is None


def test_failed_build_leaves_nothing(store, file_stage, options):
    def build(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.produce(file_stage, options, [], build)
    assert list((store.root / "toy").iterdir()) == []
    assert list((store.root / "locks").iterdir()) == []


@pytest.mark.parametrize("step", ["write_sidecar", "add", "publish", "point"])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_crash_at_any_step_leaves_nothing_or_the_whole(store, options, monkeypatch, step, kind):
    stage = Stage(name="toy", kind=kind)
    build = Counted("hello" if kind == "file" else FOLDER)
    owner = {"write_sidecar": artifacts, "publish": files}.get(step, type(store.index))
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.produce(stage, options, [], build)
    key = stage_key(stage, options, [])
    whole = step == "point"  # published before
    assert (store.find("toy", key) is not None) == whole
    ref = store.produce(stage, options, [], build)
    assert build.calls == (1 if whole else 2)
    assert store.find("toy", key) == ref
    assert store.is_intact(ref, full=True)
    assert not list((store.root / "toy").glob(".*"))


@pytest.mark.parametrize(
    ("kind", "build", "message"),
    [
        ("file", lambda path: None, "left no file"),
        ("file", lambda path: path.mkdir(), "left no file"),
        ("directory", lambda path: path.rmdir(), "left no directory"),
        ("directory", lambda path: (path / "manifest.json").touch(), r"manifest\.json"),
        ("directory", lambda path: (path / "link").symlink_to("/etc/hosts"), "link"),
        ("file", lambda path: path.touch() or {"colour": 1}, "colour"),
        ("file", lambda path: path.write_text("x"), "returned 1, not a mapping"),
        ("file", lambda path: path.touch() or {"items": {"a": {"input": "x"}}}, "'a'"),
        ("file", lambda path: path.touch() or {"items": {"a": {"input": "x", "content": "y"}}}, "'a'"),
    ],
)
def test_broken_builds(store, options, kind, build, message):
    with pytest.raises(BrokenBuild, match=message):
        store.produce(Stage(name="toy", kind=kind), options, [], build)
    assert list((store.root / "toy").iterdir()) == []


def test_work_dir_lasts_until_the_build_succeeds(store, file_stage, options):
    key = stage_key(file_stage, options, [])

    def build(path: Path, fail: bool) -> None:
        checkpoint = store.work_dir(key) / "epoch"
        checkpoint.write_text(checkpoint.read_text() + "+" if checkpoint.exists() else "1")
        if fail:
            raise OSError("power")
        path.write_text(checkpoint.read_text())

    with pytest.raises(OSError, match="power"):
        store.produce(file_stage, options, [], lambda path: build(path, True))
    ref = store.produce(file_stage, options, [], lambda path: build(path, False))
    assert store.path(ref).read_text() == "1+"
    assert store.work_dir(key) == store.root / "work" / key


def test_builder_sees_the_suffix_and_the_lock(store, file_stage, options):
    def build(path: Path) -> None:
        assert path.suffix == ".txt"
        assert not store.lock(stage_key(file_stage, options, [])).try_acquire()
        path.touch()

    store.produce(file_stage, options, [], build)


def test_open_and_create(tmp_path):
    with pytest.raises(NoStore, match="store init"):
        Store.open(tmp_path)
    store = Store.create(tmp_path / "s", min_free_bytes=0)
    assert Store.create(tmp_path / "s") == store == Store.open(str(tmp_path / "s"))
    (tmp_path / "s" / "store.json").write_text(json.dumps({"format": FORMAT_VERSION + 1}))
    with pytest.raises(NoStore, match="update the package"):
        Store.open(tmp_path / "s")


def test_find_takes_less_than_a_millisecond(store, folder_stage, options):
    build = Counted({f"{i}.txt": "x" for i in range(20)})
    ref = store.produce(folder_stage, options, [], build)
    settle()
    store.find("toys", ref.key)
    settle()
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        assert store.find("toys", ref.key) == ref
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1e-3
