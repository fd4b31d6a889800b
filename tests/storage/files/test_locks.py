import logging
import os
import pickle
import signal
import threading
import time

import pytest

from storage.files.locks import FileLock, LockHeldHere, LockTimeout

HOLD = """
import sys, time
from storage.files.locks import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""
HOLD_WITH_CHILD = """
import os, sys, time
from storage.files.locks import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
child = os.fork()
if child == 0:
    time.sleep(60)
print(child, flush=True)
time.sleep(60)
"""
RELEASE_IN_CHILD = """
import multiprocessing, sys
from storage.files.locks import FileLock
with FileLock(sys.argv[1]) as lock:
    child = multiprocessing.get_context("fork").Process(target=lock.release)
    child.start()
    child.join(10)
    print(child.exitcode, FileLock(sys.argv[1]).try_acquire())
"""


def test_excludes_and_frees(tmp_path):
    first, second = FileLock(tmp_path / "l"), FileLock(tmp_path / "l")
    assert first.try_acquire()
    assert first.held
    assert not second.try_acquire()
    first.release()
    first.release()  # nothing to do
    assert second.try_acquire()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_timeout_names_the_holder(tmp_path):
    with (
        FileLock(tmp_path / "l"),
        pytest.raises(LockTimeout, match=rf"toy: after 0\.\d s still with process {os.getpid()}"),
    ):
        FileLock(tmp_path / "l", "toy").acquire(timeout_s=0.1)


def test_waiting_for_oneself_is_an_error_at_once(tmp_path):
    with FileLock(tmp_path / "l"), pytest.raises(LockHeldHere):
        FileLock(tmp_path / "l").acquire()


def test_threads_take_turns(tmp_path):
    inside, most, done = [], [], []

    def work() -> None:
        for _ in range(10):
            with FileLock(tmp_path / "l"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()
        done.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(done) == 4
    assert max(most) == 1


def test_acquired_in_one_thread_released_in_another(tmp_path):
    lock = FileLock(tmp_path / "l")
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    assert not FileLock(tmp_path / "l").try_acquire()
    lock.release()
    assert FileLock(tmp_path / "l").try_acquire()


def test_killed_holder_blocks_nobody(tmp_path, start_python):
    holder = start_python(HOLD, tmp_path / "l")
    assert holder.stdout.readline() == "held\n"
    assert not FileLock(tmp_path / "l").try_acquire()
    holder.kill()
    holder.wait()
    start = time.monotonic()
    FileLock(tmp_path / "l").acquire(timeout_s=5)
    assert time.monotonic() - start < 0.5


def test_forked_child_of_a_killed_holder_blocks_nobody(tmp_path, start_python):
    holder = start_python(HOLD_WITH_CHILD, tmp_path / "l")
    child = int(holder.stdout.readline())
    try:
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # it lives
        FileLock(tmp_path / "l").acquire(timeout_s=2)
    finally:
        os.kill(child, signal.SIGKILL)


def test_forked_child_does_not_free_its_parents_lock(tmp_path, start_python):
    """In an interpreter of its own: exit hooks of other libraries may end a forked child of this one."""
    parent = start_python(RELEASE_IN_CHILD, tmp_path / "l")
    said, _ = parent.communicate(timeout=30)
    exitcode, free = said.split()
    assert int(exitcode) == 0
    assert free == "False"


def test_waiter_says_for_whom_it_waits(tmp_path, start_python, caplog):
    caplog.set_level(logging.INFO, "storage.files.locks")
    holder = start_python(HOLD, tmp_path / "l")
    holder.stdout.readline()
    threading.Timer(1.0, holder.kill).start()
    FileLock(tmp_path / "l", "toy 1234").acquire()
    assert f"waiting for toy 1234, held by process {holder.pid}" in caplog.text


def test_pickled_lock_is_not_held(tmp_path):
    with FileLock(tmp_path / "l") as lock:
        assert not pickle.loads(pickle.dumps(lock)).held
