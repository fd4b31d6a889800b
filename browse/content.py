"""What h5web asks about a file, answered by h5grove. Runs in a process of its own (`storage.children`).

Links are shown and never followed, values in other files never read: a file may name any path on the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5grove.content import (
    DatasetContent,
    DatatypeContent,
    EntityContent,
    ExternalLinkContent,
    GroupContent,
    SoftLinkContent,
)
from h5grove.encoders import encode
from h5grove.utils import parse_slice

from storage.hdf5.access import open_file
from storage.hdf5.walk import hard_child

MOST_BYTES = 256 << 20
"""Of one answer; more does not help a person, and a browser cannot hold it."""
FORMATS = ("json", "bin", "csv", "npy", "tiff")

Watch = Callable[[str], None]
Answer = tuple[bytes, dict[str, str]]


class NotShown(ValueError):
    """Something that is not in the file, or that is not read."""


class _Group(GroupContent):
    """A group whose children are told without following a link."""

    def _get_child_metadata_content(self, depth: int = 0) -> list[Any]:
        names = self._h5py_entity.keys()
        return [_child(self._h5py_entity, self._path, name).metadata(depth) for name in names]


def meta(path: Path, inner: str, *, watch: Watch) -> Answer:
    """Kind, attributes' names, children, shape and type."""
    with open_file(path) as file:
        watch(inner)
        return _encoded(_at(file, inner).metadata(), "json")


def attr(path: Path, inner: str, keys: list[str] | None, *, watch: Watch) -> Answer:
    """Values of attributes."""
    with open_file(path) as file:
        watch(inner)
        found = _at(file, inner)
        if not isinstance(found, DatasetContent | GroupContent | DatatypeContent):
            raise NotShown(f"{inner!r} is a link, which has no attributes")
        return _encoded(found.attributes(keys), "json")


def data(
    path: Path,
    inner: str,
    selection: str | None,
    form: str,
    dtype: str,
    flatten: bool,
    *,
    watch: Watch,
) -> Answer:
    """Values of a dataset or of a slice of it such as `0,:,3:9`."""
    if form not in FORMATS or dtype not in ("origin", "safe"):
        raise NotShown(f"format {form!r}, type {dtype!r}: known are {', '.join(FORMATS)} and origin, safe")
    with open_file(path) as file:
        watch(inner)
        return _encoded(_dataset(file, inner, selection).data(selection, flatten, dtype), form)


def stats(path: Path, inner: str, selection: str | None, *, watch: Watch) -> Answer:
    """Smallest, largest, mean of a dataset or of a slice of it."""
    with open_file(path) as file:
        watch(inner)
        return _encoded(_dataset(file, inner, selection).data_stats(selection), "json")


def paths(path: Path, inner: str, *, watch: Watch) -> Answer:
    """All paths below a group, links not followed, at most 100,000."""
    with open_file(path) as file:
        watch(inner)
        group = _at(file, inner)
        if not isinstance(group, GroupContent):
            raise NotShown(f"{inner!r} is no group")
        begin, found = inner.rstrip("/"), [inner]

        def visit(name: str) -> bool | None:
            found.append(f"{begin}/{name}")
            return True if len(found) == 100_000 else None

        group._h5py_entity.visit(visit)
        return _encoded(found, "json")


def _dataset(file: h5py.File, inner: str, selection: str | None) -> DatasetContent:
    found = _at(file, inner)
    if not isinstance(found, DatasetContent):
        raise NotShown(f"{inner!r} is no dataset")
    dataset = found._h5py_entity
    if dataset.external or dataset.is_virtual:
        raise NotShown(f"{inner!r} keeps its values in another file, which is not read")
    size = _size(dataset, selection) * max(1, dataset.dtype.itemsize)
    if size > MOST_BYTES:
        raise NotShown(f"{inner!r}: {size:,} bytes are more than {MOST_BYTES:,}; choose a slice of it")
    return found


def _size(dataset: h5py.Dataset, selection: str | None) -> int:
    """How many values a selection has, without reading one."""
    if dataset.shape is None or not selection:
        return int(dataset.size or 0)
    try:
        empty = np.broadcast_to(np.empty((), np.uint8), dataset.shape)
        return int(np.asarray(empty[parse_slice(selection)]).size)
    except (ValueError, TypeError, IndexError) as error:
        raise NotShown(f"{selection!r} is no slice of {dataset.shape}: {error}") from error


def _at(file: h5py.File, inner: str) -> EntityContent:
    """What is at a path, the last part of it a link perhaps, the others never."""
    parts = [part for part in inner.split("/") if part]
    if not parts:
        return _Group("/", file["/"], file)
    parent: Any = file
    for part in parts[:-1]:
        parent = hard_child(parent, part) if isinstance(parent, h5py.Group) and part in parent else None
    if not isinstance(parent, h5py.Group) or parent.get(parts[-1], getlink=True) is None:
        raise NotShown(f"{inner!r} is not in the file, or behind a link, which is not followed")
    return _child(parent, "/" + "/".join(parts[:-1]), parts[-1])


def _child(group: h5py.Group, prefix: str, name: str) -> EntityContent:
    path = f"{prefix.rstrip('/')}/{name}"
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return ExternalLinkContent(path, link)
    if isinstance(link, h5py.SoftLink):
        return SoftLinkContent(path, link)
    found = hard_child(group, name)
    if isinstance(found, h5py.Dataset):
        return DatasetContent(path, found)
    if isinstance(found, h5py.Datatype):
        return DatatypeContent(path, found)
    if isinstance(found, h5py.Group):
        return _Group(path, found, group.file)
    return EntityContent(path)


def _encoded(value: Any, form: str) -> Answer:
    answer = encode(value, form)
    return bytes(answer.content), {str(name): str(each) for name, each in answer.headers.items()}
