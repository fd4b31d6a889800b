"""What a run meets besides kills: a full disk, a read-only or vanished store, a second run, `gc`, the clock.

    python -m tests.crash.troubles [NAME ...] [--ground FOLDER] [--out benchmarks/results/crash/troubles.json]

Each begins on a store before a stage. The command may fail, with a line that says why and no traceback; then
the cause is taken away and it runs again, and what then is there is compared with an undisturbed run. What
this machine cannot do (mounting needs root, an odd clock the program faketime) is told as left out. The cells
lie in one JSON file, those that it has are not done again. Exit code 1 if something did not hold.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.acceptance_runs import CODE, Bench, Checks, command_line, sidecars
from benchmarks.cells import write_cell
from storage.files.whole import read_json
from tests.crash.ground import Ground, Run

LIMIT_S = 900.0
RESULTS = CODE / "benchmarks" / "results" / "crash"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
Wrong = list[str]


class LeftOut(Exception):
    """Something that this machine cannot be made to do."""


def full_disk(ground: Ground, name: str) -> Wrong:
    """A file system with hardly more room than the store before the stage needs."""
    wrong: Wrong = []
    for spare in (0, 1 << 20, 4 << 20):
        bench = ground.store_for("select", name)
        with small_disk(bench.store, spare):
            wrong += failed_well(Run(bench, "select"))
        wrong += afterwards(ground, bench, "select")
    return wrong


def file_size_limit(ground: Ground, name: str) -> Wrong:
    """No file may grow beyond a size: some of what the stage writes does not fit."""
    wrong: Wrong = []
    for most in (20_000, 200_000):
        bench = ground.store_for("reconstruct", name)

        def limit(most: int = most) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        wrong += failed_well(Run(bench, "reconstruct", preexec_fn=limit))
        wrong += afterwards(ground, bench, "reconstruct")
    return wrong


def read_only_store(ground: Ground, name: str) -> Wrong:
    """The store lies on a file system that is mounted for reading only, as a disk with errors is."""
    bench = ground.store_for("whiten", name)
    before = sidecars(bench.store)
    with read_only(bench.store):
        wrong = failed_well(Run(bench, "whiten"), must_fail=True)
    if sidecars(bench.store) != before:
        wrong.append("artifacts changed")
    return wrong + afterwards(ground, bench, "whiten")


def store_removed(ground: Ground, name: str) -> Wrong:
    """The whole store vanishes in the middle of the work."""
    bench = ground.store_for("select", name)
    run = Run(bench, "select")
    run.wait_for_work()
    aside = bench.store.with_name(f"{name}-gone")
    bench.store.rename(aside)
    wrong = failed_well(run)
    shutil.rmtree(bench.store, ignore_errors=True)
    aside.rename(bench.store)
    return wrong + afterwards(ground, bench, "select")


def two_runs(ground: Ground, name: str) -> Wrong:
    """The same command twice at a time."""
    bench = ground.store_for("reconstruct", name)
    one = Run(bench, "reconstruct")
    one.wait_for_work()
    other = Run(bench, "reconstruct")
    codes = [run.wait(LIMIT_S) for run in (one, other)]
    return [f"ended with {codes}: {other.last_words()}"] * (codes != [0, 0]) + afterwards(
        ground, bench, "reconstruct"
    )


def gc_during_a_run(ground: Ground, name: str) -> Wrong:
    """`store gc --delete`, again and again, while a run works."""
    bench = ground.store_for("select", name)
    run, refused, wrong = Run(bench, "select"), 0, list[str]()
    run.wait_for_work()
    while run.process.poll() is None:
        line = command_line(Path(os.devnull), ["store", "gc", str(bench.store), "--delete"])
        done = subprocess.run(line, cwd=bench.code, env=bench.variables(), capture_output=True, text=True)
        refused += done.returncode != 0
        if "Traceback" in done.stderr:
            wrong.append(f"gc: {done.stderr[-400:]}")
    if run.process.returncode:
        wrong.append(f"the run ended with {run.process.returncode}: {run.last_words()}")
    return wrong + afterwards(ground, bench, "select")


def clock_set_back(ground: Ground, name: str) -> Wrong:
    """The stage is computed a day before what it is computed from; then again with the right time."""
    if not Path(FAKETIME).is_file():
        raise LeftOut("it needs libfaketime: install faketime")
    bench = ground.store_for("whiten", name)
    odd = {"LD_PRELOAD": FAKETIME, "FAKETIME": "-1d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    odd["PYTHONPATH"] = os.pathsep.join([str(bench.code), str(Path(__file__).with_name("clock"))])
    run = Run(replace(bench, environment={**bench.environment, **odd}), "whiten")
    code = run.wait(LIMIT_S)
    wrong = [f"ended with {code}: {run.last_words()}"] if code else []
    return wrong + afterwards(ground, bench, "whiten")


TROUBLES: dict[str, Callable[[Ground, str], Wrong]] = {
    "full disk": full_disk,
    "file size limit": file_size_limit,
    "read-only store": read_only_store,
    "store removed": store_removed,
    "two runs": two_runs,
    "gc during a run": gc_during_a_run,
    "clock set back": clock_set_back,
}


def failed_well(run: Run, must_fail: bool = False) -> Wrong:
    """What is wrong with how a command ended that could not go on: in time, in words, all of it."""
    code = run.wait(LIMIT_S)
    wrong = ["did not end"] if code is None else []
    if must_fail and code == 0:
        wrong.append("ended well")
    if code and not run.last_words():
        wrong.append(f"ended with {code} and without a word")
    if "Traceback (most recent call last)" in run.output():
        wrong.append(f"a traceback: {run.last_words()}")
    if run.gone_after() == float("inf"):
        wrong.append("a process outlived the command")
    return wrong


def afterwards(ground: Ground, bench: Bench, stage: str) -> Wrong:
    """What is wrong once the command has run again, undisturbed."""
    done, again = sidecars(bench.store), Run(bench, stage)
    if code := again.wait(LIMIT_S):
        return [f"again: code {code}: {again.last_words()}"]
    again.gone_after()
    return ground.wrong_with(bench, stage, done)


@contextmanager
def read_only(store: Path) -> Iterator[None]:
    """Nothing in the store can be written to, not even by root, while the block lasts."""
    if subprocess.run(["mount", "--bind", store, store], capture_output=True).returncode:
        raise LeftOut("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", store], check=True)
        yield
    finally:
        subprocess.run(["umount", store], check=True)


@contextmanager
def small_disk(store: Path, spare: int) -> Iterator[None]:
    """A store on a file system of its own, in memory, with `spare` bytes of room; back on disk afterwards."""
    kept = store.with_name(f"{store.name}-kept")
    store.rename(kept)
    store.mkdir()
    size = sum(4096 + -(-path.lstat().st_size // 4096) * 4096 for path in kept.rglob("*")) + spare
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(store)]
    if subprocess.run(mount, capture_output=True).returncode:
        shutil.rmtree(store)
        kept.rename(store)
        raise LeftOut("a small file system cannot be mounted here")
    try:
        shutil.copytree(kept, store, dirs_exist_ok=True)
        yield
        shutil.rmtree(kept)
        shutil.copytree(store, kept)
    finally:
        subprocess.run(["umount", str(store)], check=True)
        shutil.rmtree(store)
        kept.rename(store)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What a run meets besides kills.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TROUBLES)}; none: all")
    parser.add_argument("--ground", type=Path, help="folder that is made once; none: a temporary one")
    parser.add_argument("--out", type=Path, default=RESULTS / "troubles.json")
    asked = parser.parse_args(arguments)
    checks, told = Checks(), read_json(asked.out) or {"cells": {}}
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        ground = Ground((asked.ground or Path(folder)).absolute())
        ground.prepare()
        for name in asked.names or TROUBLES:
            if name not in told["cells"]:
                told["cells"][name] = cell(ground, name)
                write_cell(asked.out, told)
            known = told["cells"][name]
            figures = "; ".join(known["wrong"]) or known["left_out"] or f"{known['seconds']:.0f} s"
            checks.add(name, not known["wrong"], figures)
    return checks.finish("troubles")


def cell(ground: Ground, name: str) -> dict[str, object]:
    """One trouble, judged."""
    began, left_out, wrong = time.monotonic(), "", list[str]()
    try:
        wrong = TROUBLES[name](ground, name.replace(" ", "-"))
    except LeftOut as reason:
        left_out = f"left out: {reason}"
    return {"seconds": time.monotonic() - began, "wrong": wrong, "left_out": left_out}


if __name__ == "__main__":
    sys.exit(main())
