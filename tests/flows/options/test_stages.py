"""The table of stages is the only one: what stands elsewhere is made from it or agrees with it."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

from flows.options.pipeline import PipelineOptions, sections
from flows.options.stages import BY_NAME, INTERMEDIATE, STAGES, TABLE, before, up_to
from flows.steps.table import STEPS

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = ("flows", "tasks", "sfm", "retrieval", "storage", "report", "browse", "town")


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_its_steps_and_its_options(stage: str) -> None:
    assert callable(STEPS[stage]) and getattr(import_module(f"flows.{stage}"), stage).name == stage
    assert issubclass(PipelineOptions, sections(stage))
    assert {*BY_NAME[stage].needed, *BY_NAME[stage].opened} <= set(BY_NAME[stage].makes)


def test_every_artifact_is_made_by_one_stage() -> None:
    names = [name for stage in TABLE for name in stage.makes]
    assert len(names) == len(set(names))
    assert set(names) - INTERMEDIATE == {"scene", "training_set", "evaluation"}


def test_what_comes_before_and_up_to_a_stage() -> None:
    assert before("reconstruct") == () and up_to(None) == STAGES
    assert all((*before(stage), stage) == up_to(stage) for stage in STAGES)


def test_the_order_stands_in_no_other_place() -> None:
    """No sequence of the product names three stages, but the table."""
    found = []
    for path in (each for folder in PRODUCT for each in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Tuple | ast.List | ast.Set):
                told = {each.value for each in node.elts if isinstance(each, ast.Constant)}
                if len(told & set(STAGES)) >= 3:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []
