"""What a crash campaign stands on: a small town, undisturbed runs of each stage, stores before each stage.

Made once per folder and found again. A store for a disturbed run is a copy by hard links of the store before
its stage: artifacts and small files are replaced in one step, never written to; what is written to in place
(Prefect's database, unfinished work) is copied, locks are left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.acceptance_runs import (
    MINUTE_SETS,
    Bench,
    command_line,
    content_digests,
    copy_code,
    differing,
    item_contents,
    latest_record,
    sidecars,
    small_town,
)
from flows.options.stages import STAGES
from storage.store import maintenance
from storage.store.store import Store
from tests.crash.steps import is_left

SETS = (*MINUTE_SETS, "training.epochs=2")
TOWN = {"buildings": 3, "views": 4, "singles": 2}
"""The smallest that every stage has something to do for."""
WRITTEN_IN_PLACE = ("prefect", "work")
CHUNKED = ("working", "proposal_descriptors", "features", "matches", "guard_matches", "descriptors")
"""Names of a run's artifacts that hold items, however these are grouped."""
GONE_S = 10.0
"""By then no process of an ended command may live, s."""


@dataclass(frozen=True)
class Calm:
    """An undisturbed run up to a stage. seconds: from its first lock to its end; children: that it has."""

    seconds: float
    contents: dict[str, list[str]]
    items: dict[str, dict[str, str]]
    children: list[str] = field(default_factory=list)
    work: list[str] = field(default_factory=list)


class Ground:
    """A folder with the town, a copy of the code, a store before each stage, and what is undisturbed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.bench = Bench(
            folder / "photos", folder / "calm", SETS, folder / "code", {"TMPDIR": str(self.temporary)}
        )
        self.calm: dict[str, Calm] = {}

    def prepare(self) -> None:
        """Make what is not there yet."""
        if not (self.folder / "photos").is_dir():
            self.temporary.mkdir(parents=True, exist_ok=True)
            small_town(self.folder / "photos.partial", **TOWN).rename(self.folder / "photos")
            copy_code(self.folder / "code")
        for stage in STAGES:
            told = self.folder / f"{stage}.json"
            if not told.exists():
                shutil.rmtree(self.before(stage), ignore_errors=True)
                if stage == STAGES[0]:
                    Store.create(self.before(stage), min_free_bytes=0)
                else:
                    link_store(self.bench.store, self.before(stage))
                shutil.rmtree(self.bench.store, ignore_errors=True)
                link_store(self.before(stage), self.bench.store)
                told.write_text(json.dumps(asdict(self.undisturbed(stage))))
            self.calm[stage] = Calm(**json.loads(told.read_text()))

    def before(self, stage: str) -> Path:
        return self.folder / f"before-{stage}"

    def undisturbed(self, stage: str) -> Calm:
        run, children = Run(self.bench, stage), set[str]()
        run.wait_for_work()
        began = time.monotonic()
        while run.process.poll() is None:
            children |= {name_of(each) for each in run.children()}
            time.sleep(0.1)
        if run.process.returncode:
            raise RuntimeError(
                f"undisturbed {stage} ended with {run.process.returncode}: {run.output()[-2000:]}"
            )
        seconds = time.monotonic() - began
        record = latest_record(self.bench.store)
        assert record is not None
        found = content_digests(record), item_contents(self.bench.store, record)
        return Calm(seconds, *found, sorted(children), names_in(self.bench.store / "work"))

    def store_for(self, stage: str, name: str) -> Bench:
        """A bench on a fresh store before a stage."""
        store = self.folder / "stores" / name
        shutil.rmtree(store, ignore_errors=True)
        link_store(self.before(stage), store)
        return replace(self.bench, store=store)

    def wrong_with(self, bench: Bench, stage: str, done: dict[str, str]) -> list[str]:
        """What is not as after an undisturbed run. done: artifacts that were there before it went on."""
        calm, record = self.calm[stage], latest_record(bench.store)
        if record is None:
            return ["no completed run"]
        other = [n for n in differing(content_digests(record), calm.contents) if n not in CHUNKED]
        other += differing(item_contents(bench.store, record), calm.items)
        wrong = [f"other content: {name}" for name in other]
        now = sidecars(bench.store)
        wrong += [f"made again: {path}" for path in done if now.get(path) != done[path]]
        verdicts = maintenance.verify(Store.open(bench.store))
        wrong += [f"{each.status}: {each.path}" for each in verdicts if each.status != "ok"]
        wrong += [f"process left: {each.pid} {name_of(each)}" for each in processes_of(bench.store)]
        wrong += [f"left: {path}" for path in left_in(bench.store)]
        wrong += [f"left: work/{name}" for name in names_in(bench.store / "work") if name not in calm.work]
        return wrong + [
            f"left: {name} in TMPDIR" for name in names_in(self.temporary) if "retrieval-sfm" in name
        ]


class Run:
    """The command up to a stage, in a session of its own; its output goes to a file beside the store."""

    def __init__(self, bench: Bench, stage: str, **how: Any) -> None:
        self.bench, self.log = bench, bench.store.with_name(f"{bench.store.name}.log")
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command_line(Path(os.devnull), bench.arguments("--until", stage)),
                cwd=bench.code,
                env=bench.variables(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **how,
            )

    def wait_for_work(self, limit_s: float = 600.0) -> None:
        """Until it takes its first lock, or has ended."""
        deadline = time.monotonic() + limit_s
        while self.process.poll() is None and not names_in(self.bench.store / "locks"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"no work after {limit_s:.0f} s: {self.output()[-2000:]}")
            time.sleep(0.02)

    def below(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            return []

    def server(self) -> list[psutil.Process]:
        return [each for each in self.below() if name_of(each) == "flows.server.process"]

    def children(self) -> list[psutil.Process]:
        """Living processes below it that are not its server's."""
        served = {each.pid for each in self.server()}
        served |= {below.pid for each in self.server() for below in each.children(recursive=True)}
        return [each for each in self.below() if each.pid not in served and is_alive(each)]

    def wait(self, limit_s: float) -> int | None:
        """Its exit code; None where it is still there after `limit_s` seconds, and is then killed."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            return None

    def gone_after(self) -> float:
        """Seconds until no process names the store any more; inf where one is there after GONE_S."""
        began = time.monotonic()
        while any(True for _ in processes_of(self.bench.store)):
            if time.monotonic() - began > GONE_S:
                return float("inf")
            time.sleep(0.1)
        return time.monotonic() - began

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def last_words(self) -> str:
        lines = [line.strip() for line in self.output().splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-400:]


def link_store(source: Path, target: Path) -> None:
    """A copy of a store by hard links where nothing writes in place."""
    target.mkdir(parents=True)
    for entry in sorted(source.iterdir()):
        if entry.name == "locks":
            (target / "locks").mkdir()
        elif entry.is_dir():
            link = shutil.copy2 if entry.name in WRITTEN_IN_PLACE else os.link
            shutil.copytree(entry, target / entry.name, copy_function=link)
        else:
            shutil.copy2(entry, target / entry.name)


def left_in(store: Path) -> Iterator[str]:
    """Locks and unfinished files of a store, Prefect's own left out."""
    for path in store.rglob("*"):
        inside = path.relative_to(store)
        if inside.parts[0] != "prefect" and is_left(path):
            yield str(inside)


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def last_epoch(store: Path) -> int:
    """Number of the newest checkpoint in a store, -1 for none."""
    found = (
        re.search(r"epoch_(\d+)", path.name) for path in store.glob("work/*/training/epoch_*.safetensors")
    )
    return max((int(match[1]) for match in found if match), default=-1)


def processes_of(store: Path) -> Iterator[psutil.Process]:
    """Living processes that name the store in their command line or environment."""
    for process in psutil.process_iter():
        try:
            texts = [*process.cmdline(), *process.environ().values()]
            if process.pid != os.getpid() and is_alive(process) and any(str(store) in text for text in texts):
                yield process
        except psutil.Error:
            continue


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def name_of(process: psutil.Process) -> str:
    """What a process does: the module that Python runs, a child's function."""
    try:
        line = process.cmdline()
        if "storage.children.process" in line:
            return line[-1]
        return line[line.index("-m") + 1] if "-m" in line else " ".join(line[:2])
    except (psutil.Error, IndexError):
        return "ended"
