"""`kill -9` at random moments, then the same command: nothing is lost, nothing stays behind, nothing differs.

    python -m tests.crash.kill_runs [PHOTOS] [--kills 4] [--seed 0] [--set KEY=VALUE ...]

Every other kill falls into reconstruct, every other into the training, after its first checkpoint; a store is
killed once in each, then the command ends undisturbed. Without PHOTOS a small town is rendered. Takes about a
minute a kill on two idle cores. Exit code 1 if something did not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks.acceptance_runs import (
    MINUTE_SETS,
    Bench,
    Checks,
    Outcome,
    copy_code,
    differing,
    item_contents,
    sidecars,
    small_town,
    text_of,
)
from storage import files

LIMIT_S = 10.0
"""By then no child of a killed command may live, s."""
PATIENCE_S = 1800.0
KILL_SETS = (*MINUTE_SETS, "training.epochs=3")
CHUNKED = ("working", "proposal_descriptors", "features", "matches", "guard_matches", "descriptors")


@dataclass(frozen=True)
class Killed:
    """A command that was killed. when: at what; done: artifact -> when it was made, at the kill.

    epoch: of the last checkpoint, -1 for none; dead_after_s: until the last of `children` processes was gone,
    inf where one was still there after LIMIT_S.
    """

    when: str
    done: dict[str, str]
    epoch: int
    children: tuple[str, ...]
    dead_after_s: float


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="kill -9 at random moments, then the same command.")
    parser.add_argument("photos", nargs="?", type=Path, help="folder of photographs; none: a small town")
    parser.add_argument("--kills", type=int, default=4, choices=range(1, 31), metavar="1..30")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of every run")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        root = Path(folder)
        (root / "tmp").mkdir()
        photos = asked.photos.absolute() if asked.photos else small_town(root / "photos")
        sets = tuple(asked.set) or (() if asked.photos else KILL_SETS)
        bench = Bench(photos, root / "calm", sets, copy_code(root / "code"), {"TMPDIR": str(root / "tmp")})
        checks = Checks()
        kills = Kills(bench, checks, random.Random(asked.seed))
        kills.calm_run()
        calm = set(os.listdir(root / "tmp"))  # torch keeps one folder for all runs
        kills.run(asked.kills)
        left = sorted({*os.listdir(root / "tmp")} - calm)
        checks.add("temporary files", not left, f"{len(left)} left in TMPDIR {left[:5]}")
        return checks.finish(f"{asked.kills} kills, {len(os.listdir(photos))} photographs")


class Kills:
    """The kills, against one undisturbed run."""

    def __init__(self, bench: Bench, checks: Checks, random_: random.Random) -> None:
        self.bench, self.checks, self.random = bench, checks, random_

    def calm_run(self) -> None:
        """What an undisturbed run gives."""
        self.calm = self.bench.run()
        assert self.calm.record is not None
        self.contents = item_contents(self.bench.store, self.calm.record)
        self.total = sum(self.calm.ran().values())
        self.checks.add("undisturbed run", True, f"{self.calm.seconds:.1f} s, {self.total} tasks ran")

    def run(self, kills: int) -> None:
        """That many kills, two to a store."""
        for number in range(0, kills, 2):
            bench = replace(self.bench, store=self.bench.store.with_name(f"store{number}"))
            self.one_store(bench, number, min(2, kills - number))

    def one_store(self, bench: Bench, number: int, kills: int) -> None:
        """A kill in reconstruct, perhaps one in the training, then the command to its end."""
        killed = [self.kill_reconstruct(bench)]
        if kills == 2:
            killed.append(self.kill_training(bench))
        outcome = bench.run()
        for each, count in zip(killed, range(number + 1, number + 3), strict=False):
            self.judge_kill(f"kill {count}, {each.when}", bench, each)
        self.judge_end(f"after kill {number + 1}..{number + kills}", bench, outcome, killed)

    def kill_reconstruct(self, bench: Bench) -> Killed:
        """After a random number of artifacts of reconstruct, and a random part of the time to the next."""
        made = sorted(sidecars(self.bench.store).items(), key=lambda item: item[1])
        names = [path.split("/")[0] for path, _ in made]
        last = names.index("scene")  # artifacts before it
        wanted = self.random.randint(1, last)
        delay = self.random.random() * self.gap(made[wanted - 1][1], made[wanted][1])
        when = f"artifact {wanted + 1} of {last + 1} of reconstruct ({names[wanted]}) + {delay:.1f} s"
        return self.kill(bench, lambda: len(sidecars(bench.store)) >= wanted, delay, when)

    def kill_training(self, bench: Bench) -> Killed:
        """After the checkpoint of a random epoch but the last, and a random part of an epoch."""
        assert self.calm.record is not None
        epochs = int(self.calm.record.options["training"]["epochs"])
        seconds = training_seconds(self.bench, self.calm)
        wanted = self.random.randrange(epochs)
        delay = self.random.random() * seconds / (epochs + 1)
        when = f"epoch {wanted + 1} of {epochs} + {delay:.1f} s"
        return self.kill(bench, lambda: last_epoch(bench.store) >= wanted, delay, when)

    def gap(self, earlier: str, later: str) -> float:
        from datetime import datetime

        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()

    def kill(self, bench: Bench, ready: Callable[[], bool], delay: float, when: str) -> Killed:
        """Start the command, wait for the moment, kill -9, watch its children die."""
        process = bench.start()
        wait_for(process, ready)
        time.sleep(delay)
        children = psutil.Process(process.pid).children(recursive=True)
        names = tuple(sorted(name_of(child) for child in children))
        os.kill(process.pid, signal.SIGKILL)
        began = time.monotonic()
        process.wait()
        dead = float("inf")
        while time.monotonic() - began < LIMIT_S:
            if not any(is_alive(child) for child in children) and not list(processes_of(bench.store)):
                dead = time.monotonic() - began
                break
            time.sleep(0.1)
        return Killed(when, sidecars(bench.store), last_epoch(bench.store), names, dead)

    def judge_kill(self, name: str, bench: Bench, killed: Killed) -> None:
        again = differing(killed.done, {path: sidecars(bench.store).get(path) for path in killed.done})
        figures = f"{len(killed.done)} artifacts were done, {len(again)} of them made again"
        figures += (
            f"; children: {', '.join(killed.children) or 'none'}, dead after {killed.dead_after_s:.1f} s"
        )
        self.checks.add(name, not again and killed.dead_after_s < LIMIT_S, figures)

    def judge_end(self, name: str, bench: Bench, outcome: Outcome, killed: list[Killed]) -> None:
        """The same contents as undisturbed; the training went on; no process, no unfinished file is left."""
        assert outcome.record is not None
        left = [f"{found.pid} {name_of(found)}" for found in processes_of(bench.store)]
        ours, theirs = outcome.digests(), self.calm.digests()
        other = [n for n in differing(ours, theirs) if n not in CHUNKED]
        other += differing(item_contents(bench.store, outcome.record), self.contents)
        resumed = re.search(r"training goes on after epoch (\d+)", outcome.output)
        epoch = int(resumed[1]) if resumed else -1
        unfinished = [path for path in bench.store.glob(f"*/{files.TEMPORARY}*")]
        trained = any(path.startswith("finetune/") for path in killed[-1].done)
        went_on = trained or epoch >= killed[-1].epoch
        held = not other and not left and not unfinished and went_on
        figures = f"{outcome.seconds:.1f} s, {sum(outcome.ran().values())} of {self.total} tasks ran"
        figures += f" ({text_of(outcome.ran())}); "
        figures += "training was over" if trained else f"training went on after epoch {epoch}"
        figures += f", last checkpoint {killed[-1].epoch}"
        figures += (
            f"; other content: {', '.join(other) or 'none'}; processes left: {', '.join(left) or 'none'}"
        )
        figures += f"; unfinished files: {len(unfinished)}"
        self.checks.add(name, held, figures)


def wait_for(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    """Returns when `ready`. Raises RuntimeError where the command ends before, or never gets there."""
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the command did not get to where it was to be killed: {process.poll()}")
        time.sleep(0.05)


def last_epoch(store: Path) -> int:
    """Number of the newest checkpoint in a store, -1 for none."""
    found = (
        re.search(r"epoch_(\d+)", path.name) for path in store.glob("work/*/training/epoch_*.safetensors")
    )
    return max((int(match[1]) for match in found if match), default=-1)


def training_seconds(bench: Bench, outcome: Outcome) -> float:
    """How long the training of a run took."""
    from storage.store import Store

    assert outcome.record is not None
    sidecar = Store.open(bench.store).sidecar(outcome.record.refs_of("finetune")[0])
    return sidecar.seconds if sidecar else 10.0


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
    """What a process does: the module that Python runs."""
    try:
        line = process.cmdline()
        return line[line.index("-m") + 1] if "-m" in line else " ".join(line[:2])
    except (psutil.Error, IndexError):
        return "ended"


if __name__ == "__main__":
    sys.exit(main())
