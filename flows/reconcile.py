"""Tells the truth about commands that were killed: what Prefect still shows as running becomes Crashed."""

import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.server import identity, is_alive

TAG = "command-"


@contextmanager
def registered(home: Path) -> Iterator[str]:
    """The tag that marks the flow runs of this command; its record in `<store>/prefect/commands` is left by a
    kill."""
    tag = TAG + uuid.uuid4().hex[:12]
    path = home / "commands" / f"{tag}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"owner": identity(os.getpid()), "machine": socket.gethostname()}))
    os.replace(temporary, path)
    try:
        yield tag
    finally:
        path.unlink(missing_ok=True)


def killed_commands(home: Path) -> list[str]:
    """Tags of commands of this machine that ended without saying so."""
    tags = []
    for path in sorted((home / "commands").glob(f"{TAG}*.json")):
        try:
            record = json.loads(path.read_text())
            gone = record["machine"] == socket.gethostname() and not is_alive(record["owner"])
        except (OSError, ValueError, KeyError, TypeError):
            gone = True
        if gone:
            tags.append(path.stem)
    return tags


def reconcile(home: Path) -> int:
    """Mark flow and task runs of killed commands Crashed; how many. Needs a Prefect API."""
    tags = killed_commands(home)
    crashed = sum(_crash_runs(tag) for tag in tags)
    for tag in tags:
        (home / "commands" / f"{tag}.json").unlink(missing_ok=True)
    return crashed


def _crash_runs(tag: str) -> int:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import TERMINAL_STATES, StateType
    from prefect.states import Crashed

    unfinished = [state for state in StateType if state not in TERMINAL_STATES]
    flow_runs = filters.FlowRunFilter(tags=filters.FlowRunFilterTags(all_=[tag]))
    open_flow_runs = flow_runs.model_copy(
        update={"state": filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=unfinished))}
    )
    open_task_runs = filters.TaskRunFilter(
        state=filters.TaskRunFilterState(type=filters.TaskRunFilterStateType(any_=unfinished))
    )
    message = "The command ended without telling Prefect (killed, or the machine stopped)."
    count = 0
    with get_client(sync_client=True) as client:
        while task_runs := client.read_task_runs(
            flow_run_filter=flow_runs, task_run_filter=open_task_runs, limit=200
        ):
            for task_run in task_runs:
                client.set_task_run_state(task_run.id, Crashed(message=message), force=True)
            count += len(task_runs)
        while open_runs := client.read_flow_runs(flow_run_filter=open_flow_runs, limit=200):
            for flow_run in open_runs:
                client.set_flow_run_state(flow_run.id, Crashed(message=message), force=True)
            count += len(open_runs)
    return count
