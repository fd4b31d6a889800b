"""Names that a package has from its modules, loaded when they are first used, and all modules of a folder.

So importing a package loads no library, and a name means the same whichever modules were imported before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """(`__getattr__`, `__all__`) of a package. homes: {module: "the names that are from there"}."""
    home = {name: module for module, names in homes.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home[name]), name)

    return find, sorted(home)


def every(folder: str) -> list[ModuleType]:
    """The modules of a folder, imported, by name. folder: such as "retrieval.official.readers.*"."""
    package = folder.removesuffix(".*")
    found = iter_modules(import_module(package).__path__, f"{package}.")
    return [import_module(each.name) for each in found]
