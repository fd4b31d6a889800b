"""Kills at random moments, in batches that can be stopped and resumed: nothing is lost, wrong or left behind.

    python -m tests.crash.campaign [--seed 0] [--kills 30] [--ground FOLDER] [--out benchmarks/results/crash]

A batch is 30 kills, six in each stage; half by SIGTERM; a quarter hits a child, some the server. Each begins
on a store before its stage, is resumed up to the end of that stage, and what then is there is compared with
an undisturbed run. The cells of a batch lie in one JSON file that grows with every cell; those that it has
are not done again. Exit code 1 if something did not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil

from benchmarks.acceptance_runs import CODE, Checks, sidecars
from benchmarks.cells import write_cell
from flows.options.stages import STAGES
from storage.files.whole import read_json
from tests.crash.ground import Ground, Run, is_alive, last_epoch, name_of

Victim = Literal["main", "group", "child", "server"]
IN_BATCH: dict[Victim, int] = {"main": 10, "group": 8, "child": 8, "server": 4}
TRIES = 4
TERM_S, GOES_ON_S, RESUME_S = 10.0, 300.0, 900.0


@dataclass(frozen=True)
class Cell:
    """A kill that is asked for. share: of the undisturbed run's work that is done by then."""

    number: int
    stage: str
    victim: Victim
    signal: Literal["SIGKILL", "SIGTERM"]
    share: float


def plan(seed: int, kills: int, with_children: set[str]) -> list[Cell]:
    """The cells of a batch; with_children: stages that start children at all."""
    dice = random.Random(seed)
    stages = [STAGES[number % len(STAGES)] for number in range(kills)]
    victims: list[Victim] = [name for name, count in IN_BATCH.items() for _ in range(count * kills // 30)]
    victims = ["main"] * (kills - len(victims)) + victims
    able = [number for number, stage in enumerate(stages) if stage in with_children]
    of_children = set(dice.sample(able, min(victims.count("child"), len(able))))
    others = [each for each in victims if each != "child"]
    others += ["main"] * (kills - len(others) - len(of_children))
    dice.shuffle(others)
    signals = ["SIGKILL", "SIGTERM"] * (kills // 2 + 1)
    cells = []
    for number, stage in enumerate(stages):
        victim: Victim = "child" if number in of_children else others.pop()
        kind = signals[(number // len(STAGES) + number + seed) % 2]  # over two seeds each stage has both
        cells.append(Cell(number, stage, victim, kind, dice.random()))  # type: ignore[arg-type]
    return cells


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Kills at random moments, in batches.")
    parser.add_argument("--seed", type=int, default=0, help="of the batch")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--ground", type=Path, help="folder that is made once; none: a temporary one")
    parser.add_argument("--out", type=Path, default=CODE / "benchmarks" / "results" / "crash")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        ground = Ground((asked.ground or Path(folder)).absolute())
        ground.prepare()
        return batch(ground, asked.seed, asked.kills, asked.out / f"kills-{asked.seed}.json")


def batch(ground: Ground, seed: int, kills: int, out: Path) -> int:
    """The cells that `out` lacks; it has each as soon as it is judged."""
    checks, told = Checks(), read_json(out) or {"seed": seed, "cells": {}}
    for cell in plan(seed, kills, {stage for stage, calm in ground.calm.items() if calm.children}):
        if (known := told["cells"].get(str(cell.number))) is None:
            known = told["cells"][str(cell.number)] = one(ground, seed, cell)
            write_cell(out, told)
        figures = f"after {known['at_s']:.1f} s, ended in {known['ended_s']:.1f} s, code {known['code']}; "
        figures += "; ".join(known["wrong"]) or f"resumed in {known['resumed_s']:.1f} s"
        name = f"{cell.number} {cell.stage} {cell.signal} {known['hit']}"
        checks.add(name, not known["wrong"], figures)
    done = told["cells"].values()
    for kind in ("stage", "signal", "victim"):
        checks.add(f"per {kind}", True, str(dict(Counter(each[kind] for each in done))))
    return checks.finish(f"{len(told['cells'])} kills, seed {seed}")


def one(ground: Ground, seed: int, cell: Cell) -> dict[str, object]:
    """A kill on a store of its own, the command again, the verdict."""
    for attempt in range(TRIES):
        bench = ground.store_for(cell.stage, f"{seed}-{cell.number}")
        run = Run(bench, cell.stage)
        run.wait_for_work()
        at = cell.share * ground.calm[cell.stage].seconds / 2**attempt
        target = moment(run, cell, at)
        if target is None:  # over before: earlier, on another store
            run.wait(RESUME_S)
            continue
        return judged(ground, cell, run, at, strike(run, cell, target))
    raise RuntimeError(f"cell {cell.number}: {cell.stage} was over before every moment")


def moment(run: Run, cell: Cell, at: float) -> psutil.Process | None:
    """Wait for the moment and, where a child is to be hit, for one; None where the command ends before."""
    deadline = time.monotonic() + at
    while run.process.poll() is None:
        if time.monotonic() >= deadline:
            if cell.victim in ("main", "group"):
                return psutil.Process(run.process.pid)
            found = run.children() if cell.victim == "child" else run.server()
            if found:
                return found[cell.number % len(found)]
        time.sleep(0.02)
    return None


def strike(run: Run, cell: Cell, target: psutil.Process) -> dict[str, object]:
    """Send the signal; what was done by then, what was hit, how the command ended."""
    done, hit = sidecars(run.bench.store), name_of(target)
    number = signal.Signals[cell.signal]
    if cell.victim == "group":
        os.killpg(run.process.pid, number)
    elif is_alive(target):
        target.send_signal(number)
    began = time.monotonic()
    code = run.wait(TERM_S * 3 if cell.victim in ("main", "group") else GOES_ON_S)
    ended = time.monotonic() - began
    epoch = last_epoch(run.bench.store)
    return {"done": done, "hit": hit, "code": code, "ended_s": ended, "epoch": epoch}


def judged(ground: Ground, cell: Cell, run: Run, at: float, struck: dict[str, object]) -> dict[str, object]:
    done = struck.pop("done")
    assert isinstance(done, dict)
    gone, words = run.gone_after(), run.last_words()
    wrong = [] if gone < float("inf") else ["a process outlived the command"]
    if struck["code"] is None:
        wrong.append("the command did not end")
    if cell.victim in ("main", "group") and float(str(struck["ended_s"])) > TERM_S:
        wrong.append(f"it took {struck['ended_s']} s to end")
    again = Run(run.bench, cell.stage)
    began = time.monotonic()
    code = again.wait(RESUME_S)
    if code != 0:
        wrong.append(f"resumed: code {code}: {again.last_words()}")
    else:
        again.gone_after()
        wrong += ground.wrong_with(run.bench, cell.stage, done) + not_resumed(again, struck["epoch"])
    facts: dict[str, object] = {"at_s": at, "gone_s": gone, "resumed_s": time.monotonic() - began}
    facts |= {"words": words} if wrong else {}
    return {**asdict(cell), **struck, **facts, "done": len(done), "wrong": wrong}


def not_resumed(again: Run, epoch: object) -> list[str]:
    """A training that was killed goes on from its last checkpoint; -1: there was none."""
    said = re.search(r"training goes on after epoch (\d+)", again.output())
    trained = re.search(r"finetune \w+ made", again.output())
    at = int(said[1]) if said else -1
    return [f"went on after epoch {at}, not {epoch}"] if trained and at != epoch else []


if __name__ == "__main__":
    sys.exit(main())
