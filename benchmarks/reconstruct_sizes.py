"""Seconds and memory of reconstruct at several sizes, beside COLMAP's own exhaustive pipeline.

    python -m benchmarks.reconstruct_sizes PHOTOS [--sizes 100 300 581] [--town 3000] [--exhaustive 300]
        [--work DIR] [--json FILE]

A size takes that many photographs of PHOTOS, drawn at random (the whole folder where it is not larger);
--town renders towns of different seeds, no image or texture shared, until there are enough. Each runs
`retrieval-sfm run --until reconstruct` in a store of its own. The wall seconds of a stage are those in which
at least one of its tasks ran; memory is the largest sum over the command and all its children, Prefect's
server included, of the resident memory that each has for itself (PSS). COLMAP's pipeline (extract, match
exhaustively, map incrementally, one database) gets the working copies and two threads, up to --exhaustive
photographs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.acceptance_runs import CODE, latest_record
from sfm.scene.scene import Scene
from storage.keys import artifacts
from storage.store.store import Store
from town.town import TownOptions, render_town

STAGES = (
    "working", "descriptors", "features", "pairs", "matches", "expansion", "clusters", "mapping", "scene",
)  # fmt: skip
MATCHING = ("pairs", "matches", "expansion")
TOWN_BUILDINGS = 30
SAMPLE_S = 0.5


@dataclass(frozen=True)
class Row:
    """One size: wall seconds per stage and in all, peak memory of the process tree, what came out.

    peak_parts: of each process at that moment, largest first. elsewhere: share of the machine's processors
    that other programs had meanwhile.
    """

    name: str
    photographs: int
    seconds: dict[str, float]
    wall_s: float
    peak_bytes: int
    peak_parts: list[int]
    pairs: int
    registered: int
    models: int
    elsewhere: float
    exhaustive: dict[str, float] = field(default_factory=dict)

    @property
    def limit_bytes(self) -> int:
        """2 GB and 50 kB per photograph."""
        return 2_000_000_000 + 50_000 * self.photographs

    @property
    def matching_s(self) -> float:
        """Proposing and matching pairs."""
        return sum(self.seconds.get(stage, 0.0) for stage in MATCHING)


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    console = Console()
    rows = []
    with tempfile.TemporaryDirectory(prefix="sizes-", dir=asked.work) as folder:
        for name, photos in _collections(asked, Path(folder)):
            row = measure(name, photos, Path(folder) / f"store-{name}")
            if row.photographs <= asked.exhaustive:
                row.exhaustive.update(
                    exhaustive(Path(folder) / f"store-{name}", Path(folder) / f"all-{name}")
                )
            rows.append(row)
            console.print(f"{name}: {asdict(row)}", markup=False, highlight=False)
            if asked.json:
                asked.json.write_text(json.dumps([asdict(each) for each in rows], indent=1) + "\n")
    console.print(_table(rows))
    return 0 if all(row.peak_bytes <= row.limit_bytes for row in rows) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Seconds and memory of reconstruct.")
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 300, 581])
    parser.add_argument("--town", type=int, default=0, help="rendered photographs of one more collection")
    parser.add_argument("--exhaustive", type=int, default=0, help="largest size that COLMAP matches in full")
    parser.add_argument("--work", type=Path, help="folder for everything that is made")
    parser.add_argument("--json", type=Path, help="the rows, as JSON")
    return parser


def _collections(asked: argparse.Namespace, work: Path) -> Iterator[tuple[str, Path]]:
    everything = sorted(path for path in asked.photos.rglob("*") if path.is_file())
    for size in asked.sizes:
        chosen = sorted(random.Random(0).sample(everything, min(size, len(everything))))
        yield str(len(chosen)), _linked(chosen, work / f"photos-{size}", asked.photos)
    if asked.town:
        yield f"town-{asked.town}", _towns(asked.town, work / "towns")


def _linked(chosen: Sequence[Path], folder: Path, root: Path) -> Path:
    for path in chosen:
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.resolve())
    return folder


def _towns(count: int, folder: Path) -> Path:
    """At least `count` photographs of towns of seeds 1, 2, ..., the last ones taken away."""
    names: list[Path] = []
    seed = 0
    while len(names) < count:
        seed += 1
        render_town(folder / str(seed), TownOptions(seed=seed, buildings=TOWN_BUILDINGS, distractors=60))
        names = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    for path in names[count:]:
        path.unlink()
    return folder


def measure(name: str, photos: Path, store: Path) -> Row:
    """Run reconstruct on a folder in a new store."""
    command = [sys.executable, "-m", "flows.cli.main", "run", str(photos), "--store", str(store)]
    began, load = time.monotonic(), Load()
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen(
            [*command, "--until", "reconstruct"],
            cwd=CODE, env={**os.environ, "PYTHONPATH": str(CODE)}, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        peak = Peak(running.pid)
        code = running.wait()
        peak.stop()
        log.seek(0)
        if code:
            sys.exit(f"{name}: exit code {code}\n{log.read().decode(errors='replace')[-3000:]}")
    record = latest_record(store)
    assert record is not None
    scene = Scene.from_h5(store / record.refs_of("scene")[0].path)
    return Row(
        name=name,
        photographs=int((scene.photos.cluster >= 0).sum()),
        seconds=stage_seconds(store),
        wall_s=time.monotonic() - began,
        peak_bytes=peak.bytes,
        peak_parts=peak.parts,
        pairs=len(scene.attempts.first),
        registered=len(set(scene.cameras.photo.tolist())),
        models=len(scene.models.cluster),
        elsewhere=load.elsewhere(),
    )


def stage_seconds(store: Path) -> dict[str, float]:
    """Stage -> seconds in which at least one of its artifacts was being made."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for path in store.glob("*/*.sidecar.json"):
        sidecar = artifacts.read_sidecar(path)
        if sidecar is not None:
            end = sidecar.created.timestamp()
            spans.setdefault(sidecar.ref.stage, []).append((end - sidecar.seconds, end))
    return {stage: _covered(sorted(found)) for stage, found in spans.items()}


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


class Load:
    """Processor time since now that no child of this program took."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy_s(), _children_s()

    def elsewhere(self) -> float:
        """As a share of all processors."""
        offered = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, _busy_s() - self._busy - (_children_s() - self._own)) / offered


def _busy_s() -> float:
    spent = psutil.cpu_times()
    return float(sum(spent) - spent.idle - getattr(spent, "iowait", 0.0))


def _children_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


class Peak:
    """The largest memory of a process and its descendants together, looked at twice a second."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self.parts: list[int] = []  # of each process at that moment, largest first
        self._root = psutil.Process(pid)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            try:
                tree = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            parts = sorted(map(_own_memory, tree), reverse=True)
            if sum(parts) > self.bytes:
                self.bytes, self.parts = sum(parts), parts


def _own_memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def exhaustive(store: Path, folder: Path) -> dict[str, float]:
    """Seconds of COLMAP's own pipeline on a store's working copies, and what it registers."""
    images = folder / "images"
    images.mkdir(parents=True)
    opened = Store.open(store)
    record = latest_record(store)
    assert record is not None
    for ref in record.refs_of("working"):
        for path in opened.path(ref).rglob("*.jpg"):
            (images / path.name).symlink_to(path.resolve())
    load = Load()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.colmap_exhaustive", str(images), str(folder)],
        cwd=CODE, env={**os.environ, "PYTHONPATH": str(CODE)}, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "elsewhere": load.elsewhere()}


def _table(rows: Sequence[Row]) -> Table:
    """A column per collection."""
    table = Table("", *(row.name for row in rows))

    def taking(stage: str) -> Callable[[Row], str]:
        return lambda row: f"{row.seconds.get(stage, 0.0):.1f} s"

    lines = {stage: taking(stage) for stage in STAGES}
    lines |= {
        "all, with start and end": lambda row: f"{row.wall_s:.0f} s",
        "peak memory": lambda row: f"{row.peak_bytes / 1e6:.0f} of {row.limit_bytes / 1e6:.0f} MB",
        "photographs": lambda row: str(row.photographs),
        "pairs tried": lambda row: str(row.pairs),
        "registered, models": lambda row: f"{row.registered}, {row.models}",
        "processors taken by others": lambda row: f"{row.elsewhere:.0%}",
        "COLMAP: extract, map": lambda row: _plain(row, "extract_s", "map_s"),
        "COLMAP: match exhaustively": lambda row: _plain(row, "match_s"),
        "... over pairs + matches": lambda row: (
            f"{row.exhaustive['match_s'] / row.matching_s:.1f} x" if row.exhaustive else ""
        ),
        "COLMAP: registered, models": lambda row: _plain(row, "registered", "models"),
        "COLMAP: processors taken by others": lambda row: (
            f"{row.exhaustive['elsewhere']:.0%}" if row.exhaustive else ""
        ),
    }
    for name, cell in lines.items():
        table.add_row(name, *(cell(row) for row in rows))
    return table


def _plain(row: Row, *names: str) -> str:
    return ", ".join(f"{row.exhaustive[name]:.0f}" for name in names) if row.exhaustive else ""


if __name__ == "__main__":
    sys.exit(main())
