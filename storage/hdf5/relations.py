"""What must hold between the columns of a file, beyond what each promises alone: the rules of its layout."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from numpy.typing import NDArray

from storage.hdf5.access import HDF5_ERRORS
from storage.hdf5.check import Violation
from storage.hdf5.sources import Source, blocks, count
from storage.schemas.layout import Layout
from storage.schemas.registry import all_layouts
from storage.schemas.rules import Unsound


class ReadColumns:
    """`storage.schemas.rules.Columns` of what is read from a source."""

    def __init__(
        self, source: Source, declared: Layout, broken: Collection[str], max_rows: int | None
    ) -> None:
        self.source, self.declared, self.broken, self.max_rows = source, declared, frozenset(broken), max_rows
        self._there = frozenset(source.paths())
        self._read: dict[str, NDArray[Any]] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._there

    def __getitem__(self, path: str) -> NDArray[Any]:
        if path not in self._read:
            self._read[path] = self.part(path, 0, self.rows_of(path))
        return self._read[path]

    def part(self, path: str, start: int, stop: int) -> NDArray[Any]:
        too_large = self.max_rows is not None and self.rows_of(path) > self.max_rows
        if path in self.broken or too_large:
            raise Unsound(path)
        try:
            return self.source.rows(path, start, stop)
        except HDF5_ERRORS:
            raise Unsound(path) from None

    def rows_of(self, path: str) -> int:
        if path not in self._there:
            raise Unsound(path)
        return self._rows(path)

    def once(self, path: str) -> NDArray[Any]:
        found = self[path]
        del self._read[path]
        return found

    def items(self, pattern: str) -> Iterator[tuple[tuple[str, ...], str]]:
        for path in self.source.paths():
            found = self.declared.find(path)
            if found is not None and found[0].path == pattern:
                yield found[1], path

    def blocks(self, path: str) -> Iterator[tuple[int, NDArray[Any]]]:
        return blocks(self.source, path)

    def _rows(self, path: str) -> int:
        return count(self.source, path)


def related(
    source: Source, declared: Layout, broken: Collection[str], max_rows: int | None = None
) -> list[Violation]:
    """Every broken rule between the columns of `source`; columns in `broken` are not looked at again."""
    columns = ReadColumns(source, declared, broken, max_rows)
    problems: list[Violation] = []
    for rule in all_layouts().get(declared.name, declared).rules:  # also of its earlier versions
        try:
            problems += [Violation(path, text) for path, text in rule(columns)]
        except Unsound:
            continue
    return problems
