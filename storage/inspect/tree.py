"""What a file holds as a tree of small facts: shapes, types, units, sizes and quick statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import h5py
import numpy as np

from storage.hdf5.access import HDF5_ERRORS
from storage.hdf5.sources import UNWATCHED, decode, type_name
from storage.hdf5.walk import Walk
from storage.schemas.layout import Layout

MAX_ROWS = 1_000_000
"""Values of datasets with more rows are neither checked nor summarised unless asked for."""
_MAX_VALUES = 4_000_000
_SHOWN_ITEMS = 3
_MANY_ITEMS = 6
_MANY = 64


@dataclass(frozen=True)
class Statistics:
    """Smallest, largest and mean of the finite values; how many are nan or, where -1 means none, -1."""

    minimum: float
    maximum: float
    mean: float
    missing: int = 0


@dataclass(frozen=True)
class Node:
    """A group or dataset. `stored_bytes` is what its values take in the file, of a group all below it."""

    path: str
    kind: str
    description: str = ""
    shape: tuple[int, ...] | None = None
    type: str = ""
    unit: str = ""
    compression: str = ""
    stored_bytes: int = 0
    statistics: Statistics | None = None
    sample: tuple[str, ...] = ()
    note: str = ""
    children: tuple[Node, ...] = ()
    left_out: int = 0  # children that are there but not listed

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


def rows_of(dataset: h5py.Dataset) -> int:
    """Rows of a dataset; a scalar has one."""
    return int(dataset.shape[0]) if dataset.shape else 1


def tree(
    found: Walk,
    declared: Layout | None,
    description: str,
    full: bool,
    watch: Callable[[str], None] = UNWATCHED,
) -> Node:
    """The root group of a walked file; without `full`, of very many items only the first are listed."""
    return _Builder(found, declared, full, watch).group("", description)


class _Builder:
    """One pass over what a walk found."""

    def __init__(
        self, found: Walk, declared: Layout | None, full: bool, watch: Callable[[str], None]
    ) -> None:
        self.found, self.declared, self.full, self.watch = found, declared, full, watch
        self.below: dict[str, list[str]] = {}
        self.stored: dict[str, int] = {}
        for path in sorted({*found.groups, *found.datasets, *found.strange} - {"/"}):
            self.below.setdefault(path.rpartition("/")[0], []).append(path)
        for path, dataset in found.datasets.items():
            size = _stored(dataset)
            while path:
                path = path.rpartition("/")[0]
                self.stored[path] = self.stored.get(path, 0) + size

    def group(self, path: str, description: str) -> Node:
        names = self.below.get(path, [])
        shown = names if self.full else self._few(names)
        return Node(
            path=path,
            kind="group",
            description=description,
            stored_bytes=self.stored.get(path, 0),
            children=tuple(self.node(child) for child in shown),
            left_out=len(names) - len(shown),
        )

    def node(self, path: str) -> Node:
        if path in self.found.groups:
            return self.group(path, _attribute(path, self.found.groups[path], "description", self.watch))
        if path in self.found.strange:
            return Node(path, "other", note=self.found.strange[path])
        return _dataset_node(path, self.found.datasets[path], self.declared, self.full, self.watch)

    def _few(self, names: list[str]) -> list[str]:
        """All tables and datasets; the first of very many items or datasets."""
        reserved = self.declared.reserved if self.declared is not None else frozenset()
        many = [name for name in names if name in self.found.groups and name.split("/")[0] not in reserved]
        if len(many) > _MANY_ITEMS:
            hidden = set(many[_SHOWN_ITEMS:])
            names = [name for name in names if name not in hidden]
        return names[:_MANY]


def _dataset_node(
    path: str, dataset: h5py.Dataset, declared: Layout | None, full: bool, watch: Callable[[str], None]
) -> Node:
    declaration = declared.find(path) if declared is not None else None
    statistics: Statistics | None = None
    sample: tuple[str, ...] = ()
    note = ""
    if full or (dataset.size <= _MAX_VALUES and rows_of(dataset) <= MAX_ROWS):
        try:
            watch(path)
            statistics, sample = _summary(dataset, none=bool(declaration and declaration[0].none))
        except HDF5_ERRORS as error:
            note = f"cannot be read ({error})"
    return Node(
        path=path,
        kind="dataset",
        description=_attribute(path, dataset, "description", watch),
        shape=tuple(dataset.shape or ()),
        type=type_name(dataset.dtype),
        unit=_attribute(path, dataset, "unit", watch),
        compression=dataset.compression or "",
        stored_bytes=_stored(dataset),
        statistics=statistics,
        sample=sample,
        note=note,
    )


def _attribute(path: str, each: h5py.Group | h5py.Dataset, name: str, watch: Callable[[str], None]) -> str:
    try:
        watch(path)
        value = each.attrs.get(name, "")
    except HDF5_ERRORS:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _stored(dataset: h5py.Dataset) -> int:
    return int(dataset.id.get_storage_size())


def _summary(dataset: h5py.Dataset, none: bool) -> tuple[Statistics | None, tuple[str, ...]]:
    """Statistics of numbers; the first values of text and of datasets with at most four values."""
    if dataset.size == 0 or dataset.shape is None:
        return None, ()
    if dataset.dtype.kind in "OS":
        first = dataset[:4] if dataset.ndim else np.asarray(dataset[()]).reshape(1)
        return None, tuple(map(str, decode(np.asarray(first)).reshape(-1)[:4]))
    if dataset.dtype.kind not in "biuf":
        return None, ()
    values = np.asarray(dataset[()]).reshape(-1)
    sample = tuple(str(value) for value in values.tolist()) if values.size <= 4 else ()
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=bool)
    if none:
        missing = missing | (values == -1)
    known = values[~missing]
    if known.size == 0:
        return Statistics(np.nan, np.nan, np.nan, int(missing.sum())), sample
    numbers = float(known.min()), float(known.max()), float(known.mean(dtype=np.float64))
    return Statistics(*numbers, int(missing.sum())), sample
