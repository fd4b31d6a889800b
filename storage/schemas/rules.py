"""Rules between the columns of a file: what a rule is, and what many of them share.

A rule reads the columns that it needs and yields (path, what is wrong); it is left out where one of them is
missing, broken by itself or too large for a quick look.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

ENTRIES = 1 << 20
"""Rows of a table that are looked at together where it may be of any length."""
UNIT_SLACK = 1e-2  # of a length: descriptors may have been kept in half precision


class Unsound(Exception):
    """A column that a rule needs cannot be judged together with others."""


class Columns(Protocol):
    """Columns of a file that are sound by themselves, each read once. `columns[path]` raises Unsound."""

    max_rows: int | None

    @property
    def broken(self) -> Collection[str]:
        """Paths of columns that are wrong by themselves."""

    def __contains__(self, path: str) -> bool: ...

    def __getitem__(self, path: str) -> NDArray[Any]: ...

    def part(self, path: str, start: int, stop: int) -> NDArray[Any]:
        """Rows of a column, not kept. Raises Unsound."""

    def rows_of(self, path: str) -> int:
        """Number of rows, also of a column that is not read. Raises Unsound where there is none."""

    def once(self, path: str) -> NDArray[Any]:
        """A column that no other rule needs: read, not kept."""

    def items(self, pattern: str) -> Iterator[tuple[tuple[str, ...], str]]:
        """(item, path) of every dataset that `pattern`, a declared path with braces, stands for."""

    def blocks(self, path: str) -> Iterator[tuple[int, NDArray[Any]]]:
        """(first row, rows) of a column in slices of limited size."""


Rule = Callable[[Columns], Iterator[tuple[str, str]]]


def first(wrong: Any) -> int | None:
    """Position of the first True of a vector, None where there is none."""
    at = np.flatnonzero(wrong)
    return int(at[0]) if len(at) else None


def rows_from(indptr: NDArray[Any]) -> NDArray[np.int64]:
    """The row of every entry of a CSR: [0, 2, 3] -> 0, 0, 1."""
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))


def csr_blocks(
    columns: Columns, indptr: str, *paths: str
) -> Iterator[tuple[int, NDArray[np.int64], list[NDArray[Any]]]]:
    """Whole rows of a CSR, about ENTRIES entries at a time: (first entry, row of each, its columns)."""
    pointer = columns[indptr]
    row = 0
    while row < len(pointer) - 1:
        begin = int(pointer[row])
        end = max(row + 1, int(np.searchsorted(pointer, begin + ENTRIES, side="right")) - 1)
        rows = np.repeat(np.arange(row, end), np.diff(pointer[row : end + 1]))
        yield begin, rows, [columns.part(path, begin, int(pointer[end])) for path in paths]
        row = end


def repeated(*keys: NDArray[Any]) -> tuple[int, int] | None:
    """(row, later row) of the smallest key that stands twice, None where there is none; keys: columns, the
    first one foremost."""
    order = np.lexsort(keys[::-1])
    at = first(np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys]))
    return None if at is None else (int(order[at]), int(order[at + 1]))


def pairs_once(table: str) -> Rule:
    """No pair of `first` and `second` stands twice in a table."""

    def rule(columns: Columns) -> Iterator[tuple[str, str]]:
        rows = repeated(columns[f"{table}/first"], columns[f"{table}/second"])
        if rows is not None:
            yield f"{table}/first", f"holds the pair of row {rows[0]} again in row {rows[1]}; keep each once"

    return rule


def rises(path: str, words: str = "rises") -> Rule:
    """Every value is larger than the one before it."""

    def rule(columns: Columns) -> Iterator[tuple[str, str]]:
        values = columns[path]
        at = first(values[1:] <= values[:-1])
        if at is not None:
            yield path, f"has {values[at + 1]} at [{at + 1}] after {values[at]}; the column {words}"

    return rule


def never_rises(path: str) -> Rule:
    """No value is larger than the one before it, up to its precision."""

    def rule(columns: Columns) -> Iterator[tuple[str, str]]:
        values = columns[path]
        slack = 1e-6 * np.abs(values[:-1]) if values.dtype.kind == "f" else 0
        at = first(values[1:] > values[:-1] + slack)
        if at is not None:
            yield path, f"has {values[at + 1]:g} at [{at + 1}] after {values[at]:g}; the column falls"

    return rule


def ranking(
    path: str, ranks: NDArray[Any], of_scores: str, scores: NDArray[Any] | None
) -> Iterator[tuple[str, str]]:
    """A ranking lists no image twice and has none after -1; its scores, if there are any, fall."""
    ordered = np.sort(ranks, axis=1)
    at = first(np.any((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0), axis=1))
    if at is not None:
        yield path, f"lists an image twice in row {at}"
    at = first(np.any((ranks[:, 1:] >= 0) & (ranks[:, :-1] < 0), axis=1))
    if at is not None:
        yield path, f"has an image after -1 (none) in row {at}"
    if scores is None:
        return
    at = first(np.any((scores[:, 1:] > scores[:, :-1] + 1e-5) & (ranks[:, 1:] >= 0), axis=1))
    if at is not None:
        yield of_scores, f"rises in row {at}; the best comes first"
