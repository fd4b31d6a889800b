"""Mutations of files from outside, reader by reader: no crash, no hang, no memory, no foreign error.

    python -m tests.fuzz.campaign [--minutes 10] [--reader NAME ...] [--out benchmarks/results/fuzz]

A cell is a minute of one reader with one seed; it is written as JSON when it is done, and a cell that is
there is not made again: a campaign can be stopped and resumed. Exit code 1 if something did not hold.

Of an input a reader says "read", or "refused" by a documented error that names the file. "stopped": it hung,
crashed or took too much memory within what a process of its own guards (storage.outside), which is an error
in one line for who gave the file. All else is a fault.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.cells import write_cell

CELL_S = 60.0
_MOST_FAULTS = 50
_MANY = 10_000_000
_ROOT = Path(__file__).resolve().parents[2]


def run_cell(reader: str, seed: int, seconds: float) -> dict[str, Any]:
    """What the inputs of one seed did within so many seconds."""
    from tests.fuzz.readers import READERS

    counts, faults, first, took = Counter[str](), [], 0, 0.0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        (Path(place) / "seeds").mkdir()
        READERS[reader].seeds(Path(place) / "seeds")
        while took < seconds and len(faults) < _MOST_FAULTS:
            done = _child(reader, seed, first, place, seconds - took)
            counts.update(done["verdicts"])
            faults += done["faults"]
            first, took = done["next"], took + done["seconds"]
    return {
        "reader": reader, "seed": seed, "seconds": round(took, 1), "inputs": sum(counts.values()),
        **{name: counts[name] for name in ("read", "refused", "stopped", "fault")}, "faults": faults,
    }  # fmt: skip


def _child(reader: str, seed: int, first: int, place: str, seconds: float) -> dict[str, Any]:
    """One process until it ends or time, which counts from its first input, is over."""
    command = [sys.executable, "-m", "tests.fuzz.child", reader, str(seed), str(first), str(_MANY), place]
    log = Path(place) / "log"
    verdicts, faults, current, guarded = Counter[str](), [], None, False
    begin = 0.0
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=_ROOT)
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if "input" in event:
                current, guarded, begin = event["input"], False, begin or time.monotonic()
            elif "guarded" in event:
                guarded = event["guarded"]
            else:
                verdicts[event["verdict"]] += 1
                if event["verdict"] == "fault":
                    faults.append({"input": event["number"], "what": event["error"]})
                current = None
                if time.monotonic() - begin > seconds:
                    process.kill()
                    break
        returncode = process.wait()
    following = first + sum(verdicts.values()) + (current is not None)
    if current is not None:
        verdicts["stopped" if guarded else "fault"] += 1
        if not guarded:
            faults.append({"input": current, "what": f"ended with {returncode}: {_tail(log)}"})
    elif not verdicts:
        raise RuntimeError(f"the reader {reader!r} does not start: {_tail(log)}")
    took = time.monotonic() - begin
    return {"verdicts": verdicts, "faults": faults, "next": following, "seconds": took}


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:]


def main() -> int:
    from tests.fuzz.readers import READERS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="of each reader")
    parser.add_argument("--reader", action="append", choices=sorted(READERS), help="all where none is given")
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks" / "results" / "fuzz")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    held = True
    for reader in chosen.reader or sorted(READERS):
        left, seed = chosen.minutes * 60, 0
        while left > 0:
            cell = chosen.out / f"{reader}-{seed:04d}.json"
            if not cell.exists():
                write_cell(cell, run_cell(reader, seed, min(CELL_S, left)))
            found = json.loads(cell.read_text())
            held &= not found["faults"]
            print({name: value for name, value in found.items() if name != "faults"}, flush=True)
            for fault in found["faults"][:5]:
                print(f"  FAULT {reader}/{seed}/{fault['input']}: {fault['what']}", flush=True)
            left, seed = left - max(1.0, found["seconds"]), seed + 1
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
