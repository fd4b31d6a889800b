"""Runs of the command line, and what they left in the store: the ground that acceptance checks stand on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from storage.keys import artifacts
from storage.keys.artifacts import ArtifactRef
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store

CODE = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "tasks", "sfm", "retrieval", "report", "storage", "town", "configs", "benchmarks")
MINUTE_SETS = (
    "training.epochs=2",
    "training.queries_per_epoch=6",
    "training.image_size=160",
    "description.image_size=160",
    "reconstruction.description.image_size=160",
)
"""Options with which a run on the small town takes about a minute on two cores."""

Counts = dict[str, dict[str, int]]


class RunFailed(RuntimeError):
    """A command that had to end well did not."""


@dataclass(frozen=True)
class Made:
    """One artifact that a run made."""

    ref: ArtifactRef
    items: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """A command that ended. seconds: wall; calls: tasks per stage, cached and run; made: new in the store."""

    code: int
    seconds: float
    calls: tuple[Counts, ...]
    heavy: tuple[str, ...]
    made: tuple[Made, ...]
    record: RunRecord | None
    output: str

    @property
    def counts(self) -> Counts:
        return self.calls[-1] if self.calls else {}

    def ran(self) -> dict[str, int]:
        """Tasks that ran, per stage; stages without one are left out."""
        return {stage: count["run"] for stage, count in self.counts.items() if count.get("run")}

    def cached(self) -> int:
        """Tasks that were answered from the cache."""
        return sum(count.get("cached", 0) for count in self.counts.values())

    def made_per_stage(self) -> dict[str, int]:
        return dict(Counter(made.ref.stage for made in self.made))

    def digests(self) -> dict[str, list[str]]:
        """Content digests of the run's artifacts by name, sorted."""
        assert self.record is not None
        return content_digests(self.record)


@dataclass(frozen=True)
class Bench:
    """Photographs, a store, options, and the code that is run on them."""

    photos: Path
    store: Path
    sets: tuple[str, ...] = ()
    code: Path = CODE
    environment: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, *more: str) -> list[str]:
        """What follows `retrieval-sfm`."""
        sets = [part for text in self.sets for part in ("--set", text)]
        return ["run", str(self.photos), "--store", str(self.store), *sets, *more]

    def run(self, *more: str, check: bool = True) -> Outcome:
        """The whole flow, to its end. Raises RunFailed with the end of its output."""
        return self.call(self.arguments(*more), self.store, check=check)

    def call(self, arguments: Sequence[str], store: Path, *, check: bool = True) -> Outcome:
        """A command of `benchmarks.acceptance_command`, looked at through what it leaves in `store`."""
        before = sidecars(store)
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            began = time.monotonic()
            done = subprocess.run(
                command_line(report, arguments),
                cwd=self.code,
                env=self.variables(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            seconds = time.monotonic() - began
            facts = json.loads(report.read_text()) if report.exists() else {"calls": [], "heavy": []}
        output = done.stdout.decode(errors="replace")
        if check and done.returncode:
            tail = "\n".join(output.splitlines()[-30:])
            raise RunFailed(f"{' '.join(arguments)} ended with code {done.returncode}:\n{tail}")
        made = tuple(made_since(store, before))
        record = latest_record(store, facts.get("pid"))
        return Outcome(
            done.returncode, seconds, tuple(facts["calls"]), tuple(facts["heavy"]), made, record, output
        )

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """The same command as `run`, not waited for; in a session of its own, its output thrown away."""
        return subprocess.Popen(
            command_line(Path(os.devnull), self.arguments(*more)),
            cwd=self.code,
            env=self.variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def variables(self) -> dict[str, str]:
        """The environment of a command: this code first, no Prefect server but its own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return {**inherited, "PYTHONPATH": str(self.code), "COLUMNS": "200", **self.environment}


def command_line(report: Path, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.acceptance_command", str(report), *arguments]


def sidecars(store: Path) -> dict[str, str]:
    """Path of every artifact of a store -> when it was made; an artifact exists once it has its name."""
    found = {}
    for path in store.glob("*/*.sidecar.json"):
        sidecar = artifacts.read_sidecar(path)
        if sidecar is not None and (store / sidecar.ref.path).exists():
            found[sidecar.ref.path] = sidecar.created.isoformat()
    return found


def made_since(store: Path, before: Mapping[str, str]) -> Iterator[Made]:
    """The artifacts that are newer than those of `sidecars(store)` earlier."""
    opened = Store.open(store)
    for path in sorted(store.glob("*/*.sidecar.json")):
        sidecar = artifacts.read_sidecar(path)
        if sidecar is not None and before.get(sidecar.ref.path) != sidecar.created.isoformat():
            yield Made(sidecar.ref, tuple(opened.item_digests(sidecar.ref)))


def latest_record(store: Path, pid: int | None = None) -> RunRecord | None:
    """The newest completed run of a store, where there is one that of this process."""
    opened = Store.open(store)
    newest = ledger.latest(opened)
    if newest is None or pid in (None, newest.pid):
        return newest
    completed = (each for each in ledger.records(opened) if each.status == "completed")
    return next((each for each in completed if each.pid == pid and each.kind == newest.kind), newest)


def content_digests(record: RunRecord) -> dict[str, list[str]]:
    """Name of a run's artifacts -> their content digests, sorted."""
    return {name: sorted(ref.content_sha256 for ref in record.refs_of(name)) for name in record.refs}


def item_contents(store: Path, record: RunRecord) -> dict[str, dict[str, str]]:
    """Name of a run's artifacts -> item -> content digest, of those that hold items; without the grouping.

    Items of two networks or options under one name (descriptors) are told apart by the chunk's family.
    """
    opened = Store.open(store)
    found: dict[str, dict[str, str]] = {}
    for name in record.refs:
        for ref in record.refs_of(name):
            sidecar = opened.sidecar(ref)
            family = sidecar.family[:12] if sidecar else ""
            for item, digest in opened.item_digests(ref).items():
                found.setdefault(name, {})[f"{family} {item}"] = digest
    return found


def copy_code(folder: Path) -> Path:
    """A copy of the code: it can be edited, and what happens to the original meanwhile does not matter."""
    for package in PACKAGES:
        shutil.copytree(CODE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def small_town(folder: Path, *, buildings: int = 5, views: int = 6, singles: int = 6) -> Path:
    """Photographs of a few rendered buildings, 320 px wide: every stage has something to do."""
    from town.town import TownOptions, render_town

    options = TownOptions(
        buildings=buildings,
        min_views=views,
        max_views=views,
        distractors=singles,
        image_width=320,
        image_height=240,
    )
    render_town(folder, options)
    return folder


class Checks:
    """Lines of an acceptance: what was asked, whether it held, the figures."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, bool, str]] = []
        self.console = Console()

    def add(self, what: str, held: bool, figures: str) -> bool:
        """Note a line and say it at once."""
        self.lines.append((what, held, figures))
        self.console.print(
            f"{'held' if held else 'DID NOT HOLD':12} {what}: {figures}", highlight=False, markup=False
        )
        return held

    def finish(self, title: str) -> int:
        """Print the table; the exit code."""
        table = Table("check", "", "figures", title=title)
        for what, held, figures in self.lines:
            table.add_row(what, "held" if held else "[red]did not hold[/red]", figures.replace("[", r"\["))
        self.console.print(table)
        return 0 if all(held for _, held, _ in self.lines) else 1


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Names under which two mappings differ."""
    return sorted(name for name in {*first, *second} if first.get(name) != second.get(name))


def text_of(counts: Mapping[str, int]) -> str:
    """{'scene': 1} -> 'scene 1'; 'nothing' for none."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "nothing"
