"""`kill -9` of a part of `retrieval-sfm up` in the middle of reconstruct: flow process, worker, server.

    python -m tests.crash.kill_served [PHOTOS] [--seed 0]

Then: nothing that was finished is made again, the next run gives what an undisturbed one gives, and neither a
flow run nor a task run stays Running. About two minutes on two idle cores. Exit code 1 if something did not
hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.acceptance_runs import Checks, content_digests, differing, sidecars, small_town
from storage.files import whole
from storage.store import ledger
from storage.store.store import Store
from tests.ui.served import SMALL, Served, below, start, wait_until

VICTIMS = ("flow process", "worker", "server")
SILENCE_LIMIT_S = 180.0
RUN_LIMIT_S = 600.0
CALL = {"options": SMALL, "until": "reconstruct"}
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass(frozen=True)
class Calm:
    """What an undisturbed run gives. made: its artifacts, in the order in which they were made."""

    made: list[str]
    digests: dict[str, list[str]]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="kill -9 of a part of `up` in the middle of reconstruct.")
    parser.add_argument("photos", nargs="?", type=Path, help="folder of photographs; none: a small town")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args(arguments)
    checks, moments = Checks(), random.Random(asked.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        root = Path(folder)
        photos = asked.photos.absolute() if asked.photos else small_town(root / "photos")
        calm = undisturbed(root / "calm", photos)
        checks.add("undisturbed run", True, f"{len(calm.made)} artifacts")
        for victim in VICTIMS:
            wanted = moments.randint(3, len(calm.made) - 4)
            one_kill(checks, root / victim.replace(" ", "-"), photos, victim, wanted, calm)
    return checks.finish(f"{len(VICTIMS)} kills under `up`")


def undisturbed(store: Path, photos: Path) -> Calm:
    with Up(store, photos) as up:
        finish(up.served, begin(up.served))
    made = sidecars(store)
    return Calm(sorted(made, key=made.__getitem__), digests(store))


class Up:
    """`up` on a store while the block lasts; Ctrl-C at its end, after which no process may be left."""

    def __init__(self, store: Path, photos: Path) -> None:
        self.served = start(store, photos)

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *error: object) -> None:
        if self.served.process.poll() is None:
            self.served.process.send_signal(signal.SIGINT)
        self.served.process.wait(90)
        wait_until(lambda: not below(self.served.mark), 10, f"{self.served.store}: no process is left")


def one_kill(checks: Checks, store: Path, photos: Path, victim: str, wanted: int, calm: Calm) -> None:
    """Kill after `wanted` artifacts; wait for the truth; run again; judge."""
    with ExitStack() as stack:
        up = stack.enter_context(Up(store, photos))
        run = begin(up.served)
        wait_until(lambda: len(sidecars(store)) >= wanted, RUN_LIMIT_S, f"{wanted} artifacts")
        os.kill(pid_of(up.served, victim), signal.SIGKILL)
        began, done = time.monotonic(), sidecars(store)
        if victim == "server":  # `up` ends with its server, and says so
            code = up.served.process.wait(90)
            checks.add(f"{victim}: up ended", code == 1, f"exit code {code}")
            up = stack.enter_context(Up(store, photos))
        open_ = until_told(up.served)
        state = str(up.served.run(run).state_name)
        told = f"{state} after {time.monotonic() - began:.0f} s; still open: {', '.join(open_) or 'none'}"
        checks.add(f"{victim}: Prefect tells the truth", not open_ and state == "Crashed", told)
        finish(up.served, begin(up.served))
    judge(checks, store, victim, done, calm)


def judge(checks: Checks, store: Path, victim: str, done: dict[str, str], calm: Calm) -> None:
    now = sidecars(store)
    again = differing(done, {path: now.get(path) for path in done})
    other = differing(digests(store), calm.digests)
    left = list(store.glob(f"*/{whole.TEMPORARY}*"))
    figures = f"{len(done)} of {len(calm.made)} artifacts were done, {len(again)} of them made again; "
    figures += f"other content: {', '.join(other) or 'none'}; unfinished files: {len(left)}"
    checks.add(f"{victim}: next run", not again and not other and not left, figures)


def begin(served: Served) -> uuid.UUID:
    """Start a run up to reconstruct; its id."""
    deployment = served.deployment("end-to-end")
    with served.client() as client:
        return client.create_flow_run_from_deployment(deployment.id, parameters=CALL).id


def finish(served: Served, run: uuid.UUID) -> None:
    """Wait for a run to complete."""

    def over() -> bool:
        state = served.run(run).state
        return state is not None and state.type.value in ENDED

    wait_until(over, RUN_LIMIT_S, "the run ends")
    assert served.run(run).state_name == "Completed", served.run(run).state


def until_told(served: Served) -> list[str]:
    """Flow and task runs that are still open when all should have been told: [] where that was in time."""
    deadline = time.monotonic() + SILENCE_LIMIT_S
    while (found := still_open(served)) and time.monotonic() < deadline:
        time.sleep(1.0)
    return found


def still_open(served: Served) -> list[str]:
    """Names and states of runs that have not ended."""
    with served.client() as client:
        found: list[Any] = [*client.read_flow_runs(limit=200), *client.read_task_runs(limit=200)]
    return [f"{each.name} {each.state_name}" for each in found if each.state.type.value not in ENDED]


def pid_of(served: Served, victim: str) -> int:
    """The process to kill."""
    if victim == "flow process":
        (record,) = (served.store / "prefect" / "commands").glob("flow-run-*.json")
        return int(json.loads(record.read_text())["owner"]["pid"])
    module = "flows.server.worker_process" if victim == "worker" else "flows.server.process"
    return next(each.pid for each in served.below() if module in each.cmdline())


def digests(store: Path) -> dict[str, list[str]]:
    """Content digests of the newest completed run."""
    return content_digests(ledger.load(Store.open(store), "latest"))


if __name__ == "__main__":
    sys.exit(main())
