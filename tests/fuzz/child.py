"""Gives one mutation after another to a reader. What the campaign starts, watches and starts again.

    python -m tests.fuzz.child READER SEED FIRST LAST SCRATCH

One line of JSON per event on standard output: an input begins, a guarded call in it begins and ends, its
verdict. A crash or a hang ends this process; the lines say in which input, and whether it was guarded.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import storage.outside.guarded
from storage.files.errors import DamagedArtifact
from tests.fuzz.mutations import mutated

HANG_S = 5.0
MEMORY_BYTES = 2 << 30


def say(**event: Any) -> None:
    """One line to the campaign."""
    os.write(_REPORTS, (json.dumps(event) + "\n").encode())


def read_here(function: str, path: Path, *arguments: Any, step_s: float | None = 3.0, **named: Any) -> Any:
    """In the place of `storage.outside.read_outside`: here, or every input would need a process."""
    module, _, name = function.partition(":")
    say(guarded=True)
    called = getattr(import_module(module), name)
    try:
        return called(path, *arguments, **({"watch": _progress} if step_s else {}), **named)
    except (MemoryError, RecursionError) as error:
        raise DamagedArtifact(f"{path}: {type(error).__name__}") from None
    finally:
        say(guarded=False)


def _progress(text: str) -> None:
    signal.setitimer(signal.ITIMER_PROF, HANG_S)


def verdict(read: Any, path: Path) -> tuple[str, str]:
    """("read" or "refused" or "fault", what was raised)."""
    try:
        read(path)
        return "read", ""
    except Exception as error:
        text = f"{type(error).__module__}.{type(error).__name__}: {error}"[:600]
        known = isinstance(error, ValueError) and type(error).__module__.split(".")[0] in _OURS
        names = path.name in str(error) or path.parent.name in str(error)
        return ("refused" if known and names else "fault"), text


_OURS = ("storage", "sfm", "retrieval", "flows")


def main(reader: str, seed: str, first: str, last: str, scratch: str) -> None:
    storage.outside.guarded.read_outside = read_here  # before what is read imports it
    from tests.fuzz.readers import READERS

    chosen, folder = READERS[reader], Path(scratch)
    seeds = _seeds(folder / "seeds")
    _limit_memory()
    for number in range(int(first), int(last)):
        path = write_input(seeds, chosen.kind, f"{reader}/{seed}/{number}", folder / "input")
        say(input=number)
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        what, error = verdict(chosen.read, path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if what == "refused" and "MemoryError" in error:
            what = "stopped"
        say(number=number, verdict=what, **({"error": error} if what == "fault" else {}))


def _seeds(folder: Path) -> list[dict[str, bytes]]:
    """{relative name: content} of each seed."""
    found = []
    for path in sorted(folder.iterdir()):
        files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
        found.append({each.relative_to(folder).as_posix(): each.read_bytes() for each in files})
    return found


def write_input(seeds: list[dict[str, bytes]], kind: str, key: str, folder: Path) -> Path:
    """The input of a key, the same whenever it is written; where it is."""
    chance = random.Random(key)
    seed = chance.choice(seeds)
    name = chance.choice(sorted(seed))
    alike = [each[name] for each in seeds if name in each]
    if len(seed) == 1:
        alike += [
            next(iter(each.values())) for each in seeds if Path(next(iter(each))).suffix == Path(name).suffix
        ]
        alike = [seed[name]] * len(alike) + alike
    content = mutated(alike, kind, chance)
    shutil.rmtree(folder, ignore_errors=True)
    for each, original in seed.items():
        target = folder / each
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if each == name else original)
    return folder / name.split("/")[0]


def _limit_memory() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_BYTES, resource.RLIM_INFINITY))


if __name__ == "__main__":
    _REPORTS = os.dup(1)
    os.dup2(2, 1)
    main(*sys.argv[1:])
