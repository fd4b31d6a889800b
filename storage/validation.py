"""Do columns keep what their layout promises? The same checks serve writing (arrays) and reading (files)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.hdf5_sources import Source, blocks, count, whole
from storage.schemas import Dataset, Layout, size_of, split_size

Item = tuple[tuple[str, ...], tuple[str, ...]]  # names of the placeholders, their values


@dataclass(frozen=True)
class Violation:
    """One broken promise: the path in the file ("/" = the file itself), what is wrong, what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class Column:
    """A dataset that is there, its declaration, its item and the sizes that hold for it."""

    path: str
    dataset: Dataset
    item: Item
    sizes: Mapping[str, int]


def check(
    source: Source, layout: Layout, *, partial: bool = False, max_rows: int | None = None
) -> list[Violation]:
    """Every broken promise of `layout` in `source`, in the order of the layout.

    `partial`: missing plain datasets are not reported (one item of a file is being written). `max_rows`: the
    values of datasets with more rows are not read. Memory: one slice of a dataset, an indptr, or a column
    declared unique.
    """
    columns, problems = _declared(source, layout)
    problems += _missing(columns, layout, source, partial)
    problems += _sizes(source, columns)
    broken = {problem.path for problem in problems}
    sound = [column for column in columns if column.path not in broken]
    indptr = {(column.dataset.csr, column.item): column.path for column in columns if column.dataset.csr}
    for column in sound:
        if max_rows is not None and count(source, column.path) > max_rows:
            continue
        try:
            pointer = indptr.get((_first_size(column.dataset), column.item))
            pointer = None if pointer in broken else pointer
            problems += [Violation(column.path, text) for text in _values(source, column, pointer, broken)]
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            problems.append(Violation(column.path, f"cannot be read ({error}); rebuild the artifact"))
    if not partial:
        problems += _listed(source, columns, layout, broken)
    return problems


def _first_size(dataset: Dataset) -> str:
    return str(dataset.dims[0]) if dataset.dims else ""


def _declared(source: Source, layout: Layout) -> tuple[list[Column], list[Violation]]:
    """Match what is there with its declaration; types, ranks and undeclared datasets are judged here."""
    columns, problems = [], []
    sizes: dict[Item | None, dict[str, int]] = {}
    for path in source.paths():
        found = layout.find(path)
        if found is None:
            problems.append(
                Violation(path, f"is not part of schema {layout.name!r} version {layout.version}; remove it")
            )
            continue
        dataset, values = found
        item = (dataset.item_keys, values)
        columns.append(Column(path, dataset, item, sizes.setdefault(item, {})))
        problems += [Violation(path, text) for text in _type_and_rank(source, path, dataset)]
    order = {dataset.path: rank for rank, dataset in enumerate(layout.datasets)}
    columns.sort(key=lambda column: (order[column.dataset.path], column.path))
    return columns, problems


def _type_and_rank(source: Source, path: str, dataset: Dataset) -> Iterator[str]:
    name, shape = source.type_name(path), source.shape(path)
    if name not in dataset.dtypes:
        wanted = " or ".join(dataset.dtypes)
        yield f"has type {name}, the schema says {wanted}; convert it with .astype before writing"
    if len(shape) != len(dataset.dims):
        wanted = ", ".join(map(str, dataset.dims))
        yield f"has shape {shape}, the schema says ({wanted}); reshape it to {len(dataset.dims)} dimensions"


def _missing(columns: list[Column], layout: Layout, source: Source, partial: bool) -> list[Violation]:
    there = {column.path for column in columns}
    problems = []
    if not partial:
        problems += [
            Violation(dataset.path, f"is missing ({dataset.description}); schema {layout.name!r} needs it")
            for dataset in layout.datasets
            if not dataset.item_keys and not dataset.optional and dataset.path not in there
        ]
    for keys, values in dict.fromkeys(column.item for column in columns if column.item[0]):
        for dataset in layout.patterns:
            if dataset.item_keys == keys and not dataset.optional and dataset.at(values) not in there:
                problems.append(Violation(dataset.at(values), f"is missing ({dataset.description})"))
    return problems


def _sizes(source: Source, columns: list[Column]) -> list[Violation]:
    """Sizes agree: the first dataset that has a size fixes it, the others must follow."""
    shared: dict[str, int] = {}
    fixed_by: dict[tuple[Item | None, str], str] = {}
    problems = []
    for column in columns:
        shape = source.shape(column.path)
        if len(shape) != len(column.dataset.dims):
            continue
        for axis, symbol in enumerate(column.dataset.dims):
            text = _agree(column, symbol, shape[axis], shared, fixed_by)
            if text:
                problems.append(Violation(column.path, f"has {shape[axis]} along axis {axis}, {text}"))
    for column in columns:
        assert isinstance(column.sizes, dict)
        column.sizes.update({name: size for name, size in shared.items() if name not in column.sizes})
    return problems


def _agree(
    column: Column,
    symbol: str | int,
    length: int,
    shared: dict[str, int],
    fixed_by: dict[tuple[Item | None, str], str],
) -> str:
    if isinstance(symbol, int):
        return "" if length == symbol else f"the schema says {symbol}"
    name, extra = split_size(symbol)
    local = bool(column.dataset.item_keys) and name.islower()
    sizes = column.sizes if local else shared
    assert isinstance(sizes, dict)
    if name not in sizes:
        if length < extra:
            return f"but {symbol} is at least {extra}; an empty CSR has indptr [0]"
        sizes[name] = length - extra
        fixed_by[column.item if local else None, name] = column.path
        return ""
    wanted = size_of(symbol, sizes)
    by = fixed_by[column.item if local else None, name]
    return (
        ""
        if length == wanted
        else f"but {by} makes it {wanted} ({symbol}); give both the same number of rows"
    )


def _values(source: Source, column: Column, pointer: str | None, broken: set[str]) -> Iterator[str]:
    """Broken promises about the values of one dataset, each kind once, with the first offending position."""
    dataset = column.dataset
    seen: set[str] = set()
    for start, block in blocks(source, column.path):
        for kind, text in _block_problems(dataset, block, start, column.sizes):
            if kind not in seen:
                seen.add(kind)
                yield text
    if dataset.csr:
        yield from _indptr_problems(whole(source, column.path), column.sizes.get(dataset.csr))
    if dataset.rows != "any" and pointer is not None:
        yield from _row_problems(whole(source, column.path), whole(source, pointer), dataset.rows)
    if dataset.unique:
        yield from _duplicates(whole(source, column.path))
    if dataset.below and dataset.below not in broken and dataset.below in source.paths():
        yield from _not_below(whole(source, column.path), whole(source, dataset.below), dataset.below)


def _show(value: Any) -> str:
    """A value as a person writes it: 9 rather than np.int64(9), 'ab' rather than b'ab'."""
    plain = value.item() if isinstance(value, np.generic) else value
    return repr(plain.decode("utf-8", "replace") if isinstance(plain, bytes) else plain)


def _first(mask: NDArray[Any], block: NDArray[Any], start: int) -> tuple[Any, str]:
    """The first offending value and its position, as "[row, ...]"."""
    position = np.unravel_index(int(np.argmax(mask)), mask.shape)
    where = [int(position[0]) + start, *(int(each) for each in position[1:])]
    return block[position], f"[{', '.join(map(str, where))}]"


def _block_problems(
    dataset: Dataset, block: NDArray[Any], start: int, sizes: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    if block.size == 0:
        return
    if block.dtype.kind == "f":
        bad = np.isinf(block) if dataset.nan else ~np.isfinite(block)
        if bad.any():
            value, where = _first(bad, block, start)
            yield (
                "finite",
                f"has {value} at {where}; every value must be {'finite or nan' if dataset.nan else 'finite'}",
            )
    if dataset.index or dataset.minimum is not None or dataset.maximum is not None:
        yield from _range_problems(dataset, block, start, sizes)
    if dataset.values:
        bad = ~np.isin(block, np.asarray(dataset.values, dtype=block.dtype))
        if bad.any():
            value, where = _first(bad, block, start)
            yield "values", f"has {_show(value)} at {where}; allowed: {', '.join(map(str, dataset.values))}"
    if block.dtype.kind == "S" and dataset.dtypes[0] == "S64":
        yield from _digest_problems(block, start)


def _range_problems(
    dataset: Dataset, block: NDArray[Any], start: int, sizes: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    low = 0 if dataset.index else dataset.minimum
    high = sizes.get(dataset.index, 0) - 1 if dataset.index else dataset.maximum
    bad = np.zeros(block.shape, dtype=bool)
    if low is not None:
        bad |= block < low
    if high is not None:
        bad |= block > high
    if dataset.none:
        bad &= block != -1
    if bad.any():
        value, where = _first(bad, block, start)
        none = "-1 (none) or " if dataset.none else ""
        if dataset.index:
            target = f"{dataset.index} = {high + 1 if high is not None else 0}"
            yield (
                "range",
                f"has the dangling index {value} at {where}; it must be {none}in 0..{high} ({target})",
            )
        else:
            yield (
                "range",
                f"has {value} at {where}; it must be {none}within {low}..{'' if high is None else high}",
            )


def _digest_problems(block: NDArray[Any], start: int) -> Iterator[tuple[str, str]]:
    flat = np.ascontiguousarray(block.reshape(-1))
    codes = flat.view(np.uint8).reshape(len(flat), -1)
    digit = (codes >= ord("0")) & (codes <= ord("9")) | (codes >= ord("a")) & (codes <= ord("f"))
    bad: NDArray[Any] = np.asarray(~digit.all(axis=1)) if codes.shape[1] == 64 else np.full(len(flat), True)
    if bad.any():
        value, where = _first(bad, flat, start)
        yield "digest", f"has {_show(value)} at {where}; it must be 64 lower-case hexadecimal digits"


def _indptr_problems(indptr: NDArray[Any], entries: int | None) -> Iterator[str]:
    if len(indptr) and indptr[0] != 0:
        yield f"begins with {indptr[0]}; a CSR indptr begins with 0"
    falls = np.flatnonzero(np.diff(indptr) < 0)
    if len(falls):
        at = int(falls[0])
        yield f"falls from {indptr[at]} to {indptr[at + 1]} at [{at + 1}]; a CSR indptr never falls"
    if len(indptr) and entries is not None and indptr[-1] != entries:
        yield f"ends with {indptr[-1]}, but its columns have {entries} rows; the last value is their number"


def _row_problems(values: NDArray[Any], indptr: NDArray[Any], order: str) -> Iterator[str]:
    if len(values) < 2 or np.any(np.diff(indptr) < 0) or indptr[0] != 0 or indptr[-1] != len(values):
        return
    row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    if order == "unique":
        by_value = np.lexsort((values, row))
        values, row = values[by_value], row[by_value]
    same_row = row[1:] == row[:-1]
    wrong = same_row & ((values[1:] < values[:-1]) if order == "rising" else (values[1:] <= values[:-1]))
    if wrong.any():
        at = int(np.argmax(wrong))
        if order == "unique":
            yield f"holds {values[at]} twice in row {row[at]}; list each value once per row"
        else:
            pair = f"{values[at]} before {values[at + 1]}"
            yield f"is not {order} in row {row[at]}: {pair}; sort the columns within each row"


def _duplicates(values: NDArray[Any]) -> Iterator[str]:
    ordered = np.sort(values.reshape(-1))
    same = ordered[1:] == ordered[:-1]
    if same.any():
        yield f"holds {_show(ordered[int(np.argmax(same))])} more than once; every value must be unique"


def _not_below(values: NDArray[Any], larger: NDArray[Any], path: str) -> Iterator[str]:
    if values.shape != larger.shape:
        return
    wrong = ~(values < larger)
    if wrong.any():
        value, where = _first(wrong, values, 0)
        other, _ = _first(wrong, larger, 0)
        yield f"has {_show(value)} at {where}, but {path} has {_show(other)} there; put the smaller one first"


def _listed(source: Source, columns: list[Column], layout: Layout, broken: set[str]) -> list[Violation]:
    """Items that a table announces exist, and no others."""
    problems = []
    for rule in layout.listed:
        if rule.path in broken or rule.path not in source.paths():
            continue
        items = {values[0] for keys, values in (column.item for column in columns) if keys == (rule.key,)}
        named = set(whole(source, rule.path).tolist())
        for name in sorted(named - items):
            problems.append(
                Violation(rule.path, f"names {name!r}, but there is no {rule.key} of that name; write it")
            )
        for name in sorted(items - named):
            problems.append(
                Violation(rule.path, f"does not name the {rule.key} {name!r}; add it or leave that out")
            )
    return problems
