"""prefect.yaml: every deployment leads to a flow whose parameters render as a form."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from flows.options.pipeline import sections_of
from flows.options.stages import STAGES

REPOSITORY = Path(__file__).resolve().parents[3]
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]


def flow_of(deployment: dict[str, Any]) -> Flow[..., Any]:
    path, name = deployment["entrypoint"].split(":")
    found = getattr(import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(found, Flow)
    return found


def test_every_stage_and_the_whole_have_a_deployment_of_their_own() -> None:
    assert sorted(deployment["name"] for deployment in DEPLOYMENTS) == sorted(
        ["end-to-end", "benchmark", *STAGES]
    )
    assert all(deployment["description"] for deployment in DEPLOYMENTS)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_the_parameters_of_a_deployment_have_a_schema(deployment: dict[str, Any]) -> None:
    schema = parameter_schema(flow_of(deployment)).model_dump()
    assert "store" in schema["properties"]
    assert "store" in schema["required"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_form_of_a_stage_holds_its_own_options_only(stage: str) -> None:
    deployment = next(each for each in DEPLOYMENTS if each["name"] == stage)
    definitions = parameter_schema(flow_of(deployment)).model_dump()["definitions"]
    sections = [name for name in definitions if name.endswith("Sections")]
    assert len(sections) == 1
    assert tuple(definitions[sections[0]]["properties"]) == sections_of(stage)


def test_schedules_are_there_and_inactive() -> None:
    schedules = [each for deployment in DEPLOYMENTS for each in deployment.get("schedules", [])]
    assert schedules
    assert not any(each["active"] for each in schedules)
