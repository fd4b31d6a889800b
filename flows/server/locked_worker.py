"""Prefect's process worker, for our own runs only: the flows of prefect.yaml, started as Prefect starts them.

The work pool of `up` has no variables, so its server refuses a run that brings a command, an environment or
a folder of its own. This is the second line, for a pool or a deployment that was changed afterwards: such a
run is refused here, and becomes Crashed with the reason.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

import yaml
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows.server.deployments import FILE, repository

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

CHANGES = ("command", "env", "working_dir")
PULL = "prefect.deployments.steps.set_working_directory"


class RunRefused(ValueError):
    """A run that is not one of ours."""


class LockedConfiguration(ProcessJobConfiguration):
    """How a run is started: as Prefect does it, in this repository, and in no other way."""

    def prepare_for_flow_run(
        self, flow_run: "FlowRun", deployment: "DeploymentResponse | None" = None, *others: Any, **more: Any
    ) -> None:
        """Prefect's own, for what is ours. Raises RunRefused."""
        if changed := [name for name in CHANGES if getattr(self, name)]:
            raise RunRefused(
                f"the run brings its own {', '.join(changed)}, and here the flows of {FILE} run only; "
                "start `up` again, which mends the work pool, and run without job variables"
            )
        check_deployment(deployment)
        super().prepare_for_flow_run(flow_run, deployment, *others, **more)


def lock() -> None:
    """From here on, the process workers of this process run what is ours and nothing else."""
    ProcessWorker.job_configuration = LockedConfiguration


def check_deployment(deployment: "DeploymentResponse | None") -> None:
    """Whether a deployment is one of prefect.yaml, unchanged. Raises RunRefused."""
    if deployment is None:
        raise RunRefused("the run is of no deployment; use a work pool and a worker of your own for it")
    if deployment.entrypoint not in entrypoints():
        raise RunRefused(
            f"deployment {deployment.name!r} runs {deployment.entrypoint!r}, which {FILE} does not have; "
            "use a work pool and a worker of your own for it"
        )
    if deployment.pull_steps != [{PULL: {"directory": str(repository())}}]:
        raise RunRefused(
            f"deployment {deployment.name!r} prepares its runs in a way that is not that of {FILE} in "
            f"{repository()}; start `up` again, which mends it"
        )


@cache
def entrypoints() -> frozenset[str]:
    """FILE:FUNCTION of every deployment in prefect.yaml."""
    found = yaml.safe_load((repository() / FILE).read_text(encoding="utf-8"))
    return frozenset(each["entrypoint"] for each in found["deployments"])
