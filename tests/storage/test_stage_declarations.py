"""Every stage declares all first-party modules and third-party packages that its code imports.

A forgotten one would leave results of old code in the cache for good.
"""

from __future__ import annotations

import ast
import importlib
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import pytest

from storage.source import FIRST_PARTY, first_party_closure, runtime_nodes, source_path
from storage.stages import Stage

REPOSITORY = Path(__file__).resolve().parents[2]
# Declarations, validation, process control, progress and logs: they do not make the numbers.
WITHOUT_INFLUENCE = {"pydantic", "pydantic-core", "psutil", "rich", "typing-extensions", "pyyaml"}
OURS = {"storage", *FIRST_PARTY}


def declaring_modules() -> list[str]:
    """Modules of sfm and retrieval that declare a STAGE, found without importing them."""
    found = []
    for package in FIRST_PARTY:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            targets = [
                target.id
                for node in ast.parse(path.read_text()).body
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name)
            ]
            if "STAGE" in targets:
                found.append(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
    return found


def stage_of(module: str) -> Stage:
    stage = importlib.import_module(module).STAGE
    assert isinstance(stage, Stage)
    return stage


@lru_cache(maxsize=1)
def distributions() -> dict[str, list[str]]:
    return {top: list(names) for top, names in metadata.packages_distributions().items()}


def third_party(module: str) -> set[str]:
    """Normalised names of the distributions that a module imports, unless for types only."""
    tops: set[str] = set()
    for node in runtime_nodes(ast.parse(source_path(module).read_text())):
        if isinstance(node, ast.Import):
            tops |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            tops.add(node.module.split(".")[0])
    found = set()
    for top in tops - OURS - sys.stdlib_module_names:
        found |= {name.lower().replace("_", "-") for name in distributions().get(top, [top])}
    return found - WITHOUT_INFLUENCE


def test_there_are_stages():
    assert declaring_modules()


@pytest.mark.parametrize("module", declaring_modules())
def test_all_first_party_imports_are_declared(module):
    declared = set(stage_of(module).modules)
    needed = set(first_party_closure(module)).union(*(first_party_closure(name) for name in declared))
    assert sorted(needed - declared) == [], f"{module}.STAGE.modules lacks these"


@pytest.mark.parametrize("module", declaring_modules())
def test_all_third_party_imports_are_declared(module):
    stage = stage_of(module)
    needed = set().union(*(third_party(name) for name in stage.modules))
    declared = {name.lower().replace("_", "-") for name in stage.packages}
    assert sorted(needed - declared) == [], f"{module}.STAGE.packages lacks these"


def test_stage_names_are_unique():
    names = [stage_of(module).name for module in declaring_modules()]
    assert len(names) == len(set(names))


def test_selection_does_not_depend_on_how_a_scene_is_made():
    """An edit of sfm/scene.py must leave everything after the scene cached."""
    if "sfm.selection" not in declaring_modules():
        pytest.skip("no selection stage")
    assert "sfm.scene" not in stage_of("sfm.selection").modules
