"""Digest of first-party source: what the code does, not how it is commented, laid out or parsed."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from storage.digests import json_sha256

FIRST_PARTY = ("sfm", "retrieval")
_FUNCTION = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z0-9_]+)+:[a-z0-9_]+")  # see storage.children
_LEFT_OUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


class UnknownModule(ValueError):
    """A module declared by a stage that has no source file."""


def module_digest(modules: Iterable[str]) -> str:
    """sha256 (64 hex) over the code of several modules; comments, docstrings and layout do not count.

    The same on every Python version. Raises UnknownModule.
    """
    return json_sha256(module_digests(modules))


def module_digests(modules: Iterable[str]) -> dict[str, str]:
    """Digest of each module's code by name. Remembered while the file's size and mtime stay."""
    return {name: _digest_of_file(*_facts(source_path(name))) for name in sorted(set(modules))}


def source_digest(text: str) -> str:
    """sha256 (64 hex) of a piece of source, without comments, docstrings and layout."""
    return hashlib.sha256(_dump(ast.parse(text)).encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=4096)
def source_path(module: str) -> Path:
    """The source file of a module, found without importing the module. Raises UnknownModule."""
    path = _find_source(module)
    if path is None:
        raise UnknownModule(f"module {module!r} has no source file; correct the stage's modules")
    return path


def _find_source(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _facts(path: Path) -> tuple[str, int, int]:
    stat = os.stat(path)
    return str(path), stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4096)
def _digest_of_file(path: str, mtime_ns: int, size: int) -> str:
    return source_digest(Path(path).read_text(encoding="utf-8"))


def _dump(node: Any) -> str:
    if isinstance(node, list):
        return "[" + ",".join(_dump(item) for item in node if not _says_nothing(item)) + "]"
    if isinstance(node, ast.Constant):
        return f"Constant({node.value!r})"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name in _LEFT_OUT or value is None:
            continue
        if isinstance(node, ast.JoinedStr):
            value = _joined(value)
        dumped = _dump(value)
        if dumped != "[]":  # an empty field of a newer Python is no field of an older one
            fields.append(f"{name}={dumped}")
    return f"{type(node).__name__}({','.join(fields)})"


def _says_nothing(node: Any) -> bool:
    """A docstring, a string under an attribute or any other text that stands as a statement."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string with neighbouring texts merged: Python versions split them differently."""
    merged: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and merged and isinstance(merged[-1], ast.Constant):
            merged[-1] = ast.Constant(str(merged[-1].value) + str(value.value))
        elif not (isinstance(value, ast.Constant) and value.value == ""):
            merged.append(value)
    return merged


def first_party_closure(module: str, packages: tuple[str, ...] = FIRST_PARTY) -> tuple[str, ...]:
    """All first-party modules that a module imports, directly or not, and itself; sorted.

    Imports inside functions count, imports under ``if TYPE_CHECKING:`` do not. A module started as a program
    (``"-m", "sfm.worker"`` in a list), by ``import_module("sfm.worker")`` or as a child's function
    (``"sfm.worker:work"``) counts. A package counts where
    its ``__init__`` holds code. Raises UnknownModule.
    """
    source_path(module)
    found: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += _imports(name, packages)
    return tuple(sorted(found))


def _imports(module: str, packages: tuple[str, ...]) -> list[str]:
    path = source_path(module)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in runtime_nodes(tree):
        for candidate in _named_modules(node, package):
            if candidate.split(".")[0] in packages:
                names |= set(_existing(candidate))
    return sorted(names)


def _existing(candidate: str) -> Iterator[str]:
    """The module of a dotted name, which may end in a member of it, and the packages above that hold code."""
    if _find_source(candidate) is None:
        candidate = candidate.rpartition(".")[0]
    parts = candidate.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        if (path := _find_source(name)) and (path.name != "__init__.py" or _holds_code(path)):
            yield name


def _holds_code(path: Path) -> bool:
    return not all(_says_nothing(node) for node in ast.parse(path.read_text(encoding="utf-8")).body)


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A syntax tree's nodes without those under ``if TYPE_CHECKING:``."""
    yield node
    children: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        children = node.orelse
    for child in children:
        yield from runtime_nodes(child)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def _named_modules(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, base] if base else above)
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.List | ast.Tuple):
        texts = [item.value if isinstance(item, ast.Constant) else None for item in node.elts]
        return [b for a, b in pairwise(texts) if a == "-m" and isinstance(b, str)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value.partition(":")[0]] if _FUNCTION.fullmatch(node.value) else []
    if isinstance(node, ast.Call) and node.args and _called(node) in {"import_module", "run_module"}:
        first = node.args[0]
        return [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
    return []


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
