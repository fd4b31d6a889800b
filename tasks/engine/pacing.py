"""Waits for Prefect's server to take up what a sub-flow has reported, before the next one reports more.

The server queues at most 10,000 reports in memory and drops the rest (PrefectHQ/prefect#19136); tasks that
are cached report faster than it records.
"""

import logging
import time
from uuid import UUID

import httpx

logger = logging.getLogger(__name__)

POLL_S = 0.25
STALL_S = 20.0


def until_recorded(run: UUID, tasks: int) -> None:
    """Returns when the server shows `tasks` ended task runs of a flow run, or no more of them for STALL_S.

    Nothing but the pace depends on it: what a run made is in the references that its tasks return.
    """
    most, since = -1, time.monotonic()
    while True:
        try:
            count = recorded(run)
        except httpx.HTTPError as error:
            logger.warning("the server does not say what it has recorded: %s", error)
            return
        if count >= tasks:
            return
        if count > most:
            most, since = count, time.monotonic()
        elif time.monotonic() - since > STALL_S:
            logger.warning("the server has recorded %d of %d task runs and records no more", count, tasks)
            return
        time.sleep(POLL_S)


def recorded(run: UUID) -> int:
    """How many task runs of a flow run the server shows as ended."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import TERMINAL_STATES

    ended = {"state": {"type": {"any_": sorted(state.value for state in TERMINAL_STATES)}}}
    with get_client(sync_client=True) as client:
        answer = client._client.post(
            "/task_runs/count", json={"flow_runs": {"id": {"any_": [str(run)]}}, "task_runs": ended}
        )
        answer.raise_for_status()
        return int(answer.json())
