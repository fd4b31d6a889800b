"""What the code of every stage is, and that it declares all third-party packages that its code imports.

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

from storage.keys.code import closure, code_digests, runtime_nodes, source_path
from storage.keys.stages import Stage

REPOSITORY = Path(__file__).resolve().parents[2]
# Declarations, validation, process control, progress and logs: they do not make the numbers.
WITHOUT_INFLUENCE = {"pydantic", "pydantic-core", "psutil", "rich", "typing-extensions", "pyyaml"}
OURS = {"storage", "sfm", "retrieval"}
DECLARING = ("sfm", "retrieval", "tasks")


def is_stage(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Stage"


def declarations() -> list[tuple[str, str]]:
    """(module, name) of every `NAME = Stage(...)`, found without importing; none may hide elsewhere."""
    found = []
    for package in DECLARING:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            tree = ast.parse(path.read_text())
            names = [
                target.id
                for node in tree.body
                if isinstance(node, ast.Assign | ast.AnnAssign) and is_stage(node.value)
                for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
                if isinstance(target, ast.Name)
            ]
            hidden = sum(map(is_stage, ast.walk(tree))) - len(names)
            assert hidden == 0, f"{module} makes a Stage that is not a name of the module"
            found += [(module, name) for name in names]
    return found


def stage_of(module: str, name: str) -> Stage:
    stage = getattr(importlib.import_module(module), name)
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
    assert {module.split(".")[0] for module, _ in declarations()} == set(DECLARING)


@pytest.mark.parametrize(("module", "name"), declarations())
def test_its_code_is_what_does_the_work_and_has_its_options(module, name):
    """The declaring module itself, or one that imports it; tasks only wire, so what they declare has none."""
    code = stage_of(module, name).code
    if module.split(".")[0] == "tasks":
        assert code == ""
    else:
        assert module in closure(code)


@pytest.mark.parametrize(("module", "name"), declarations())
def test_all_third_party_imports_are_declared(module, name):
    stage = stage_of(module, name)
    needed = set().union(*(third_party(each) for each in code_digests(stage.code)))
    declared = {package.lower().replace("_", "-") for package in stage.packages}
    assert sorted(needed - declared) == [], f"{module}.{name}.packages lacks these"


def test_what_decides_about_pixels_is_in_the_code():
    """Of `storage` only that; the rest keeps results."""
    found = set(closure("storage.pictures.decoding", ("storage",))) - {"storage"}  # which only finds names
    assert found == set(closure("storage.pictures.decoding"))
    assert found < set(closure("sfm.photographs.working")) and found < set(
        closure("retrieval.describe.chunk")
    )


def test_stage_names_are_unique():
    names = [stage_of(*declaration).name for declaration in declarations()]
    assert len(names) == len(set(names))
