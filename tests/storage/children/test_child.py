"""A child gives its answer, says why it failed, keeps its limits and never outlives its parent."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from storage.children.child import Child, allow_children, call_here, cancel_children, run_child
from storage.children.errors import (
    ChildCancelled,
    ChildEnded,
    ChildFailed,
    ChildKilled,
    ChildLate,
    ChildOverMemory,
)
from storage.children.patience import run_patiently

HERE = "tests.storage.children.test_child"
ROOT = Path(__file__).resolve().parents[3]
LONG_S = 60.0


class OddError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)

    def __reduce__(self) -> Any:
        return OddError, (1,)


def squares(numbers: list[int], scratch: Path) -> dict[str, Any]:
    (scratch / "made").write_text("it")
    return {"threads": os.environ["OMP_NUM_THREADS"], "squares": [n * n for n in numbers], "at": scratch}


def pid() -> int:
    return os.getpid()


def has(module: str) -> tuple[int, bool]:
    return os.getpid(), module in sys.modules


def counting(count: int, progress: Callable[[int, int], None]) -> int:
    for done in range(count):
        progress(done + 1, count)
    return count


def print_and(what: str, watch: Callable[[str], None]) -> None:
    print("about to", what, flush=True)
    watch("here")
    if what == "abort":
        os.abort()
    if what == "fail":
        raise FileNotFoundError("7 is not a photograph")
    if what == "fail oddly":
        raise OddError(1, 2)
    if what == "exit":
        os._exit(9)
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    signal.pause()


def killed_at_first(place: Path) -> str:
    if not place.exists():
        place.write_text("once")
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def colmap_log() -> None:
    import pycolmap

    pycolmap.logging.info("hello from COLMAP")
    os._exit(2)


def twice(rows: np.ndarray) -> np.ndarray:
    return rows * 2


def take(size: int) -> int:
    return len(bytearray(size))


def stay(place: Path, scratch: Path, holding: bool, watch: Callable[[str], None]) -> None:
    """Never end, with a process below; holding: no thread of Python's runs meanwhile."""
    below = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    place.write_text(f"{os.getpid()} {below.pid}")
    while True:
        (ctypes.PyDLL(None) if holding else ctypes.CDLL(None)).sleep(100)


def test_the_answer_comes_back_and_nothing_stays(tmp_path: Path) -> None:
    found = run_child(f"{HERE}:squares", [2, 3], label="x", threads=3, scratch=tmp_path)
    assert found["at"].parent == tmp_path
    assert found | {"at": None} == {"threads": "3", "squares": [4, 9], "at": None}
    assert list(tmp_path.iterdir()) == []


def test_one_process_for_many_calls_until_it_is_closed() -> None:
    with Child() as child:
        first = child.call(f"{HERE}:pid", time_limit_s=LONG_S)
        assert first == child.call(f"{HERE}:pid") == child.pid != os.getpid()
        child.close()
        assert not psutil.pid_exists(first)
        assert child.call(f"{HERE}:pid") != first
        again = child.pid
    assert again is not None and not psutil.pid_exists(again)


def test_news_come_in_order_before_the_answer() -> None:
    news: list[tuple[int, int]] = []
    with Child() as child:
        assert child.call(f"{HERE}:counting", 3, on_news=lambda *each: news.append(each)) == 3
        assert call_here(f"{HERE}:counting", 1, on_news=lambda *each: news.append(each)) == 1
        assert child.call(f"{HERE}:counting", 1) == 1  # nobody listens
    assert news == [(1, 3), (2, 3), (3, 3), (1, 1)]


def test_large_arrays_come_and_go_without_a_pickle_of_them() -> None:
    rows = np.arange(5_000_000, dtype=np.float64).reshape(1000, 5000)
    with Child() as child:
        found = child.call(f"{HERE}:twice", rows)
        np.testing.assert_array_equal(found, rows * 2)
        found[0, 0] = 7  # it is the caller's own
        assert child.call(f"{HERE}:twice", rows[::2, ::3]).shape == (500, 1667)
        assert child.call(f"{HERE}:twice", np.empty((0, 4))).shape == (0, 4)


def test_what_is_printed_is_no_answer_and_colmap_logs_to_the_child_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where glog would leave a file
    with pytest.raises(ChildEnded, match=r"(?s)exit status 2.*hello from COLMAP"):
        run_child(f"{HERE}:colmap_log", label="colmap", scratch=False)
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_its_class_and_is_told_with_the_name_of_the_work() -> None:
    with Child("cluster 7") as child:
        with pytest.raises(FileNotFoundError, match=r"^cluster 7: 7 is not a photograph$"):
            child.call(f"{HERE}:print_and", "fail")
        with pytest.raises(RuntimeError, match=r"^cluster 7: OddError: \(1, 2\)$"):
            child.call(f"{HERE}:print_and", "fail oddly")
        assert child.call(f"{HERE}:counting", 1) == 1


@pytest.mark.parametrize(("what", "name"), [("abort", "SIGABRT"), ("crash", "SIGSEGV")])
def test_an_abort_of_native_code_is_told_with_the_end_of_the_log(what: str, name: str) -> None:
    with pytest.raises(ChildKilled, match=rf"(?s)^cluster 7: .*{name}.*about to {what}") as caught:
        run_child(f"{HERE}:print_and", what, label="cluster 7")
    assert caught.value.crashed and caught.value.signal == name and caught.value.at == "here"


def test_a_kill_from_outside_is_no_crash() -> None:
    child = Child("cluster 7")

    def kill(_: str) -> None:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(ChildKilled, match=r"SIGKILL.*memory") as caught:
        child.call(f"{HERE}:print_and", "wait", on_news=kill)
    assert not caught.value.crashed


def test_an_unexplained_exit_is_an_error_too() -> None:
    with pytest.raises(ChildEnded, match=r"exit status 9") as caught:
        run_child(f"{HERE}:print_and", "exit", label="x")
    assert caught.value.status == 9


def test_at_a_time_limit_the_child_is_killed(tmp_path: Path) -> None:
    with pytest.raises(ChildLate, match=r"(?s)cluster 7: .*limit of 0.5 s.*about to wait") as late:
        run_child(f"{HERE}:print_and", "wait", label="cluster 7", total_limit_s=0.5, scratch=tmp_path)
    assert late.value.at in ("", "here")
    assert list(tmp_path.iterdir()) == []
    with Child() as child, pytest.raises(ChildLate, match=r"no progress within 0\.5 s"):
        child.call(f"{HERE}:print_and", "wait", time_limit_s=0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's limit on a process's own memory")
def test_at_the_memory_limit_the_call_ends_and_the_process_goes_on() -> None:
    with Child("a file") as child:
        assert child.call(f"{HERE}:take", 50 << 20, memory_limit_bytes=100 << 20) == 50 << 20
        with pytest.raises(ChildOverMemory, match=r"^a file: .*more memory than 100 MiB"):
            child.call(f"{HERE}:take", 200 << 20, memory_limit_bytes=100 << 20)
        assert child.call(f"{HERE}:take", 200 << 20) == 200 << 20  # a limit is of one call


@pytest.mark.parametrize("function", ["sfm.no_such_step:go", "storage.children.child:no_such_function"])
def test_an_unknown_function_is_an_error(function: str) -> None:
    with pytest.raises((ModuleNotFoundError, AttributeError), match=r"no_such"):
        run_child(function, label="x")


@pytest.mark.parametrize("why", [KeyboardInterrupt, BrokenPipeError])
def test_an_interrupted_call_leaves_no_answer_behind(why: type[BaseException]) -> None:
    """BrokenPipeError: whoever read the progress has gone; the process itself is well."""

    def interrupt(_: str) -> None:
        raise why

    with Child() as child:
        with pytest.raises(why):
            child.call(f"{HERE}:print_and", "wait", on_news=interrupt)
        assert child.call(f"{HERE}:pid") == child.call(f"{HERE}:pid")


def test_calls_from_several_threads_come_one_by_one() -> None:
    found: list[int] = []
    with Child() as child:
        threads = [threading.Thread(target=lambda: found.append(child.call(f"{HERE}:pid"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 4 and len(set(found)) == 1


def test_prepared_it_takes_the_first_call_and_in_vain_it_ends() -> None:
    child = Child()
    child.prepare("fractions", idle_s=LONG_S)
    started = child.pid
    assert child.call(f"{HERE}:has", "fractions") == (started, True)
    child.prepare("fractions", idle_s=0.0)
    assert child._timer is not None
    child._timer.join(LONG_S)
    assert child.pid is None


def test_it_ends_when_idle() -> None:
    child = Child(idle_s=0.0)
    first = psutil.Process(child.call(f"{HERE}:pid"))
    psutil.wait_procs([first], timeout=LONG_S)
    assert not first.is_running()


def test_errors_can_be_sent_on() -> None:
    import pickle

    with pytest.raises(ChildKilled) as caught:
        run_child(f"{HERE}:print_and", "abort", label="cluster 7")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.at, again.number) == (str(caught.value), "here", signal.SIGABRT)


def test_a_killed_child_is_tried_once_more(tmp_path: Path) -> None:
    assert run_patiently(f"{HERE}:killed_at_first", tmp_path / "flag", label="x") == "done"
    with pytest.raises(ChildKilled):
        run_patiently(f"{HERE}:print_and", "abort", label="x")


def test_calls_can_be_cancelled_from_another_thread() -> None:
    children, failed = [Child(str(number)) for number in range(2)], list[str]()
    begun = threading.Semaphore(0)

    def wait(child: Child) -> None:
        try:
            child.call(f"{HERE}:print_and", "wait", on_news=lambda _: begun.release())
        except ChildCancelled as error:
            failed.append(error.label)

    threads = [threading.Thread(target=wait, args=(child,)) for child in children]
    for thread in threads:
        thread.start()
        assert begun.acquire(timeout=LONG_S)
    children[0].cancel()
    threads[0].join(LONG_S)
    assert failed == ["0"]
    cancel_children()
    try:
        threads[1].join(LONG_S)
        assert failed == ["0", "1"]
        with pytest.raises(ChildCancelled):
            children[0].call(f"{HERE}:pid")
    finally:
        allow_children()
    assert children[0].call(f"{HERE}:pid") > 0
    children[0].close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("holding", [False, True])
def test_the_child_and_all_below_it_end_with_a_killed_parent(
    tmp_path: Path, number: int, holding: bool
) -> None:
    """holding: native code holds the interpreter, as the HDF5 library does on some damaged files."""
    script = (
        "from pathlib import Path; from storage.children.child import run_child; "
        f"run_child('{HERE}:stay', Path({str(tmp_path / 'pids')!r}), holding={holding}, label='x', "
        f"scratch=Path({str(tmp_path)!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    family = _wait_for_pids(tmp_path / "pids")
    parent.send_signal(number)
    parent.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    if not holding:
        assert list(tmp_path.glob("*child-*")) == []


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    with pytest.raises(ChildLate):
        run_child(f"{HERE}:stay", tmp_path / "pids", holding=False, label="x", total_limit_s=3)
    _, alive = psutil.wait_procs(_wait_for_pids(tmp_path / "pids"), timeout=10)
    assert not alive


def _wait_for_pids(path: Path) -> list[psutil.Process]:
    for _ in range(600):
        if path.exists() and len(path.read_text().split()) == 2:
            found = []
            for number in path.read_text().split():
                try:
                    found.append(psutil.Process(int(number)))
                except psutil.NoSuchProcess:
                    continue
            return found
        time.sleep(0.1)
    raise AssertionError("the child never started")


def test_every_failure_is_a_child_failed() -> None:
    kinds = (ChildKilled, ChildEnded, ChildLate, ChildOverMemory, ChildCancelled)
    assert all(issubclass(kind, ChildFailed) for kind in kinds)
