"""The rules of the house, over the real import graph: imports inside functions and by name included."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from storage.keys.code import runtime_nodes

ROOT = Path(__file__).resolve().parents[1]
ORDER = {
    "storage": "files children outside pictures schemas hdf5 keys inspect store photographs",
    "town": "",
    "retrieval": "networks describe nearest benchmarks whitening evaluation learning training search export "
    "official/readers official",
    "sfm": "photographs features matching mapping pairing scene training_set lists selection export",
    "report": "tables sheets page",
    "tasks": "engine",
    "browse": "",
    "flows": "options terminal server steps run . planning serving cli",
}
"""Packages, and the rooms of each, from below: a room imports only what stands before it. `.`: the package
itself where something stands above it; else it is the last."""
MOST = 18
"""Modules of a room."""
PICTURES = ("matplotlib", "plotly", "rich.table", "PIL.ImageDraw")
SHOWING = ("report/", "flows/cli/", "town/")
UNTOLD = {"watched", "scatter", "aside", "older", "limited", "twins", "outcomes", "helpers", "utils", "misc"}
DOORS = {
    "retrieval.pooling": "mac spoc gem rmac MAC SPoC GeM RMAC Regional l2_normalize",
    "retrieval.losses": "ContrastiveLoss TripletLoss",
    "retrieval.networks": "RetrievalNetwork build_network load_network save_network",
    "retrieval.descriptors": "extract",
    "retrieval.mining": "hard_negatives",
    "retrieval.whitening": "Whitening learn_whitening learn_pca_whitening",
    "retrieval.search": "search SearchIndex",
    "retrieval.expansion": "alpha_query_expansion database_augmentation rerank_by_neighbours",
    "retrieval.benchmarks.landmarks": "average_precision evaluate_classic evaluate_revisited",
    "retrieval.benchmarks.holidays": "evaluate_holidays",
    "retrieval.benchmarks.places": "positives_within evaluate_places one_per_panorama",
    "retrieval.benchmarks.msls": "evaluate_msls",
    "retrieval.benchmarks.reid": "evaluate_reid",
    "retrieval.benchmarks.gldv2": "evaluate_gldv2",
    "retrieval.benchmarks.imagenet": "knn_accuracy",
    "sfm.geometry": "shared_points overlap scale_change nearest_centers",
    "sfm.scene": "Scene",
    "sfm.selection": "select TrainingSet SelectionOptions",
    "storage": "open_artifact describe ArtifactRef Store",
}
"""Names that callers outside rely on (DESIGN, section 5)."""


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, relative to the root; of every package."""
    found = {}
    for package in ORDER:
        for path in sorted((ROOT / package).rglob("*.py")):
            inside = path.relative_to(ROOT)
            parts = inside.with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = inside
    return found


def named(node: ast.AST) -> list[str]:
    """Dotted names that a node imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called == "every":
            return [name for name in modules() if name.startswith(str(node.args[0].value).rstrip("*"))]
        return [str(node.args[0].value)] if called == "import_module" else []
    return []


@cache
def everything(module: str) -> tuple[str, ...]:
    """Every dotted name that a module imports when it runs."""
    tree = ast.parse((ROOT / modules()[module]).read_text(encoding="utf-8"))
    return tuple(name for node in runtime_nodes(tree) for name in named(node))


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of ours that a module imports."""
    found = set()
    for name in everything(module):
        known = name if name in modules() else name.rpartition(".")[0]
        if known in modules() and known != module:
            found.add(known)
    return frozenset(found)


def room(module: str) -> str:
    """The folder of a module."""
    return modules()[module].parent.as_posix()


def height(module: str) -> tuple[int, int]:
    """(package, room) by their place in ORDER."""
    package, _, inside = room(module).partition("/")
    rooms = ORDER[package].split()
    place = rooms.index(inside or ".") if (inside or ".") in rooms else len(rooms)
    return list(ORDER).index(package), place


def test_every_room_has_its_place() -> None:
    rooms = {room(module) for module in modules()}
    for package, inside in ORDER.items():
        there = {each.partition("/")[2] for each in rooms if each.partition("/")[0] == package} - {""}
        assert there == set(inside.split()) - {"."}, package


@pytest.mark.parametrize("module", modules())
def test_a_room_imports_only_what_is_below_it(module: str) -> None:
    """Package by package and room by room; `storage.lazy` is below everything."""
    above = {
        other
        for other in imports(module) - {"storage.lazy"}
        if room(other) != room(module) and height(other) >= height(module)
    }
    siblings = {other for other in above if room(other) == room(module)}
    assert above - siblings == set()


def test_no_module_imports_itself_over_others() -> None:
    state: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> None:
        state[module] = 1
        path.append(module)
        for other in sorted(imports(module)):
            assert state.get(other) != 1, " -> ".join([*path[path.index(other) :], other])
            if other not in state:
                visit(other)
        path.pop()
        state[module] = 2

    for module in modules():
        if module not in state:
            visit(module)


def test_a_room_is_not_crowded_and_its_modules_do_not_repeat_its_name() -> None:
    held = defaultdict(list)
    for path in modules().values():
        if path.name != "__init__.py":
            held[path.parent.as_posix()].append(path.stem)
    assert {folder: len(names) for folder, names in held.items() if len(names) > MOST} == {}
    repeated = [
        f"{folder}/{name}"
        for folder, names in held.items()
        for name in names
        if "/" in folder and name.startswith(f"{folder.rpartition('/')[2].rstrip('s')}_")
    ]
    assert repeated == []


def test_names_say_what_a_thing_is() -> None:
    assert [path for path in modules().values() if path.stem in UNTOLD] == []


@pytest.mark.parametrize("path", [path for path in modules().values() if path.name == "__init__.py"])
def test_a_package_holds_a_docstring_and_a_table_of_names(path: Path) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    rest = [ast.unparse(node) for node in tree.body[1:]]
    assert all(each.startswith(("from storage.lazy import", "__getattr__, __all__ = lazy(")) for each in rest)


def test_no_module_has_the_name_of_what_its_package_exports() -> None:
    for module, path in modules().items():
        if path.name == "__init__.py":
            exported = getattr(importlib.import_module(module), "__all__", [])
            assert [name for name in exported if f"{module}.{name}" in modules()] == []


def test_names_mean_the_same_after_every_module_was_imported() -> None:
    """In a process of its own: what importing replaces is replaced there."""
    code = f"""
import importlib, inspect
doors = {DOORS!r}
names = [(module, name) for module, text in doors.items() for name in text.split()]
before = {{each: getattr(importlib.import_module(each[0]), each[1]) for each in names}}
for name in {[each for each in modules() if not each.endswith("__main__")]!r}:
    importlib.import_module(name)
for (module, name), what in before.items():
    now = getattr(importlib.import_module(module), name)
    assert now is what and (inspect.isclass(now) or inspect.isfunction(now)), (module, name, now)
print(len(before))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) == sum(len(names.split()) for names in DOORS.values())


def test_options_are_imported_without_torch() -> None:
    modules = "flows.options.pipeline, flows.options.loading"
    assert loaded_by(f"import {modules}", "torch pycolmap prefect faiss") == []
    modules = "retrieval.search.options, retrieval.official.options"
    assert loaded_by(f"import {modules}", "torch pycolmap prefect faiss pandas scipy h5py") == []


@pytest.mark.parametrize("command", ["", "evaluate", "index", "search"])
def test_help_imports_nothing_that_computes(command: str) -> None:
    """All options that are fields of models are in it."""
    code = "from typer.testing import CliRunner; from flows.cli.main import app\n"
    code += f"assert 'Options' in CliRunner().invoke(app, {[*command.split(), '--help']}).output"
    assert loaded_by(code, "torch pycolmap prefect faiss pandas scipy h5py") == []


def loaded_by(code: str, libraries: str) -> list[str]:
    """Those of the libraries that a process of its own has loaded after running the code."""
    code = f"{code}\nimport sys; print(*[name for name in {libraries.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("module", modules())
def test_pictures_and_tables_are_made_where_things_are_shown(module: str) -> None:
    drawn = [name for name in everything(module) if name.startswith(PICTURES)]
    assert drawn == [] or modules()[module].as_posix().startswith(SHOWING)


def test_one_way_into_a_child_process() -> None:
    """`storage.children`; servers, workers and Prefect's own commands are no work of ours in a process."""
    starting = {
        module
        for module in modules()
        if any(
            name.startswith(("subprocess", "multiprocessing", "torch.multi")) for name in everything(module)
        )
    }
    assert {room(module) for module in starting} <= {"storage/children", "flows/server", "storage/keys"}
