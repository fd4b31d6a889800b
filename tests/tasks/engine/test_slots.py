"""A slot of a global concurrency limit: one at a time, named where it is missing."""

import threading
import time
import uuid
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

from flows.server.context import Session
from tasks.engine.runtime import fan_out
from tasks.engine.slots import NoSlot, held

INSIDE: list[int] = []
MOST: list[int] = []
LOCK = threading.Lock()


def limit(command: Session, active: bool = True) -> str:
    name = f"gpu-{uuid.uuid4().hex[:8]}"
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=name, limit=1, active=active)
        )
    return name


def note(number: int) -> int:
    with LOCK:
        INSIDE.append(number)
        MOST.append(len(INSIDE))
    time.sleep(0.1)
    with LOCK:
        INSIDE.remove(number)
    return number


@task(persist_result=False)
def compute(number: int, name: str | None) -> int:
    with held(name):
        return note(number)


@flow(persist_result=False)
def three(name: str | None) -> list[int]:
    return fan_out(compute, [{"number": i} for i in range(3)], workers=3, name=name)


def test_one_at_a_time(command: Session) -> None:
    MOST.clear()
    assert command.run(three, None) == [0, 1, 2] and max(MOST) > 1
    MOST.clear()
    assert command.run(three, limit(command)) == [0, 1, 2]
    assert max(MOST) == 1


def test_a_limit_that_is_not_there_is_named(command: Session) -> None:
    with (
        pytest.raises(NoSlot, match=r"gpu_slot=nowhere: .* prefect gcl create nowhere --limit 1"),
        held("nowhere"),
    ):
        pass


def test_without_a_name_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tasks.engine.slots._check", None)
    with held(None):
        pass


def test_the_slot_is_given_back_after_an_error(command: Session) -> None:
    name = limit(command)
    with pytest.raises(RuntimeError, match="no luck"), held(name):
        raise RuntimeError("no luck")
    with held(name):
        pass
