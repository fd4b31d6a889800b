"""HDF5 files are opened in one place and in one way: by threads side by side, and never while another program
writes to them."""

import ast
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import pytest

from storage.files.errors import DamagedArtifact, OpenElsewhere
from storage.hdf5 import file as hdf5
from storage.hdf5.access import open_file
from storage.hdf5.digests import content_sha256
from storage.inspect.describe import describe
from storage.keys.stages import Stage
from storage.store import maintenance
from tests.storage.layout_samples import write_sample

REPOSITORY = Path(__file__).resolve().parents[3]
PRODUCT = ("browse", "configs", "flows", "report", "retrieval", "sfm", "storage", "tasks", "benchmarks")
ONLY_HERE = Path("storage/hdf5/access.py")
WRITER = """
import sys, h5py
with h5py.File(sys.argv[1], "r+", locking=sys.argv[2] == "True") as file:
    print("open", flush=True)
    sys.stdin.read()
"""


def test_two_threads_of_one_process_read_and_digest_the_same_file(folder):
    """HDF5 refuses a second opening in one process that answers the question of locks otherwise."""
    path = write_sample(folder / "a.h5", "training_set")
    calm = content_sha256(path)
    is_open, digested = threading.Event(), threading.Event()

    def read() -> None:
        with hdf5.open_artifact(path):
            is_open.set()
            digested.wait(20)

    thread = threading.Thread(target=read)
    thread.start()
    assert is_open.wait(20)
    try:
        assert content_sha256(path) == calm
    finally:
        digested.set()
        thread.join()


def test_no_other_code_opens_hdf5():
    found = {}
    for package in PRODUCT:
        for path in (REPOSITORY / package).rglob("*.py"):
            places = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if opens_hdf5(node)]
            if places:
                found[path.relative_to(REPOSITORY)] = len(places)
    assert set(found) == {ONLY_HERE}


@pytest.mark.parametrize(
    ("source", "opens"),
    [
        ("h5py.File(path, 'r')", True),
        ("h5py.h5f.open(path)", True),
        ("from h5py import File", True),
        ("import h5py as h", True),
        ("import h5py._hl.files", True),
        ("functools.partial(h5py.File, path)", True),
        ("def read(file: h5py.File) -> h5py.File: isinstance(file, h5py.File)", False),
        ("file['a'], h5py.Group, h5py.h5o.get_info(group.id)", False),
    ],
)
def test_what_counts_as_opening(source, opens):
    assert any(opens_hdf5(node) for node in ast.walk(ast.parse(source))) == opens


def opens_hdf5(node: ast.AST) -> bool:
    """Whether a node calls h5py.File, hands it on, or gets at it under another name."""
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] == "h5py"
    if isinstance(node, ast.Import):
        return any(each.name != "h5py" or each.asname for each in node.names if "h5py" in each.name)
    if not isinstance(node, ast.Call):
        return False
    if ast.unparse(node.func) == "isinstance":
        return False
    given = [node.func, *node.args, *(each.value for each in node.keywords)]
    return any(ast.unparse(each) in ("h5py.File", "h5py.h5f.open", "h5py.h5f.create") for each in given)


@contextmanager
def open_for_writing(path: Path, locking: bool) -> Iterator[None]:
    """Another program has the file open while the block lasts."""
    command = [sys.executable, "-c", WRITER, str(path), str(locking)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        yield
        process.stdin.close()
    assert process.returncode == 0


@pytest.mark.parametrize("locking", [True, False])
def test_a_file_that_another_program_writes_to_is_named_as_such(folder, locking):
    path = write_sample(folder / "a.h5", "scene")
    before = path.read_bytes()
    message = r"a\.h5: another program has it open for writing; close it there"
    with open_for_writing(path, locking):
        for read in (open_file, hdf5.read, content_sha256):
            with pytest.raises(OpenElsewhere, match=message):
                read(path)
        assert ["another program" in each.message for each in describe(path).violations] == [True]
    assert path.read_bytes() == before
    hdf5.read(path)


def test_an_old_format_has_no_mark_and_its_lock_tells(folder):
    path = folder / "features.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file["x"] = 1
    with open_for_writing(path, True), pytest.raises(OpenElsewhere, match="another program"):
        open_file(path)
    with open_file(path) as one, open_file(path) as other:
        assert one["x"][()] == other["x"][()] == 1


def test_a_flipped_mark_is_damage(folder):
    path = write_sample(folder / "a.h5", "scene")
    content = bytearray(path.read_bytes())
    content[11] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DamagedArtifact, match="truncated or damaged"):
        open_file(path)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_an_artifact_that_another_program_writes_to_is_neither_made_again_nor_damaged(store, options, kind):
    """It may be whole again once it is closed: as here, where nothing was changed."""
    schema = "scene" if kind == "file" else None
    stage = Stage(name="scene", kind=kind, suffix=".h5" if kind == "file" else "", schema_name=schema)
    calls = []

    def build(path: Path) -> None:
        calls.append(path)
        write_sample(path if kind == "file" else path / "scene.h5", "scene")

    ref = store.produce(stage, options, [], build)
    file = store.path(ref) if kind == "file" else store.path(ref) / "scene.h5"
    time.sleep(0.03)
    with open_for_writing(file, True):
        with pytest.raises(OpenElsewhere, match="close it there"):
            store.produce(stage, options, [], build)
        (verdict,) = maintenance.verify(store)
        assert verdict.status == "open elsewhere"
    assert store.produce(stage, options, [], build) == ref
    assert len(calls) == 1
    assert [each.status for each in maintenance.verify(store)] == ["ok"]
