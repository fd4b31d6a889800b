"""A dry run of a fan-out of many small tasks: is every task run recorded, and what does it cost?

    python -m benchmarks.fan_out_size [--tasks 100000] [--limit 1000] [--workers 4]

Each task returns a made-up reference, as a stage task does that is answered from the cache; sub-flows have at
most `--limit` of them. Exit code 1 if a task run is missing or has not ended in Prefect's records.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.server.context import session


@dataclass(frozen=True)
class Outcome:
    """tasks: asked for; results: of them in order and right; recorded: task runs by state; seconds: wall."""

    tasks: int
    results: int
    recorded: Counter[str]
    seconds: float
    sub_flows: int

    @property
    def complete(self) -> bool:
        return self.results == self.tasks and self.recorded == Counter({"Completed": self.tasks})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Is every task run of a large fan-out recorded?")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--limit", type=int, default=1000, help="task runs in one sub-flow")
    parser.add_argument("--workers", type=int, default=4)
    asked = parser.parse_args(arguments)
    outcome = dry_run(asked.tasks, asked.limit, asked.workers)
    each = 1000 * outcome.seconds / max(1, outcome.tasks)
    print(f"{outcome.tasks} tasks in {outcome.sub_flows} sub-flows of at most {asked.limit}")
    print(f"{outcome.seconds:.0f} s, {each:.1f} ms each; results in order: {outcome.results}")
    print(f"recorded: {dict(outcome.recorded)}")
    return 0 if outcome.complete else 1


def dry_run(tasks: int, limit: int, workers: int) -> Outcome:
    """The fan-out on a temporary server, whose records are read when it has ended."""
    with tempfile.TemporaryDirectory(prefix="fan-out-") as folder:
        with session(Path(folder), log_level="WARNING") as command:
            command.open()
            began = time.monotonic()
            refs = command.run(made_up(limit, workers), tasks)
            seconds = time.monotonic() - began
        right = sum(ref.key == f"{number:064x}" for number, ref in enumerate(refs))
        recorded, sub_flows = records(Path(folder) / "prefect" / "prefect.db")
    return Outcome(tasks, right, recorded, seconds, sub_flows)


def made_up(limit: int, workers: int) -> Callable[[int], Any]:
    """A flow of that many tasks, each of which makes up a reference."""
    from prefect import flow, task

    from storage.keys.artifacts import ArtifactRef
    from tasks.engine.runtime import fan_out

    @task(name="made_up", persist_result=False)
    def reference(number: int) -> ArtifactRef:
        key = f"{number:064x}"
        path = f"made_up/{key[-16:]}"
        return ArtifactRef(
            stage="made_up", key=key, path=path, file_sha256=key, content_sha256=key, bytes=number
        )

    @flow(name="fan_out_size", persist_result=False)
    def many(tasks: int) -> list[ArtifactRef]:
        calls = [{"number": number} for number in range(tasks)]
        return fan_out(reference, calls, workers=workers, limit=limit)

    return many


def records(database: Path) -> tuple[Counter[str], int]:
    """Task runs by state (those that stand for sub-flows left out), and how many sub-flows there were."""
    with closing(sqlite3.connect(database)) as opened:
        stand_ins = "select parent_task_run_id from flow_run where parent_task_run_id is not null"
        rows = opened.execute(
            f"select state_name, count(*) from task_run where id not in ({stand_ins}) group by 1"
        ).fetchall()
        (sub_flows,) = opened.execute(f"select count(*) from ({stand_ins})").fetchone()
    return Counter(dict(rows)), sub_flows


if __name__ == "__main__":
    sys.exit(main())
