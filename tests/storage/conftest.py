"""A store, two toy stages and throw-away first-party packages for the tests of storage."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
_numbers = itertools.count()


class ToyOptions(Options):
    size: float = 1.0
    name: str | None = None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", min_free_bytes=0)


@pytest.fixture
def file_stage() -> Stage:
    return Stage(name="toy", suffix=".txt")


@pytest.fixture
def folder_stage() -> Stage:
    return Stage(name="toys", kind="directory")


@pytest.fixture
def options() -> ToyOptions:
    return ToyOptions()


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], str]:
    """Write modules ({"a": source, "sub/b": source}) into a new importable package; its name."""

    def make(sources: Mapping[str, str]) -> str:
        name = f"toy_package_{next(_numbers)}"
        for module, source in {"__init__": "", **sources}.items():
            path = tmp_path / "packages" / name / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source.replace("PACKAGE", name))
            (path.parent / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path / "packages")
        return name

    return make


@pytest.fixture
def start_python() -> Callable[..., subprocess.Popen[str]]:
    """Start a Python process on a piece of source with the repository importable; killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(source: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", source, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
