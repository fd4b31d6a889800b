"""A clock that is set, forwards or back: nothing is made again for it, nothing is believed for it."""

import os
import subprocess
import sys
import time
from datetime import timedelta

import psutil
import pytest

from storage.files.processes import started
from storage.keys import artifacts
from storage.photographs.scanning import scan
from storage.store import integrity, ledger, maintenance

HOUR_NS = 3600 * 10**9
DAY = timedelta(days=1)


def make(store, stage, options, text="hello"):
    def build(path):
        (path / "member" if path.is_dir() else path).write_text(text)

    return store.produce(stage, options, [text], build)


@pytest.fixture
def set_clock(monkeypatch):
    """Set the clock of the ledger and of what is verified by so much."""

    def by(change):
        real, real_ns = artifacts.now, time.time_ns
        monkeypatch.setattr(ledger, "now", lambda: real() + change)
        shift = int(change.total_seconds() * 10**9)
        monkeypatch.setattr(integrity.time, "time_ns", lambda: real_ns() + shift)

    return by


def test_the_latest_run_is_the_one_that_came_last(store, set_clock):
    first = ledger.start(store, "town").finished("completed")
    ledger.save(store, first)
    set_clock(-DAY)
    second = ledger.start(store, "town").finished("completed")
    ledger.save(store, second)
    third = ledger.start(store, "town").finished("completed")
    assert second.started < first.started and first.id < second.id < third.id
    assert ledger.latest(store) == second
    assert [record.id for record in ledger.records(store)] == [third.id, second.id, first.id]


def test_files_of_the_ledger_that_are_no_runs_have_no_time(store):
    for name in ("99999999T999999999999-abc.json", "2zzT-x.json", "99991231T235959999999-abcdef.json"):
        (store.root / "runs" / name).write_text("{}")
    assert ledger.start(store, "town").id[:2] == "20"


def test_a_run_does_not_end_before_it_begins(store, set_clock):
    record = ledger.start(store, "town")
    set_clock(-DAY)
    assert record.finished("completed").ended >= record.started


def test_a_process_is_the_same_after_the_clock_was_set(monkeypatch):
    """The kernel gives the time of the boot by the clock of now."""
    mine = started(os.getpid())
    import psutil._pslinux as linux

    real = linux.boot_time()
    monkeypatch.setattr(linux, "boot_time", lambda: real - 3600)
    assert psutil.Process(os.getpid()).create_time() < time.time() - 3000
    assert started(os.getpid()) == mine != ""


def test_a_living_run_is_alive_whatever_the_clock_says(store, monkeypatch):
    record = ledger.start(store, "town")
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 0.0)
    assert record.alive
    with pytest.raises(maintenance.StoreBusy):
        maintenance.gc(store, delete=True)


def test_processes_that_are_gone_and_numbers_used_again():
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    assert started(child.pid) not in ("", started(os.getpid()))
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert started(child.pid) == ""  # a zombie does nothing any more
    child.wait()
    assert started(child.pid) == "" and started(-1) == ""


@pytest.mark.parametrize("change", [-DAY, DAY])
def test_nothing_is_made_again(store, file_stage, folder_stage, options, set_clock, change):
    made = [make(store, stage, options) for stage in (file_stage, folder_stage)]
    time.sleep(0.03)
    assert all(store.is_intact(ref) for ref in made)
    set_clock(change)
    built = []
    for stage, ref in zip((file_stage, folder_stage), made, strict=True):
        assert store.produce(stage, options, ["hello"], built.append) == ref
    assert built == []


@pytest.mark.parametrize("change", [-DAY, DAY])
def test_what_changes_after_the_clock_was_set_is_seen(store, file_stage, options, set_clock, change):
    ref = make(store, file_stage, options)
    time.sleep(0.03)
    assert store.is_intact(ref)
    set_clock(change)
    path = store.path(ref)
    path.write_text("hullo")
    now = time.time_ns() + int(change.total_seconds()) * 10**9
    os.utime(path, ns=(now, now))
    assert not store.is_intact(ref)


def test_a_file_from_the_future_is_read_each_time(store, file_stage, options, monkeypatch):
    """Its mtime says nothing of a change made now, with a clock that may come by it once more."""
    ref = make(store, file_stage, options)
    path, ahead = store.path(ref), time.time_ns() + HOUR_NS
    os.utime(path, ns=(ahead, ahead))
    assert store.is_intact(ref)
    path.write_text("hullo")
    os.utime(path, ns=(ahead, ahead))
    assert not store.is_intact(ref)


def test_a_photograph_from_the_future_is_read_each_time(tmp_path):
    from PIL import Image

    photo, ahead = tmp_path / "photos" / "a.png", time.time_ns() + HOUR_NS
    photo.parent.mkdir()
    found = []
    for colour in (10, 200):
        Image.new("L", (64, 64), colour).save(photo, compress_level=0)
        os.utime(photo, ns=(ahead, ahead))
        found += scan(tmp_path / "photos", tmp_path / "scan.json").sha256
    assert found[0] != found[1]


def test_unfinished_work_from_the_future_is_kept(store):
    work = store.work_dir("f" * 64)
    (work / "checkpoint").write_text("x")
    ahead = time.time_ns() + HOUR_NS
    os.utime(work / "checkpoint", ns=(ahead, ahead))
    assert maintenance.gc(store, delete=True).others == ()
    assert (work / "checkpoint").exists()
