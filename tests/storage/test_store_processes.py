"""Several processes and threads on one store, and processes that die."""

import json
import threading
import time

import pytest

from storage.keys.artifacts import ArtifactRef
from storage.keys.keys import stage_key
from storage.keys.options import Options
from storage.keys.stages import Stage

PRODUCE = """
import sys, time
from pathlib import Path
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store.store import Store

root, kind, seconds, *inputs = sys.argv[1], sys.argv[2], float(sys.argv[3]), *sys.argv[4:]
store = Store.open(root)

def build(path):
    with open(Path(root).parent / "calls", "a") as calls:
        calls.write("x")
    (path / "half" if path.is_dir() else path).write_text("half")
    print("building", flush=True)
    time.sleep(seconds)
    (path / "half" if path.is_dir() else path).write_text("whole")

ref = store.produce(Stage(name="toy", kind=kind), Options(), inputs, build)
print(ref.model_dump_json(), flush=True)
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_kill_in_the_middle_of_a_build(store, start_python, kind):
    builder = start_python(PRODUCE, store.root, kind, 60, "a")
    assert builder.stdout.readline() == "building\n"
    builder.kill()
    builder.wait()
    stage = Stage(name="toy", kind=kind)
    left = [path.name for path in (store.root / "toy").iterdir()]
    assert len(left) == 1 and left[0].startswith(".tmp-")
    assert store.find("toy", stage_key(stage, Options(), ["a"])) is None
    start = time.monotonic()
    ref = store.produce(stage, Options(), ["a"], lambda path: (path / "x" if path.is_dir() else path).touch())
    assert time.monotonic() - start < 1
    assert not list((store.root / "toy").glob(".*"))
    assert store.is_intact(ref, full=True)


def test_leftover_of_a_dead_builder_goes_with_the_next_build_of_the_stage(store, start_python):
    dead, alive = (start_python(PRODUCE, store.root, "file", 60, name) for name in ("dead", "alive"))
    for builder in (dead, alive):
        assert builder.stdout.readline() == "building\n"
    dead.kill()
    dead.wait()
    store.produce(Stage(name="toy"), Options(), ["mine"], lambda path: path.touch())
    (left,) = (store.root / "toy").glob(".tmp-*")
    assert stage_key(Stage(name="toy"), Options(), ["alive"]) in left.name
    assert left.read_text() == "half"


def test_two_processes_one_computes_and_the_other_waits(store, start_python):
    processes = [start_python(PRODUCE, store.root, "file", 0.7, "a") for _ in range(2)]
    outputs = [process.communicate(timeout=30)[0] for process in processes]
    refs = [ArtifactRef.model_validate_json(output.splitlines()[-1]) for output in outputs]
    assert refs[0] == refs[1]
    assert sorted(len(output.splitlines()) for output in outputs) == [1, 2]
    assert (store.root.parent / "calls").read_text() == "x"
    assert json.loads(outputs[0].splitlines()[-1])["stage"] == "toy"


def test_threads_share_one_build(store, file_stage, options):
    calls, refs = [], []

    def build(path):
        calls.append(1)
        time.sleep(0.1)
        path.write_text("x")

    threads = [
        threading.Thread(target=lambda: refs.append(store.produce(file_stage, options, [], build)))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(calls) == 1
    assert len(refs) == 5 and len(set(refs)) == 1


def test_different_keys_build_side_by_side(store, file_stage, options):
    barrier = threading.Barrier(2, timeout=10)
    refs = []

    def build(path):
        barrier.wait()  # passes only if both are building at once
        path.write_text("x")

    threads = [
        threading.Thread(target=lambda i=i: refs.append(store.produce(file_stage, options, [i], build)))
        for i in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(refs) == 2
