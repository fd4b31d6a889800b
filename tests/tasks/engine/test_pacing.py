"""The server gets the time that it needs to record; a large fan-out is recorded to the last task."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import flow, task
from prefect.runtime import flow_run

from flows.server.context import Session
from tasks.engine import pacing
from tasks.engine.pacing import recorded, until_recorded

ROOT = Path(__file__).resolve().parents[3]
RUN = uuid.uuid4()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes while it is waited for."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(pacing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pacing.time, "sleep", sleep)
    return now


def counts(*values: int) -> Callable[[uuid.UUID], int]:
    """One value after the other, the last for ever."""
    left = list(values)
    return lambda run: left.pop(0) if len(left) > 1 else left[0]


def test_it_waits_until_all_are_recorded(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "recorded", counts(1, 1, 2, 3, 4))
    until_recorded(RUN, 3)
    assert clock[0] == pytest.approx(3 * pacing.POLL_S)


def test_it_gives_up_where_nothing_more_comes(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pacing, "recorded", counts(1, 2))
    until_recorded(RUN, 3)
    assert pacing.STALL_S < clock[0] < pacing.STALL_S + 1
    assert "recorded 2 of 3 task runs and records no more" in caplog.text


def test_a_server_that_does_not_answer_is_not_waited_for(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: uuid.UUID) -> int:
        raise httpx.ConnectError("nobody there")

    monkeypatch.setattr(pacing, "recorded", refuse)
    until_recorded(RUN, 3)
    assert clock[0] == 0


def test_ended_task_runs_of_one_flow_run_are_counted(command: Session) -> None:
    @task(persist_result=False)
    def end(number: int) -> int:
        return number

    @flow(persist_result=False)
    def some(count: int) -> str:
        for number in range(count):
            end(number)
        return str(flow_run.get_id())

    runs: list[Any] = [command.run(some, count) for count in (3, 2)]
    for run, count in zip(runs, (3, 2), strict=True):
        until_recorded(uuid.UUID(run), count)
        assert recorded(uuid.UUID(run)) == count


def test_a_dry_run_in_sub_flows_is_recorded_to_the_last_task() -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fan_out_size", "--tasks", "700", "--limit", "300"],
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "700 tasks in 3 sub-flows of at most 300" in done.stdout
    assert "recorded: {'Completed': 700}" in done.stdout
