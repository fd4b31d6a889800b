"""What `retrieval-sfm up` tells its server: the work pool, the deployments of prefect.yaml, the automation
that notices runs which have fallen silent. Needs a Prefect API.

A deployment is made anew from prefect.yaml at every start; what a person changed in the UI (schedules,
default parameters, whether it is paused) is kept.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.server.children import ROOT
from flows.server.settings import HEARTBEAT_S

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

logger = logging.getLogger(__name__)

POOL = "retrieval-sfm"
AUTOMATION = "retrieval-sfm: silent runs have crashed"
SILENCE_S = 3 * HEARTBEAT_S
FILE = "prefect.yaml"
NAMED = ("store", "photos")
TEMPLATE: dict[str, Any] = {
    "job_configuration": {"stream_output": True},
    "variables": {"type": "object", "properties": {}, "additionalProperties": False},
}
"""How a run is started, with nothing that a run or a deployment could change: Prefect's own template lets any
run bring its command, environment and folder. `env` is not even named: Prefect merges into one that is there.
"""


class DeploymentsFailed(RuntimeError):
    """prefect.yaml is not there or was refused."""


def repository() -> Path:
    """The folder with prefect.yaml and the flows. Raises DeploymentsFailed."""
    if not (ROOT / FILE).is_file():
        raise DeploymentsFailed(f"{ROOT / FILE} is not there; install from a checkout: pip install -e .")
    return ROOT


def install(environment: Mapping[str, str]) -> list[str]:
    """Make the pool, the deployments and the automation; the deployments' names. Safe to repeat.

    environment: variables of `prefect deploy`, such as RETRIEVAL_SFM_STORE. Raises DeploymentsFailed.
    """
    from prefect.client.orchestration import get_client

    root = repository()
    with get_client(sync_client=True) as client:
        _make_pool(client)
        before = {each.name: each for each in _deployments(client)}
        _deploy(root, environment)
        after = _deployments(client)
        for each in after:
            if each.name in before:
                _restore(client, each, before[each.name])
        _make_automation(client)
    return sorted(each.name for each in after)


def _make_pool(client: "SyncPrefectClient") -> None:
    """The pool; one of type process that is there already, older or changed, is locked again."""
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists

    pool = WorkPoolCreate(
        name=POOL, type="process", description="runs of retrieval-sfm", base_job_template=TEMPLATE
    )
    try:
        client.create_work_pool(pool)
    except ObjectAlreadyExists:
        found = client.read_work_pool(POOL)
        if found.type == "process" and found.base_job_template != TEMPLATE:
            client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=TEMPLATE))


def _deploy(root: Path, environment: Mapping[str, str]) -> None:
    """`prefect deploy --all` with the file of this repository. Raises DeploymentsFailed with its last
    lines."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, **environment, "RETRIEVAL_SFM_ROOT": str(root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        told = (done.stderr + done.stdout).strip().splitlines()[-20:]
        raise DeploymentsFailed("\n".join([f"{' '.join(command[1:])} ended with {done.returncode}", *told]))


def _deployments(client: "SyncPrefectClient") -> "list[DeploymentResponse]":
    from prefect.client.schemas import filters

    pool = filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[POOL]))
    return client.read_deployments(work_pool_filter=pool)


def _restore(
    client: "SyncPrefectClient", deployment: "DeploymentResponse", kept: "DeploymentResponse"
) -> None:
    """Schedules as they were, new ones of prefect.yaml beside them; parameters as they were, but those that
    this start names, and those that the flow no longer has."""
    from prefect.client.schemas.actions import DeploymentScheduleUpdate, DeploymentUpdate

    has = deployment.parameter_openapi_schema or {}
    named = {name: deployment.parameters[name] for name in NAMED if name in deployment.parameters}
    parameters = {name: value for name, value in kept.parameters.items() if name in has.get("properties", {})}
    known = {schedule.slug for schedule in kept.schedules if schedule.slug}
    schedules = [*kept.schedules, *(each for each in deployment.schedules if each.slug not in known)]
    client.update_deployment(
        deployment.id,
        DeploymentUpdate(
            parameters={**deployment.parameters, **parameters, **named},
            paused=kept.paused,
            schedules=[
                DeploymentScheduleUpdate(
                    schedule=each.schedule, active=each.active, parameters=each.parameters, slug=each.slug
                )
                for each in schedules
            ],
        ),
    )


def _make_automation(client: "SyncPrefectClient") -> None:
    """Flow runs that fall silent for SILENCE_S become Crashed, wherever their worker was."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    beat = "prefect.flow-run.heartbeat"
    ends = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")}
    automation = AutomationCore(
        name=AUTOMATION,
        description=f"A run that says nothing for {SILENCE_S} s has lost its process or its machine.",
        enabled=True,
        trigger=EventTrigger(
            after={beat},
            expect={beat, *ends},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},  # type: ignore[arg-type]
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE_S),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message=f"No sign of life for {SILENCE_S} s; the worker is lost."
            )
        ],
    )
    found = client.read_automations_by_name(AUTOMATION)
    if found:
        client.update_automation(found[0].id, automation)
    else:
        client.create_automation(automation)
