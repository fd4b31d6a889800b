"""Csv files that people bring: one row per photograph, every error with the line that it is about."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.digests import file_sha256
from storage.options import nearest_name


class BadTable(ValueError):
    """A csv file that does not say what is needed."""


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of a csv file: name -> [N] texts; line: [N] where each row begins."""

    path: Path
    columns: dict[str, list[str]]
    line: list[int]

    def where(self, row: int) -> str:
        return f"{self.path}, line {self.line[row]}"

    def numbers(self, column: str, least: float, most: float, *, empty: bool = False) -> NDArray[np.float64]:
        """[N] float64 of a column; an empty field is nan where `empty` allows it. Raises BadTable."""
        found = np.empty(len(self.line))
        for row, text in enumerate(self.columns[column]):
            try:
                found[row] = math.nan if empty and not text else float(text)
            except ValueError:
                found[row] = math.inf
            if math.isnan(found[row]) and empty and not text:
                continue
            if not least <= found[row] <= most or not math.isfinite(found[row]):
                limits = "" if math.isinf(most) else f" from {least:g} to {most:g}"
                raise BadTable(f"{self.where(row)}: {column} is {text!r}; give a number{limits}")
        return found


def read_table(path: Path | str, layouts: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Table:
    """Read a csv file (UTF-8, a header, commas) whose columns are one of `layouts`: (needed, optional) names.

    The column `name` is the path of a photograph below its root, each once. Raises BadTable.
    """
    path = Path(path)
    with _errors(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = _header(path, next(reader, []), layouts)
        rows, line = [], []
        begins = reader.line_num + 1
        try:
            for fields in reader:
                if any(field.strip() for field in fields):
                    rows.append(_checked_row(path, begins, fields, header))
                    line.append(begins)
                begins = reader.line_num + 1
        except csv.Error as error:
            raise BadTable(f"{path}, line {reader.line_num}: {error}; is it a csv with commas?") from error
    if not rows:
        raise BadTable(f"{path}: has no row below the header; give one per photograph")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    table = Table(path, columns, line)
    _check_names(table)
    return table


def read_header(path: Path | str) -> list[str]:
    """The names of the columns, in lower case. Raises BadTable."""
    with _errors(Path(path)), Path(path).open(encoding="utf-8-sig", newline="") as file:
        return [field.strip().lower() for field in next(csv.reader(file, strict=True), [])]


def photo_digests(
    names: Sequence[str], photo_root: Path | str, where: Sequence[str] | None = None
) -> NDArray[np.bytes_]:
    """[N] S64: sha256 of every photograph's bytes. where: what an error says of each. Raises BadTable."""
    digests: list[str] = []
    for row, name in enumerate(names):
        try:
            digests.append(file_sha256(Path(photo_root) / name))
        except (OSError, ValueError) as error:
            begin = where[row] if where else f"photograph {row}"
            raise BadTable(
                f"{begin}: {name!r} cannot be read below {str(photo_root)!r}; correct the name or the folder"
            ) from error
    return np.array(digests, dtype="S64")


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadTable(f"{path}: cannot be read ({error.strerror}); give a csv file") from error
    except UnicodeDecodeError as error:
        raise BadTable(f"{path}: is not UTF-8 (byte {error.start}); save it as csv in UTF-8") from error
    except csv.Error as error:
        raise BadTable(f"{path}, line 1: {error}; is it a csv with commas?") from error


def _header(
    path: Path, fields: Sequence[str], layouts: Sequence[tuple[Sequence[str], Sequence[str]]]
) -> list[str]:
    header = [field.strip().lower() for field in fields]
    wanted = " or ".join(
        ",".join([*needed, *(f"[{name}]" for name in optional)]) for needed, optional in layouts
    )
    for name in header:
        if header.count(name) > 1:
            raise BadTable(f"{path}, line 1: column {name!r} is there twice; the columns are {wanted}")
    for needed, optional in layouts:
        if set(needed) <= set(header):
            unknown = [name for name in header if name not in (*needed, *optional)]
            if unknown:
                nearest = nearest_name(unknown[0], [*needed, *optional])
                hint = f"did you mean {nearest!r}? " if nearest and nearest not in header else ""
                raise BadTable(f"{path}, line 1: unknown column {unknown[0]!r}; {hint}columns are {wanted}")
            return header
    raise BadTable(f"{path}, line 1: the columns are {','.join(header)!r}; they must be {wanted}")


def _checked_row(path: Path, line: int, fields: Sequence[str], header: Sequence[str]) -> list[str]:
    if len(fields) != len(header):
        raise BadTable(f"{path}, line {line}: {len(fields)} fields, the header has {len(header)}")
    place = header.index("name")
    return [field if column == place else field.strip() for column, field in enumerate(fields)]


def _check_names(table: Table) -> None:
    known: dict[str, int] = {}
    for row, name in enumerate(table.columns["name"]):
        if not name or "\0" in name:
            raise BadTable(f"{table.where(row)}: the name is {name!r}; give the path of a photograph")
        if name in known:
            raise BadTable(
                f"{table.where(row)}: {name!r} is there already in line {table.line[known[name]]}; "
                "list every photograph once"
            )
        known[name] = row
