"""Csv files from outside: a header that says what the columns are, and one row per photograph.

Columns are parted by commas, semicolons or tabs: by that one with which the first line becomes the header
that is asked for. Numbers: see `storage.outside.numbers`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.files.words import nearest_name
from storage.outside.numbers import Limits, Written, decimal_sign, number_of
from storage.outside.text import BadText, Text, read_text

SEPARATORS = (",", ";", "\t")
_WORDS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_HINT = re.compile(r'"?sep=([,;\t])"?')
_MOST_FIELDS = 12_000_000


@dataclass(frozen=True)
class Columns:
    """What a table must have: one of `layouts` = (needed names, optional names), in lower case.

    limits: column of numbers -> least and most; key: the column whose fields are each once, not empty, and
    kept as written; others: whether columns may be there that no layout names.
    """

    layouts: Sequence[tuple[Sequence[str], Sequence[str]]]
    limits: Mapping[str, Limits] = field(default_factory=dict)
    key: str = ""
    others: bool = False

    def wanted(self) -> str:
        return " or ".join(
            ",".join([*needed, *(f"[{name}]" for name in optional)]) for needed, optional in self.layouts
        )

    def own(self) -> set[str]:
        """The names that are needed, without the key."""
        return {name for needed, _ in self.layouts for name in needed if name != self.key}

    def layout_of(self, header: Sequence[str]) -> tuple[Sequence[str], Sequence[str]] | None:
        return next((each for each in self.layouts if set(each[0]) <= set(header)), None)


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of a csv file: name -> [N] texts; line: [N] where each row begins.

    decimal: the sign that its numbers have.
    """

    path: Path
    columns: dict[str, list[str]]
    line: list[int]
    limits: Mapping[str, Limits]
    decimal: str

    def where(self, row: int) -> str:
        return f"{self.path}, line {self.line[row]}"

    def numbers(self, column: str, *, empty: bool = False) -> NDArray[np.float64]:
        """[N] float64 of a column; an empty field is nan where `empty` allows it. Raises BadText."""
        least, most = self.limits[column]
        found = np.empty(len(self.line))
        for row, text in enumerate(self.columns[column]):
            found[row] = number_of(text, self.decimal)
            if (empty and not text) or least <= found[row] <= most:
                continue
            limits = "" if np.isinf(most) else f" from {least:g} to {most:g}"
            raise BadText(f"{self.where(row)}: {column} is {text!r}; give a number{limits}")
        return found


def read_table(path: Path | str, columns: Columns) -> Table:
    """Read a csv file with a header. Raises BadText with the line."""
    text = read_text(path)
    separator, header, lines = _header(text, columns)
    names = _checked_header(text, header[0], header[1], columns)
    rows = _Rows(text, separator, names, header[1], columns)
    rows.read(lines)
    limits = {name: limit for name, limit in columns.limits.items() if name in rows.columns}
    fields = (
        Written(field, text.path, line, name)
        for name in limits
        for field, line in zip(rows.columns[name], rows.line, strict=True)
    )
    table = Table(text.path, rows.columns, rows.line, limits, decimal_sign(fields, separator, limits))
    if columns.key:
        _check_key(table, columns.key)
    return table


def read_header(path: Path | str, columns: Columns) -> list[str]:
    """The names of the columns, in lower case, of a layout or not. Raises BadText."""
    return _named(_header(read_text(path), columns)[1][1])


def _header(text: Text, columns: Columns) -> tuple[str, tuple[int, list[str]], Iterator[tuple[int, str]]]:
    """(separator, (line, fields) of the header, the lines below it)."""
    lines = text.lines(keep_ends=True)
    number, first = next(((n, line) for n, line in lines if line.strip()), (1, ""))
    separators: Sequence[str] = SEPARATORS
    if hint := _HINT.fullmatch(first.strip(" \r\n")):
        separators = (hint.group(1),)
        number, first = next(((n, line) for n, line in lines if line.strip()), (number + 1, ""))
    read = {each: _fields(text, number, first, each) for each in separators}
    fitting = [each for each in separators if columns.layout_of(_named(read[each]))]
    if len(fitting) > 1:
        raise BadText(f"{text.where(number)}: {first.strip()!r} is a header in two ways; part it by one sign")
    separator = fitting[0] if fitting else max(separators, key=lambda each: len(read[each]))
    return separator, (number, read[separator]), lines


def _fields(text: Text, number: int, line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])  # not strict: three signs are tried
    except csv.Error as error:
        raise BadText(f"{text.where(number)}: {error}; is it a csv with a header?") from error


def _named(fields: Sequence[str]) -> list[str]:
    """The names of the columns; empty ones behind the last are no columns (Excel writes them)."""
    names = [each.strip().lower() for each in fields]
    while names and not names[-1]:
        names.pop()
    return names


def _checked_header(text: Text, number: int, fields: Sequence[str], columns: Columns) -> list[str]:
    header, wanted, where = _named(fields), columns.wanted(), text.where(number)
    layout = columns.layout_of(header)
    known = {name for each in columns.layouts for part in each for name in part}
    for name in header:
        if header.count(name) > 1 and (name in known or not columns.others):
            raise BadText(f"{where}: column {name!r} is there twice; the columns are {wanted}")
    if layout is None:
        raise BadText(f"{where}: the columns are {','.join(header)!r}; they must be {wanted}")
    mine = [*layout[0], *layout[1]]
    unknown = [] if columns.others else [name for name in header if name not in mine]
    if unknown:
        nearest = nearest_name(unknown[0], mine)
        hint = f"did you mean {nearest!r}? " if nearest and nearest not in header else ""
        raise BadText(f"{where}: unknown column {unknown[0]!r}; {hint}columns are {wanted}")
    return header


class _Rows:
    """The rows below a header, column by column."""

    def __init__(
        self, text: Text, separator: str, names: list[str], fields: Sequence[str], columns: Columns
    ) -> None:
        self.text, self.separator, self.names, self.width = text, separator, names, len(fields)
        self.key = columns.key
        layout = columns.layout_of(names)
        kept = {*layout[0], *layout[1]} if layout else set()
        self.places = {name: names.index(name) for name in names if name in kept}
        self.columns: dict[str, list[str]] = {name: [] for name in self.places}
        self.line: list[int] = []

    def read(self, lines: Iterator[tuple[int, str]]) -> None:
        last = begins = 0

        def fed() -> Iterator[str]:
            nonlocal last, begins
            for last, line in lines:
                begins = begins or last
                yield line

        try:
            for fields in csv.reader(fed(), strict=True, delimiter=self.separator):
                if any(each.strip() for each in fields):
                    self._add(begins, fields)
                begins = 0
        except csv.Error as error:
            raise BadText(
                f"{self.text.where(begins or last)}: {error}; is it a csv parted by "
                f"{_WORDS[self.separator]}, and every quotation mark closed?"
            ) from error
        if not self.line:
            raise BadText(f"{self.text.path}: has no row below the header; give one per photograph")

    def _add(self, line: int, fields: list[str]) -> None:
        if len(fields) != self.width or any(each.strip() for each in fields[len(self.names) :]):
            raise BadText(f"{self.text.where(line)}: {len(fields)} fields, the header has {len(self.names)}")
        for name, place in self.places.items():
            self.columns[name].append(fields[place] if name == self.key else fields[place].strip())
        self.line.append(line)
        if len(self.line) * len(self.columns) > _MOST_FIELDS:
            raise BadText(f"{self.text.where(line)}: more than {_MOST_FIELDS} fields; divide the file")


def _check_key(table: Table, column: str) -> None:
    known: dict[str, int] = {}
    for row, name in enumerate(table.columns[column]):
        if not name.strip():
            raise BadText(f"{table.where(row)}: the name is {name!r}; give the path of a photograph")
        if name in known:
            raise BadText(
                f"{table.where(row)}: {name!r} is there already in line {table.line[known[name]]}; "
                "list every photograph once"
            )
        known[name] = row
