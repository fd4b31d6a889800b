"""The first rows of a dataset, or of the columns of a group, as a table of texts."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from storage.files.errors import DamagedArtifact, MissingItem
from storage.hdf5.access import HDF5_ERRORS, open_file
from storage.hdf5.sources import Watch, decode, type_name
from storage.hdf5.walk import at_path

MOST_COLUMNS = 24
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Column:
    """One dataset of a preview: path, type, unit, meaning, shape."""

    path: str
    type: str
    unit: str
    description: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Preview:
    """The first rows: `header` names the cells of a row; `total` rows are in the file."""

    path: str
    columns: tuple[Column, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    total: int
    left_out: int = 0  # columns that are there but not shown

    def to_json(self) -> str:
        """As JSON; nan and infinities become null."""
        plain = asdict(self)
        plain["rows"] = [[_json_value(value) for value in row] for row in self.rows]
        return json.dumps(plain, indent=2, sort_keys=True)


def preview(
    path: Path | str, dataset: str, rows: int = 10, *, watch: Callable[[str], None] | None = None
) -> Preview:
    """The first `rows` rows of a dataset, or of all columns of one length of a group; no more is read.

    More dimensions than two are laid side by side, at most MOST_COLUMNS cells a row. Raises
    FileNotFoundError, MissingItem (no such path), NotAnArtifact and DamagedArtifact.
    """
    path, wanted = Path(path), dataset.strip("/")
    tell = Watch(watch)
    with open_file(path) as file:
        try:
            tell(wanted)
            found = at_path(file, wanted) if wanted else file
            if found is None:
                raise MissingItem(f"{path}: no dataset or group {wanted!r}{_hint(file, wanted)}")
            columns = _columns(found, wanted)
            if not columns:
                names = ", ".join(sorted(found)[:8])
                raise MissingItem(f"{path}: {wanted or '/'} has no datasets of its own; it has: {names}")
            return _table(wanted, columns, rows, tell)
        except MissingItem:
            raise
        except HDF5_ERRORS as error:
            raise DamagedArtifact(f"{path}: {wanted!r} cannot be read ({error}); rebuild the file") from error


def _columns(found: Any, path: str) -> dict[str, h5py.Dataset]:
    """The dataset itself, or the datasets of a group that share the most common number of rows."""
    if isinstance(found, h5py.Dataset):
        return {path: found}
    each = {name: at_path(found, name) for name in found}
    datasets = {f"{path}/{name}".strip("/"): d for name, d in each.items() if isinstance(d, h5py.Dataset)}
    lengths = Counter(d.shape[:1] for d in datasets.values() if d.shape is not None)
    if not lengths:
        return {}
    common = max(lengths, key=lambda shape: (lengths[shape], shape))
    return {name: d for name, d in datasets.items() if d.shape is not None and d.shape[:1] == common}


def _table(path: str, columns: dict[str, h5py.Dataset], rows: int, tell: Watch) -> Preview:
    header: list[str] = []
    cells: list[NDArray[Any]] = []
    facts: list[Column] = []
    left_out, total = 0, 0
    for name, dataset in columns.items():
        tell(name)
        values = _first_rows(name, dataset, rows)
        total = int(dataset.shape[0]) if dataset.shape else 1
        width = values.shape[1]
        room = max(0, MOST_COLUMNS - len(header))
        left_out += max(0, width - room)
        short = name.rsplit("/", 1)[-1]
        names = [short] if width == 1 else [f"{short}[{at}]" for at in _places(dataset.shape[1:])]
        header += names[:room]
        cells.append(values[:, :room])
        facts.append(_facts(name, dataset))
    table = [tuple(value for block in cells for value in block[row].tolist()) for row in range(len(cells[0]))]
    return Preview(path, tuple(facts), tuple(header), tuple(table), total, left_out)


def _first_rows(name: str, dataset: h5py.Dataset, rows: int) -> NDArray[Any]:
    """[rows, cells] of a dataset that keeps its values in this file."""
    if dataset.external or dataset.is_virtual:
        raise OSError("keeps its values in another file")
    if dataset.shape is None:
        return np.empty((0, 1))
    if not dataset.shape:
        values = np.asarray(dataset[()]).reshape(1, 1)
    else:
        width = int(np.prod(dataset.shape[1:], dtype=np.int64)) * max(1, dataset.dtype.itemsize)
        keep = tuple(slice(0, MOST_COLUMNS + 1) for _ in dataset.shape[1:]) if width > _MOST_BYTES else ()
        count = min(rows, int(dataset.shape[0]))
        part = np.asarray(dataset[(slice(0, count), *keep)])
        values = part.reshape(count, int(np.prod(part.shape[1:], dtype=np.int64)))
    if dataset.dtype.kind == "S" or type_name(dataset.dtype) == "str":
        return decode(values)
    if dataset.dtype.kind not in "biufc":
        return np.array([[str(value) for value in row] for row in values], dtype=object).reshape(values.shape)
    return values


def _places(shape: tuple[int, ...]) -> list[str]:
    most = MOST_COLUMNS + 1
    counted = (np.unravel_index(at, shape) for at in range(min(most, int(np.prod(shape, dtype=np.int64)))))
    return [",".join(str(int(axis)) for axis in each) for each in counted]


def _facts(name: str, dataset: h5py.Dataset) -> Column:
    texts = {key: dataset.attrs.get(key, "") for key in ("unit", "description")}
    plain = {k: v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for k, v in texts.items()}
    shape = tuple(map(int, dataset.shape or ()))
    return Column(name, type_name(dataset.dtype), plain["unit"], plain["description"], shape)


def _hint(file: h5py.File, wanted: str) -> str:
    """What stands where the path leaves the file."""
    parent, rest = file, wanted.split("/")
    while len(rest) > 1 and isinstance(at_path(parent, rest[0]), h5py.Group):
        parent = at_path(parent, rest.pop(0))
    names = sorted(parent)
    near = difflib.get_close_matches(rest[0], names, n=1)
    where = parent.name.strip("/") or "the file"
    return f"; did you mean {near[0]!r}?" if near else f"; {where} has: {', '.join(names[:8])}"


def _json_value(value: Any) -> Any:
    if isinstance(value, complex):
        return str(value)
    return None if isinstance(value, float) and not np.isfinite(value) else value
