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
from typing import Any, NamedTuple

from storage.files.digests import json_sha256

FIRST_PARTY = ("sfm", "retrieval", "storage.pictures", "town")
"""Packages that shape results. The rest of `storage` keeps them and `tasks` only wires."""
_FUNCTION = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z0-9_]+)+:[a-z0-9_]+")  # see storage.children
_FOLDER = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z0-9_]+)*\.\*")  # see storage.lazy.every
_LEFT_OUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


_CLOSURES: dict[tuple[str, tuple[str, ...]], dict[str, tuple[Path, tuple[str, int, int]]]] = {}


class UnknownModule(ValueError):
    """A module that has no source file."""


def code_digest(module: str) -> str:
    """sha256 (64 hex) over the code of a module and of all that it imports of ours. Raises UnknownModule."""
    return json_sha256(code_digests(module))


def code_digests(module: str) -> dict[str, str]:
    """Digest of the code of each module of `closure` by name, {} for "".

    Comments, docstrings and layout do not count, and it is the same on every Python version. What a file says
    is remembered while its size and mtime stay. Raises UnknownModule.
    """
    return {name: _read(*_facts(source_path(name))).digest for name in (closure(module) if module else ())}


def source_digest(text: str) -> str:
    """sha256 (64 hex) of a piece of source, without comments, docstrings and layout."""
    return hashlib.sha256(_dump(ast.parse(text)).encode("utf-8", "surrogatepass")).hexdigest()


def source_path(module: str) -> Path:
    """The source file of a module; nothing is imported. Raises UnknownModule."""
    path = _find_source(module)
    if path is None:
        raise UnknownModule(f"module {module!r} has no source file; correct the code of the stage")
    return path


@lru_cache(maxsize=4096)
def _find_source(module: str) -> Path | None:
    top, *rest = module.split(".")
    for folder in _folders(top):
        base = folder.joinpath(*rest)
        for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if path.is_file():
                return path
    return None


@lru_cache(maxsize=64)
def _folders(package: str) -> tuple[Path, ...]:
    """Where the files of a top-level package lie; it is looked up and not imported."""
    spec = importlib.util.find_spec(package)
    return tuple(map(Path, spec.submodule_search_locations or ())) if spec else ()


def _facts(path: Path) -> tuple[str, int, int]:
    stat = os.stat(path)
    return str(path), stat.st_mtime_ns, stat.st_size


class _Source(NamedTuple):
    """What a file says. names: dotted, that it may import; holds_code: not docstrings and names alone."""

    digest: str
    names: tuple[str, ...]
    holds_code: bool


@lru_cache(maxsize=4096)
def _read(path: str, mtime_ns: int, size: int) -> _Source:
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    names = [name for node in runtime_nodes(tree) for name in _named_modules(node)]
    digest = hashlib.sha256(_dump(tree).encode("utf-8", "surrogatepass")).hexdigest()
    holds_code = not all(_says_nothing(each) or _tells_names(each) for each in tree.body)
    return _Source(digest, tuple(dict.fromkeys(names)), holds_code)


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


def _tells_names(node: ast.stmt) -> bool:
    """Part of the table of names of a package (`storage.lazy`), which shapes nothing."""
    if isinstance(node, ast.ImportFrom):
        return node.module in ("__future__", "storage.lazy")
    called = node.value.func if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
    return isinstance(called, ast.Name) and called.id == "lazy"


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string with neighbouring texts merged: Python versions split them differently."""
    merged: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and merged and isinstance(merged[-1], ast.Constant):
            merged[-1] = ast.Constant(str(merged[-1].value) + str(value.value))
        elif not (isinstance(value, ast.Constant) and value.value == ""):
            merged.append(value)
    return merged


def closure(module: str, packages: tuple[str, ...] = FIRST_PARTY) -> tuple[str, ...]:
    """A module and all modules of `packages` that it imports, directly or not; sorted. Nothing is imported.

    Imports inside functions count, imports under ``if TYPE_CHECKING:`` do not. A module started as a program
    (``"-m", "sfm.worker"`` in a list), by ``import_module("sfm.worker")`` or as a child's function
    (``"sfm.worker:work"``) counts, and every module of a folder that is named so (``"sfm.workers.*"``). A
    package counts where its ``__init__`` holds code. Imports are absolute. Raises UnknownModule.
    """
    known = _CLOSURES.get((module, packages), {})
    if not known or any(_facts(path) != facts for path, facts in known.values()):
        known = _CLOSURES[module, packages] = dict(sorted(_walk(module, packages).items()))
    return tuple(known)


def _walk(module: str, packages: tuple[str, ...]) -> dict[str, tuple[Path, tuple[str, int, int]]]:
    found: dict[str, tuple[Path, tuple[str, int, int]]] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        if name not in found:
            path = source_path(name)
            found[name] = path, _facts(path)
            names = [each for text in _read(*found[name][1]).names for each in _spelt_out(text)]
            named = [text for text in names if _is_in(text, packages)]
            pending += [each for text in named for each in _existing(text) if _is_in(each, packages)]
    return found


def _spelt_out(name: str) -> list[str]:
    """Every module of a folder where the name is that of a folder's modules, else the name."""
    package = name.removesuffix(".*")
    path = _find_source(package)
    if package == name or path is None:
        return [name]
    return [f"{package}.{each.stem}" for each in sorted(path.parent.glob("*.py")) if each != path]


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in packages)


def _existing(candidate: str) -> Iterator[str]:
    """The module of a dotted name, which may end in a member of it, and the packages above that hold code."""
    if _find_source(candidate) is None:
        candidate = candidate.rpartition(".")[0]
    parts = candidate.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        path = _find_source(name)
        if path and (path.name != "__init__.py" or _read(*_facts(path)).holds_code):
            yield name


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


def _named_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            raise UnknownModule(f"line {node.lineno}: a relative import; write the whole name of the module")
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.List | ast.Tuple):
        texts = [item.value if isinstance(item, ast.Constant) else None for item in node.elts]
        return [b for a, b in pairwise(texts) if a == "-m" and isinstance(b, str)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        named = _FUNCTION.fullmatch(node.value) or _FOLDER.fullmatch(node.value)
        return [node.value.partition(":")[0]] if named else []
    if isinstance(node, ast.Call) and node.args and _called(node) in {"import_module", "run_module"}:
        first = node.args[0]
        return [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
    return []


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
