"""The worker of `up` runs what prefect.yaml names, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows.server.deployments import TEMPLATE, repository
from flows.server.locked_worker import PULL, LockedConfiguration, RunRefused, check_deployment, entrypoints


def deployment(**changes: Any) -> Any:
    steps = [{PULL: {"directory": str(repository())}}]
    ours = {"name": "whiten", "entrypoint": "flows/whiten.py:whiten", "pull_steps": steps}
    return SimpleNamespace(**{**ours, **changes})


@pytest.mark.parametrize("name", ["command", "env", "working_dir"])
def test_a_run_that_brings_its_own_is_refused(name: str) -> None:
    brought: dict[str, Any] = {"command": "touch x", "env": {"PATH": "/tmp"}, "working_dir": "/tmp"}
    found = LockedConfiguration(**{name: brought[name]})
    with pytest.raises(RunRefused, match=f"brings its own {name}"):
        found.prepare_for_flow_run(SimpleNamespace(), deployment())


@pytest.mark.parametrize(
    "changes",
    [
        {"entrypoint": "/tmp/evil.py:main"},
        {"entrypoint": None},
        {"pull_steps": None},
        {"pull_steps": [{PULL: {"directory": "/tmp"}}]},
        {"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "touch x"}}]},
    ],
)
def test_a_deployment_that_is_not_ours_is_refused(changes: dict[str, Any]) -> None:
    check_deployment(deployment())
    with pytest.raises(RunRefused, match="'whiten'"):
        check_deployment(deployment(**changes))
    with pytest.raises(RunRefused, match="of no deployment"):
        check_deployment(None)
    assert "flows/end_to_end.py:end_to_end" in entrypoints()


def test_the_pool_has_nothing_to_fill_in() -> None:
    assert "{{" not in str(TEMPLATE) and TEMPLATE["variables"]["additionalProperties"] is False
    assert not {"command", "env", "working_dir"} & set(TEMPLATE["job_configuration"])
