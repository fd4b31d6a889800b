"""Go through an HDF5 file that may be damaged, foreign or hostile: hard links only, every object once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import h5py

from storage.hdf5.access import HDF5_ERRORS
from storage.hdf5.texts import announced_bytes, file_bytes, too_much

MOST_EXPANSION = 1100  # deflate cannot shrink by more than 1032


@dataclass
class Walk:
    """Groups and datasets by path without a leading slash, and what cannot be followed with the reason."""

    groups: dict[str, h5py.Group] = field(default_factory=dict)
    datasets: dict[str, h5py.Dataset] = field(default_factory=dict)
    strange: dict[str, str] = field(default_factory=dict)


def walk(file: h5py.Group) -> Walk:
    """Everything below a group; soft and external links are named, never followed."""
    found = Walk()
    try:
        pending, seen = [("", file)], {_address(file)}
    except HDF5_ERRORS as error:
        found.strange["/"] = f"cannot be opened ({error}); rebuild the file"
        return found
    while pending:
        prefix, group = pending.pop()
        try:
            names = list(group)
        except HDF5_ERRORS as error:
            found.strange[prefix.rstrip("/") or "/"] = f"cannot be listed ({error}); rebuild the file"
            continue
        for name in names:
            _visit(found, f"{prefix}{name}", group, name, seen)
            if f"{prefix}{name}" in found.groups:
                pending.append((f"{prefix}{name}/", found.groups[f"{prefix}{name}"]))
    return found


def _visit(found: Walk, path: str, group: h5py.Group, name: str, seen: set[int]) -> None:
    try:
        child = hard_child(group, name)
        if child is None:
            found.strange[path] = "is a link to somewhere else; copy what it points to"
        elif isinstance(child, h5py.Dataset):
            _visit_dataset(found, path, child)
        elif not isinstance(child, h5py.Group):
            found.strange[path] = "is a named type, which no schema has; remove it"
        elif _address(child) in seen:
            found.strange[path] = "is a second link to a group that is elsewhere in the file; remove it"
        else:
            seen.add(_address(child))
            found.groups[path] = child
    except HDF5_ERRORS as error:
        found.strange[path] = f"cannot be opened ({error}); rebuild the file"


def _visit_dataset(found: Walk, path: str, dataset: h5py.Dataset) -> None:
    """Keep a dataset whose type and shape can be read and whose values can be in this file."""
    if dataset.external or dataset.is_virtual:
        found.strange[path] = "keeps its values in another file; copy them into this one"
        return
    size = int(dataset.nbytes)  # reads shape and type, which a damaged header does not survive
    stored = int(dataset.id.get_storage_size())
    if size > stored * (MOST_EXPANSION if dataset.chunks else 1):
        found.strange[path] = f"claims {size} bytes of values, but the file stores {stored}; rebuild the file"
        return
    if dataset.dtype.kind == "O":
        limit = file_bytes(dataset)
        announced = announced_bytes(dataset) or 0
        if announced > limit:
            found.strange[path] = f"{too_much(announced, limit)}; rebuild the file"
            return
    found.datasets[path] = dataset


def _address(group: h5py.Group) -> int:
    return int(h5py.h5o.get_info(group.id).addr)


def hard_child(group: h5py.Group, name: str) -> Any:
    """The object behind a hard link, None for any other link."""
    return group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None


def at_path(file: h5py.File, path: str) -> Any:
    """The object at `path` through hard links only, None where there is none."""
    current: Any = file
    for part in path.strip("/").split("/"):
        if not isinstance(current, h5py.Group) or not part or part not in current:
            return None
        current = hard_child(current, part)
    return current
