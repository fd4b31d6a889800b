"""Text from outside is read in one place: nothing else parses csv or YAML, or opens a list by itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "tasks", "sfm", "retrieval", "storage", "report", "town")
ALLOWED = {
    "csv.reader": {"storage/outside/tables.py"},
    "csv.DictReader": set(),
    "yaml.safe_load": {"flows/server/locked_worker.py"},  # our own prefect.yaml
    "yaml.load": set(),
    "pd.read_csv": {"retrieval/benchmarks/msls.py"},  # of text that the one reader has read
    "np.loadtxt": set(),
    "np.genfromtxt": set(),
}
LISTS = (
    *(path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob("retrieval/benchmarks/*.py")),
    *(path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob("retrieval/official/**/*.py")),
    *(path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob("sfm/lists/*.py")),
    *(f"sfm/{name}.py" for name in ("scene/colmap_text", "scene/importing", "pairing/listed")),
    "flows/options/overrides.py",
    "flows/options/sweep.py",
)  # fmt: skip


def calls(path: Path) -> set[str]:
    """Dotted names of what a module calls: `csv.reader`, `path.read_text`, `open`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("call", ALLOWED)
def test_one_module_parses_each_kind_of_text(call):
    alone = call.rpartition(".")[2]
    wanted = {call} if alone in ("reader", "load") else {call, alone}  # also where the name is imported
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*.py")
        if wanted & calls(path)
    }
    assert found == ALLOWED[call]


@pytest.mark.parametrize("module", LISTS)
def test_lists_are_opened_by_the_one_reader(module):
    found = {call.rpartition(".")[2] for call in calls(REPOSITORY / module) if "." in call}
    assert not found & {"read_text", "splitlines", "loads"} or module == "report/tables/benchmark.py"
