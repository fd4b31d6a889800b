"""Do columns keep what their layout promises? The same checks serve writing and reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from storage.hdf5.access import HDF5_ERRORS
from storage.hdf5.sizes import Column, check_sizes
from storage.hdf5.sources import Source, count, whole
from storage.hdf5.values import check_values
from storage.schemas.layout import Dataset, ItemsListed, Layout


@dataclass(frozen=True)
class Violation:
    """One broken promise: the path in the file ("/" = the file itself), what is wrong, what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


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
    problems += [Violation(path, text) for path, text in check_sizes(source, columns)]
    broken = {problem.path for problem in problems}
    sound = [column for column in columns if column.path not in broken]
    indptr = {(column.dataset.csr, column.item): column.path for column in columns if column.dataset.csr}
    for column in sound:
        if max_rows is not None and count(source, column.path) > max_rows:
            continue
        pointer = indptr.get((_first_size(column.dataset), column.item))
        pointer = None if pointer in broken else pointer
        problems += _read(column.path, check_values(source, column, pointer, broken))
    for rule in [] if partial else layout.listed:
        if rule.path in source.paths() and rule.path not in broken:
            problems += _read(rule.path, _listed(source, columns, rule))
    return list(dict.fromkeys(problems))


def _read(path: str, texts: Iterator[str]) -> list[Violation]:
    """What is wrong with a dataset; that it cannot be read is one such thing."""
    try:
        return [Violation(path, text) for text in texts]
    except HDF5_ERRORS as error:
        return [Violation(path, f"cannot be read ({error}); rebuild the artifact")]


def _first_size(dataset: Dataset) -> str:
    return str(dataset.dims[0]) if dataset.dims else ""


def _declared(source: Source, layout: Layout) -> tuple[list[Column], list[Violation]]:
    """Match what is there with its declaration; types, ranks and undeclared datasets are judged here."""
    columns, problems = [], []
    for path in source.paths():
        found = layout.find(path)
        if found is None:
            problems.append(
                Violation(path, f"is not part of schema {layout.name!r} version {layout.version}; remove it")
            )
            continue
        dataset, values = found
        item = (dataset.item_keys, values)
        columns.append(Column(path, dataset, item))
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


def _listed(source: Source, columns: list[Column], rule: ItemsListed) -> Iterator[str]:
    """Items that a table announces exist, and no others."""
    items = {values[0] for keys, values in (column.item for column in columns) if keys == (rule.key,)}
    named = set(whole(source, rule.path).tolist())
    for name in sorted(named - items):
        yield f"names {name!r}, but there is no {rule.key} of that name; write it"
    for name in sorted(items - named):
        yield f"does not name the {rule.key} {name!r}; add it or leave that out"
