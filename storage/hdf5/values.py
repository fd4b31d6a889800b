"""Values: indices that point at something, CSR rows, orders, finite numbers, allowed texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.hdf5.sizes import Column
from storage.hdf5.sources import Source, blocks, whole
from storage.schemas.layout import Dataset


def check_values(source: Source, column: Column, pointer: str | None, broken: set[str]) -> Iterator[str]:
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


def written(value: Any) -> str:
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
            yield "values", f"has {written(value)} at {where}; allowed: {', '.join(map(str, dataset.values))}"
    if block.dtype.kind == "S" and dataset.dtypes[0] == "S64":
        yield from _digest_problems(block, start, dataset.none)


def _range_problems(
    dataset: Dataset, block: NDArray[Any], start: int, sizes: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    low = 0 if dataset.index else dataset.minimum
    high = dataset.maximum
    if dataset.index:  # an unknown size has been reported where it is missing
        high = sizes[dataset.index] - 1 if dataset.index in sizes else None
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
            target = dataset.index if high is None else f"{dataset.index} = {high + 1:.0f}"
            allowed = f"{none}in 0..{'' if high is None else high} ({target})"
            yield "range", f"has the dangling index {value} at {where}; it must be {allowed}"
        else:
            yield (
                "range",
                f"has {value} at {where}; it must be {none}within {low}..{'' if high is None else high}",
            )


def _digest_problems(block: NDArray[Any], start: int, none: bool) -> Iterator[tuple[str, str]]:
    flat = np.ascontiguousarray(block.reshape(-1))
    codes = flat.view(np.uint8).reshape(len(flat), -1)
    digit = (codes >= ord("0")) & (codes <= ord("9")) | (codes >= ord("a")) & (codes <= ord("f"))
    bad: NDArray[Any] = np.asarray(~digit.all(axis=1)) if codes.shape[1] == 64 else np.full(len(flat), True)
    if none:  # an empty text: the file was not read
        bad &= codes.any(axis=1)
    if bad.any():
        value, where = _first(bad, flat, start)
        yield "digest", f"has {written(value)} at {where}; it must be 64 lower-case hexadecimal digits"


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
        yield f"holds {written(ordered[int(np.argmax(same))])} more than once; every value must be unique"


def _not_below(values: NDArray[Any], larger: NDArray[Any], path: str) -> Iterator[str]:
    if values.shape != larger.shape:
        return
    wrong = ~(values < larger)
    if wrong.any():
        value, where = _first(wrong, values, 0)
        other, _ = _first(wrong, larger, 0)
        found, larger_one = written(value), written(other)
        yield f"has {found} at {where}, but {path} has {larger_one} there; put the smaller one first"
