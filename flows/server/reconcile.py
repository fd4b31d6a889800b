"""Tells the truth about what was killed: what Prefect still shows as running becomes Crashed.

A command leaves a record with its process and the tag of its flow runs in `<store>/prefect/commands`, and
takes it away at its end; a kill does not. A flow run that a worker started leaves one with its process and
its id; it stays until the process is gone and `reconcile` has seen that Prefect knows how the run ended. A
worker of `up` leaves one under its name: what it had taken and not yet started is lost with it.
"""

import json
import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.server.children import identity, is_alive, read_record, write_record

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter

logger = logging.getLogger(__name__)

TAG = "command-"
FLOW_RUN = "flow-run-"
WORKER = "worker-"
LABEL = "prefect.worker.name"
"""By which Prefect says on a flow run which worker took it."""
MESSAGE = "The process ended without telling Prefect (killed, or the machine stopped)."
NOT_BEGUN = "The worker that took this run ended before it began; retry it."
PAGE = 200


@contextmanager
def registered(home: Path) -> Iterator[str]:
    """The tag that marks the flow runs of this command; its record in `<store>/prefect/commands` is left by a
    kill."""
    tag = TAG + uuid.uuid4().hex[:12]
    path = _write_record(home, tag)
    try:
        yield tag
    finally:
        path.unlink(missing_ok=True)


def register_worker(home: Path, name: str, pid: int) -> None:
    """Note a worker's process, so that what it takes is not waited for when it is gone. Raises ValueError for
    a name that does not begin with WORKER."""
    if not name.startswith(WORKER):
        raise ValueError(f"{name!r} is no name of a worker; begin it with {WORKER!r}")
    _write_record(home, name, pid)


def _write_record(home: Path, name: str, pid: int | None = None, **facts: int) -> Path:
    return write_record(home / "commands" / f"{name}.json", owner=identity(pid or os.getpid()), **facts)


def supervise(home: Path) -> None:
    """At the start of a flow that a worker started: it is registered, and what killed runs left behind is
    marked. Elsewhere the command does both."""
    from prefect.runtime import deployment, flow_run

    if deployment.id and flow_run.id:
        _write_record(home, f"{FLOW_RUN}{flow_run.id}", attempt=flow_run.run_count)
        reconcile_if_possible(home)


def killed_commands(home: Path) -> list[str]:
    """Tags of commands, `flow-run-ID` of flow runs and names of workers of this machine that are gone."""
    tags = []
    for path in sorted((home / "commands").glob("*.json")):
        if not path.name.startswith((TAG, FLOW_RUN, WORKER)):
            continue
        record, here = read_record(path), socket.gethostname()
        if record.get("machine", here) == here and not is_alive(record.get("owner")):
            tags.append(path.stem)
    return tags


def reconcile(home: Path) -> int:
    """Mark flow and task runs of killed processes Crashed (Cancelled, where that was asked for); how many.

    Needs a Prefect API.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        crashed = 0
        for tag in killed_commands(home):
            record = home / "commands" / f"{tag}.json"
            with suppress(FileNotFoundError):  # another reconcile was faster
                crashed += _end_runs_of(client, tag, _attempt(record))
                record.unlink()
        return crashed + _end_what_ended_runs_left(client)


def reconcile_if_possible(home: Path) -> None:
    """The same where the API answers; else the next one does it."""
    import httpx

    try:
        if crashed := reconcile(home):
            logger.warning("%d runs of killed processes are now marked Crashed", crashed)
    except httpx.HTTPError as error:
        logger.warning("runs of killed processes are looked for again later: %s", error)


def _attempt(record: Path) -> int | None:
    """Which attempt at its flow run the process of a record is, None where that is not known."""
    try:
        return int(json.loads(record.read_text())["attempt"])
    except (ValueError, KeyError, TypeError):
        return None


def _end_runs_of(client: "SyncPrefectClient", tag: str, attempt: int | None) -> int:
    """attempt: which one at its flow run the dead process was; a run that is at a later one is a retry whose
    process has not made its own record yet. (Times do not tell: the clock may have been set.)"""
    if tag.startswith(TAG):
        mine = {"tags": {"all_": [tag]}}
        return _end_task_runs(client, _runs(**mine)) + _end_flow_runs(client, _runs(**mine, state=_open()))
    if tag.startswith(WORKER):
        return _end_not_begun(client, tag)
    try:
        run = uuid.UUID(tag.removeprefix(FLOW_RUN))
    except ValueError:
        return 0
    own = _runs(id={"any_": [run]}, state=_in("RUNNING", "CANCELLING"))
    for found in client.read_flow_runs(flow_run_filter=own):
        if found.state and found.state.is_running() and attempt is not None and found.run_count > attempt:
            return 0
    ended = _end_flow_runs(client, own)
    return ended + _end_below(client, [run]) if ended else 0


def _end_not_begun(client: "SyncPrefectClient", worker: str) -> int:
    """Runs that a dead worker had taken: Pending, they would hold their deployment's only slot for ever."""
    from prefect.states import Crashed

    pending = _runs(state=_in("PENDING"))
    mine = [
        run
        for run in client.read_flow_runs(flow_run_filter=pending, limit=PAGE)
        if run.labels.get(LABEL) == worker
    ]
    for run in mine:
        client.set_flow_run_state(run.id, Crashed(message=NOT_BEGUN), force=True)
    return len(mine)


def _end_what_ended_runs_left(client: "SyncPrefectClient") -> int:
    """Sub-flow and task runs that still run under flow runs which ended by force."""
    by_force = _runs(state=_in("CRASHED", "CANCELLED"))
    open_tasks = client.read_task_runs(flow_run_filter=by_force, task_run_filter=_open_tasks(), limit=PAGE)
    owners = {task_run.flow_run_id for task_run in open_tasks if task_run.flow_run_id}
    return _end_below(client, sorted(owners)) if owners else 0


def _end_below(client: "SyncPrefectClient", flow_runs: list[uuid.UUID]) -> int:
    """Ends the unfinished task runs and sub-flows of flow runs, and theirs."""
    count = 0
    while flow_runs:
        here = _runs(id={"any_": flow_runs})
        below = _runs(parent_flow_run_id={"any_": flow_runs}, state=_open())
        flow_runs = [run.id for run in client.read_flow_runs(flow_run_filter=below, limit=PAGE)]
        count += _end_task_runs(client, here) + _end_flow_runs(client, below)
    return count


def _end_task_runs(client: "SyncPrefectClient", flow_runs: "FlowRunFilter") -> int:
    read = partial(client.read_task_runs, flow_run_filter=flow_runs, task_run_filter=_open_tasks())
    return _end_all(read, client.set_task_run_state)


def _end_flow_runs(client: "SyncPrefectClient", flow_runs: "FlowRunFilter") -> int:
    return _end_all(partial(client.read_flow_runs, flow_run_filter=flow_runs), client.set_flow_run_state)


def _end_all(read: Callable[..., Any], set_state: Callable[..., Any]) -> int:
    """End what is read until there is no more of it; Cancelled, where that was asked for."""
    from prefect.states import Cancelled, Crashed

    count = 0
    while found := read(limit=PAGE):
        for run in found:
            asked = run.state is not None and run.state.is_cancelling()
            state: Any = Cancelled(message="Cancelled.") if asked else Crashed(message=MESSAGE)
            set_state(run.id, state, force=True)
        count += len(found)
    return count


def _runs(**wanted: Any) -> "FlowRunFilter":
    """A filter from plain values."""
    from prefect.client.schemas.filters import FlowRunFilter

    return FlowRunFilter.model_validate(wanted)


def _open_tasks() -> "TaskRunFilter":
    from prefect.client.schemas.filters import TaskRunFilter

    return TaskRunFilter.model_validate({"state": _open()})


def _in(*states: str) -> dict[str, Any]:
    return {"type": {"any_": states}}


def _open() -> dict[str, Any]:
    """All states but those in which a run has ended."""
    from prefect.client.schemas.objects import TERMINAL_STATES, StateType

    return _in(*(state for state in StateType if state not in TERMINAL_STATES))
