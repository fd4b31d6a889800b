"""What orchestration costs: `end_to_end` as a command beside the same library functions as a script.

    python -m benchmarks.overhead [--turns 3] [--config configs/demo.yaml] [--keep FILE] [--way direct|flow]
        [--photos DIR]

On the demo's town. Both ways are processes timed from outside, so imports, Prefect's server, keys, locks, run
pages and report count as overhead; they take turns, and in every turn the flow is run once more on its store,
where all is cached. Exit code 1 if the median of the flow is more than 10 % above that of the script, or if a
result differs. Lines below the table need no second run to compare with, for machines that are not always
equally fast: how long, within a flow's own run, no library function was at work. --keep: turns are added to
FILE, and the table is about all in it; with --way only that way is run, so that a machine's quiet minutes
can be used.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from benchmarks.acceptance_runs import CODE, Bench, content_digests
from storage.hdf5.digests import content_sha256
from storage.keys import artifacts
from storage.store import ledger
from storage.store.store import Store
from town.demo import CONFIG, TOWN

LIMIT = 0.10
Way = Literal["direct", "flow"]
RESULTS = (
    "catalogue", "features", "proposed_pairs", "matches", "clusters", "mapping", "scene", "guard_pairs",
    "training_set", "finetune", "descriptors", "whiten", "evaluation",
)  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """One run of one way. seconds: wall and CPU of the command and all its children; again: of the flow once
    more on its store, zeros for the script; digests: name of a result -> content digests; library_s: wall
    seconds of the flow in which a stage's library function ran, zero for the script."""

    way: Way
    seconds: tuple[float, float]
    again: tuple[float, float]
    digests: dict[str, list[str]]
    library_s: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What orchestration costs on the rendered town.")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--photos", type=Path, help="another collection than the demo's town")
    parser.add_argument("--way", choices=("direct", "flow"), help="only this way")
    parser.add_argument("--keep", type=Path, help="file that turns are added to")
    asked = parser.parse_args(arguments)
    ways: tuple[Way, ...] = (asked.way,) if asked.way else ("direct", "flow")
    turns = (
        [Turn(**each) for each in json.loads(asked.keep.read_text())]
        if asked.keep and asked.keep.is_file()
        else []
    )
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        photos = asked.photos.absolute() if asked.photos else town(Path(folder) / "photos")
        for number in range(asked.turns):
            for way in ways:
                place = Path(folder) / f"{way}-{number}"
                turns.append(one_turn(way, photos, place, asked.config))
                if asked.keep:
                    asked.keep.write_text(json.dumps([asdict(turn) for turn in turns]))
    return judge(turns)


def town(folder: Path) -> Path:
    """The demo's town."""
    from town.town import TownOptions, render_town

    render_town(folder, TownOptions(**TOWN))
    return folder


def one_turn(way: Way, photos: Path, place: Path, config: Path) -> Turn:
    """Run one way from nothing."""
    bench = Bench(photos, place)
    more = ["--config", str(config)]
    if way == "direct":
        command = [sys.executable, "-m", "benchmarks.plain_run", str(photos), str(place), *more]
        seconds, output = timed(command, bench)
        return Turn(way, seconds, (0.0, 0.0), plain_digests(json.loads(output.splitlines()[-1])))
    command = [sys.executable, "-m", "flows.cli.main", *bench.arguments(*more)]
    seconds, _ = timed(command, bench)
    library_s = library_seconds(place)
    again, _ = timed(command, bench)
    return Turn(way, seconds, again, flow_digests(place), library_s)


def timed(command: Sequence[str], bench: Bench) -> tuple[tuple[float, float], str]:
    """Wall and CPU seconds, and the output, of a command that ends well."""
    began, used = time.monotonic(), cpu_seconds()
    done = subprocess.run(command, cwd=CODE, env=bench.variables(), stdout=subprocess.PIPE, text=True)
    seconds = (time.monotonic() - began, cpu_seconds() - used)
    done.check_returncode()
    return seconds, done.stdout


def cpu_seconds() -> float:
    """Of all child processes that have ended, and of theirs that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def library_seconds(store: Path) -> float:
    """Wall seconds in which at least one artifact of a store was being built."""
    known = filter(None, map(artifacts.read_sidecar, store.glob("*/*.sidecar.json")))
    built = sorted((side.created.timestamp() - side.seconds, side.created.timestamp()) for side in known)
    total, until = 0.0, float("-inf")
    for began, ended in built:
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


def flow_digests(store: Path) -> dict[str, list[str]]:
    """Content digests of the results of the newest run of a store."""
    found = content_digests(ledger.load(Store.open(store), "latest"))
    found["matches"] = sorted({*found["matches"], *found["guard_matches"]})
    return {name: found[name] for name in RESULTS}


def plain_digests(made: dict[str, list[str]]) -> dict[str, list[str]]:
    """The same of the script's files and folders."""
    return {name: sorted(map(digest, map(Path, made[name]))) for name in RESULTS}


def digest(path: Path) -> str:
    """As the store digests an artifact."""
    return artifacts.write_manifest(path)[1] if path.is_dir() else content_sha256(path)


def judge(turns: Sequence[Turn]) -> int:
    """Print the table; the exit code."""
    found = {way: [turn for turn in turns if turn.way == way] for way in ("direct", "flow")}
    if not all(found.values()):
        return 0
    rows = {
        "library functions, a script": [turn.seconds for turn in found["direct"]],
        "end_to_end": [turn.seconds for turn in found["flow"]],
        "end_to_end, all cached": [turn.again for turn in found["flow"]],
    }
    middles = {name: [median(column) for column in zip(*all_, strict=True)] for name, all_ in rows.items()}
    script, flow, _ = middles.values()
    table = Table("", "median s", "beside the script", "CPU s", "beside the script", "turns, s")
    for name, (wall, cpu) in middles.items():
        shares = [f"{100 * (mine / its - 1):+.1f} %" for mine, its in zip((wall, cpu), script, strict=True)]
        turns_ = ", ".join(f"{seconds:.1f}" for seconds, _ in rows[name])
        table.add_row(name, f"{wall:.1f}", shares[0], f"{cpu:.1f}", shares[1], turns_)
    console = Console(width=120)
    console.print(table)
    for turn in found["flow"]:
        if turn.library_s:
            rest = turn.seconds[0] - turn.library_s
            share = f"{100 * rest / turn.library_s:.1f} %"
            console.print(
                f"one run: {turn.library_s:.1f} s of library functions, {rest:.1f} s beside them ({share})"
            )
    first: dict[str, Any] = turns[0].digests
    other = sorted({name for turn in turns for name in RESULTS if turn.digests[name] != first[name]})
    console.print(f"results with other content: {', '.join(other) or 'none'} of {len(RESULTS)}")
    return 0 if flow[0] <= (1 + LIMIT) * script[0] and not other else 1


if __name__ == "__main__":
    sys.exit(main())
