"""A child gives its reply, says why it failed, keeps its time limit and never outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sfm.childprocess import ChildFailed, run_child

CHILD = """
import os, sys, time
from sfm.childprocess import serve

def work(request, scratch):
    print("about to", request["do"], flush=True)
    if request["do"] == "abort":
        os.abort()
    if request["do"] == "fail":
        raise ValueError("7 is not a photograph")
    if request["do"] == "exit":
        os._exit(9)
    if request["do"] == "colmap":
        import pycolmap
        pycolmap.logging.info("hello from COLMAP")
        return {"log": (scratch / "log.txt").read_text()}
    if request["do"] == "sleep":
        (scratch.parent / "pid").write_text(str(os.getpid()))
        time.sleep(60)
    return {"threads": os.environ["OMP_NUM_THREADS"], "squares": [n * n for n in request["numbers"]]}

if __name__ == "__main__":
    serve(work)
"""


@pytest.fixture(autouse=True)
def child_module(tmp_path, monkeypatch):
    (tmp_path / "a_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def run(what: str, limit: float = 30.0, **more):
    return run_child("a_child", {"do": what, **more}, label="cluster 7", time_limit_s=limit)


def test_the_reply_comes_back_and_nothing_stays(tmp_path):
    reply = run_child(
        "a_child", {"do": "it", "numbers": [2, 3]}, label="x", time_limit_s=30, threads=3, scratch=tmp_path
    )
    assert reply == {"threads": "3", "squares": [4, 9]}
    assert [path.name for path in tmp_path.iterdir()] == ["a_child.py"]


def test_colmap_logs_to_the_child_alone(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))  # where glog would leave a file
    reply = run_child("a_child", {"do": "colmap"}, label="colmap", time_limit_s=60, scratch=tmp_path)
    assert "hello from COLMAP" in reply["log"]
    assert list(folder.iterdir()) == []


def test_an_error_in_the_child_is_told_with_the_name_of_the_work():
    with pytest.raises(ChildFailed, match="cluster 7: ValueError: 7 is not a photograph") as caught:
        run("fail")
    assert not caught.value.aborted


def test_an_abort_of_native_code_is_told_with_the_end_of_the_log():
    with pytest.raises(ChildFailed, match=r"(?s)cluster 7: .*SIGABRT.*about to abort") as caught:
        run("abort")
    assert caught.value.aborted


def test_an_unexplained_exit_is_an_error_too():
    with pytest.raises(ChildFailed, match="exit status 9") as caught:
        run("exit")
    assert caught.value.returncode == 9
    assert not caught.value.aborted


def test_at_the_time_limit_the_child_is_killed(tmp_path):
    started = time.monotonic()
    with pytest.raises(ChildFailed, match=r"(?s)cluster 7: .*limit of 1 s.*about to sleep"):
        run_child("a_child", {"do": "sleep"}, label="cluster 7", time_limit_s=1, scratch=tmp_path)
    assert time.monotonic() - started < 10
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_an_unknown_module_is_an_error():
    with pytest.raises(ChildFailed, match=r"(?s)exit status 1.*No module named"):
        run_child("sfm.no_such_step", {}, label="x", time_limit_s=30)


def test_the_child_ends_with_a_killed_parent(tmp_path):
    script = (
        "from pathlib import Path; from sfm.childprocess import run_child; "
        "run_child('a_child', {'do': 'sleep'}, label='x', time_limit_s=60, "
        f"scratch=Path({str(tmp_path)!r}))"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ["PYTHONPATH"]])}
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment)
    child = _wait_for_pid(tmp_path / "pid")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs([child], timeout=5)
    assert not alive
    assert list(tmp_path.glob("*child-*")) == []


def _wait_for_pid(path: Path) -> psutil.Process:
    for _ in range(300):
        if path.exists() and path.read_text():
            return psutil.Process(int(path.read_text()))
        time.sleep(0.1)
    raise AssertionError("the child never started")
