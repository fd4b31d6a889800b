"""Fan-outs, retries and counts."""

import errno
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import flow_run

from flows.server.context import Session
from storage.store.store import NoStore, Store
from tasks.engine.runtime import (
    FanOutFailed,
    fan_out,
    is_transient,
    open_store,
    reset_tallies,
    tallies,
    tally,
)

RUNNING: list[int] = []
MOST: list[int] = []
LOCK = threading.Lock()


@task(persist_result=False)
def work(
    item: int, shift: int = 0, bad: tuple[int, ...] = (), error: type[Exception] = RuntimeError
) -> tuple[int, Any]:
    with LOCK:
        RUNNING.append(item)
        MOST.append(len(RUNNING))
    time.sleep(0.02)
    with LOCK:
        RUNNING.remove(item)
    if item in bad:
        raise error(f"item {item} is bad")
    return item + shift, flow_run.name


@flow(persist_result=False)
def spread(count: int, workers: int, limit: int = 1000, **common: Any) -> list[tuple[int, Any]]:
    return fan_out(work, [{"item": i} for i in range(count)], workers=workers, limit=limit, **common)


def test_results_come_in_order_and_no_more_than_the_workers_run(command: Session) -> None:
    MOST.clear()
    results = command.run(spread, 7, 3, shift=10)
    assert [value for value, _ in results] == list(range(10, 17))
    assert max(MOST) == 3


def test_beyond_the_limit_there_are_sub_flows(command: Session) -> None:
    results = command.run(spread, 7, 2, limit=3)
    assert [value for value, _ in results] == list(range(7))
    flows = [name for _, name in results]
    assert [flows.count(name) for name in dict.fromkeys(flows)] == [3, 3, 1]


def test_nothing_to_do_is_fine(command: Session) -> None:
    assert command.run(spread, 0, 2) == []


def test_the_others_end_when_one_fails(command: Session) -> None:
    MOST.clear()
    with pytest.raises(FanOutFailed, match=r"2 of 6 work tasks failed.*item 1 is bad") as caught:
        command.run(spread, 6, 2, bad=(1, 4))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(MOST) == 6


def test_tolerated_errors_leave_their_results_out(command: Session, caplog: pytest.LogCaptureFixture) -> None:
    results = command.run(spread, 4, 2, bad=(1,), error=LookupError, tolerated=LookupError)
    assert [value for value, _ in results] == [0, 2, 3]
    assert "left out: item 1 is bad" in caplog.text
    with pytest.raises(FanOutFailed, match="item 1 is bad"):
        command.run(spread, 4, 2, bad=(1,), error=RuntimeError, tolerated=LookupError)


def test_every_failed_task_is_named(command: Session) -> None:
    with pytest.raises(FanOutFailed, match=r"first: .*item 1 is bad.*; then: item 4 is bad"):
        command.run(spread, 6, 2, bad=(1, 4))


def test_an_error_of_the_user_is_raised_as_it_is(command: Session) -> None:
    with pytest.raises(ValueError, match="item 1 is bad"):
        command.run(spread, 3, 2, bad=(1,), error=ValueError)


def test_workers_must_be_some() -> None:
    with pytest.raises(ValueError, match="workers=0"):
        fan_out(work, [], workers=0)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EIO, "input/output error"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (BrokenProcessPool(), True),
        (ValueError(), False),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (OSError(errno.ENOSPC, "no space left on device"), False),
        (KeyError(), False),
        (MemoryError(), False),
        (None, False),
    ],
)
def test_what_is_tried_again(error: Exception | None, expected: bool) -> None:
    assert is_transient(work, None, State(type=StateType.FAILED, data=error)) is expected  # type: ignore[arg-type]


def test_an_error_that_is_both_is_the_users() -> None:
    class PhotographChanged(ValueError, OSError):
        pass

    assert not is_transient(work, None, State(type=StateType.FAILED, data=PhotographChanged()))  # type: ignore[arg-type]


def test_a_store_is_opened_once_per_path(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "a", min_free_bytes=0)
    assert open_store(store.root) is open_store(str(store.root))
    with pytest.raises(NoStore, match="store init"):
        open_store(tmp_path / "b")


def test_counts_are_per_stage() -> None:
    reset_tallies()
    for stage, outcome in [("scene", "run"), ("pairs", "cached"), ("scene", "cached"), ("scene", "run")]:
        tally(stage, outcome)  # type: ignore[arg-type]
    assert tallies() == {"scene": {"cached": 1, "run": 2}, "pairs": {"cached": 1, "run": 0}}
    reset_tallies()
    assert tallies() == {}
