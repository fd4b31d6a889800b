"""How arrays become bytes: converted to their declared types, compressed, described, the same every time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from storage.files.errors import InvalidArrays
from storage.hdf5.access import create_file
from storage.hdf5.check import Violation
from storage.hdf5.open import RESERVED_ATTRIBUTES
from storage.hdf5.sources import decode, type_name
from storage.schemas.layout import Dataset, Layout

_COMPRESS_FROM = 4096  # bytes; below, the bookkeeping of chunks costs more than compression saves
_CHUNK_BYTES = 1 << 18
_FAST_FROM = 1 << 20  # bytes; gzip-1 from there. LZF would be faster, but only h5py reads it.
_ATTRIBUTE_BYTES = 60_000  # HDF5 keeps fixed-size attributes in a header of 64 KiB


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file under another name beside `path`, renamed when the block ends well, else removed."""
    hidden = path.name if path.name.startswith(".") else f".{path.name}"
    partial = path.with_name(f"{hidden}.{os.getpid()}.partial")
    try:
        with create_file(partial) as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def prepare(declared: Layout, arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Arrays in their declared types; what would lose values stays as it is, for `check` to report."""
    prepared = {}
    for path, value in arrays.items():
        found = declared.find(path)
        prepared[path] = np.asarray(value) if found is None else _convert(path, found[0], value)
    return prepared


def _convert(path: str, dataset: Dataset, value: Any) -> NDArray[Any]:
    if dataset.dtypes[0] == "str" or dataset.dtypes[0].startswith("S"):
        return _convert_text(path, dataset.dtypes[0], value)
    plain = not hasattr(value, "dtype")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidArrays(f"{path}: not an array ({error}); give rows of equal length") from error
    if type_name(array.dtype) in dataset.dtypes or array.dtype.kind not in "biuf":
        return array
    for each in dataset.dtypes:
        if (
            array.size == 0
            or np.can_cast(array.dtype, np.dtype(each), "safe")
            or (plain and _fits(array, each))
        ):
            return _with_rank(array.astype(each), dataset)
    return array


def _fits(array: NDArray[Any], wanted: str) -> bool:
    """Whether plain Python numbers keep their values in the declared type (floats: up to its precision)."""
    target = np.dtype(wanted)
    if target.kind == "f":
        return array.dtype.kind in "iuf"
    return array.dtype.kind in "biu" and np.array_equal(array.astype(target), array)


def _with_rank(array: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """An empty list has lost its trailing sizes: give them back where they are numbers."""
    trailing = dataset.dims[1:]
    if array.shape == (0,) and trailing and all(isinstance(size, int) for size in trailing):
        return array.reshape(0, *trailing)
    return array


def _convert_text(path: str, wanted: str, value: Any) -> NDArray[Any]:
    array = np.asarray(value, dtype=object)
    for position, each in enumerate(array.reshape(-1)):
        if not isinstance(each, str | bytes):
            raise InvalidArrays(f"{path}: has {each!r} at [{position}]; every value must be text")
    texts = decode(array)
    flat = texts.reshape(-1)
    if any("\0" in text for text in flat):
        raise InvalidArrays(f"{path}: a text holds a zero byte, which HDF5 cannot keep; remove it")
    if wanted == "str":
        return texts
    encoded = [text.encode("utf-8", "surrogateescape") for text in flat]
    length = max([int(wanted[1:]), *map(len, encoded)])
    return np.array(encoded, dtype=f"S{length}").reshape(texts.shape)


def raise_invalid(problems: Sequence[Violation], declared: Layout) -> None:
    """Raise InvalidArrays that names the first five violations, if there are any."""
    if problems:
        more = f"; ... {len(problems) - 5} more" if len(problems) > 5 else ""
        shown = "; ".join(map(str, problems[:5]))
        raise InvalidArrays(f"not a valid {declared.name!r} (version {declared.version}): {shown}{more}")


def write_root(
    file: h5py.File,
    declared: Layout,
    stage: str,
    options: Mapping[str, Any],
    inputs: Sequence[str],
    attributes: Mapping[str, Any] | None,
) -> None:
    """The root attributes: what the file is and where it comes from, then the caller's own facts."""
    if isinstance(inputs, str):
        raise InvalidArrays(f"inputs is the text {inputs!r}; give a list of content digests")
    extra = dict(attributes or {})
    clash = sorted(set(extra) & set(RESERVED_ATTRIBUTES))
    if clash:
        raise InvalidArrays(f"attribute {clash[0]!r} is written by storage.hdf5 itself; choose another name")
    file.attrs["schema"] = declared.name
    file.attrs["schema_version"] = declared.version
    file.attrs["stage"] = stage
    file.attrs["options"] = _json(dict(options))
    file.attrs["inputs"] = _json([str(each) for each in inputs])
    file.attrs["description"] = declared.description
    for name in sorted(extra):
        file.attrs[name] = _attribute(extra[name])


def _attribute(value: Any) -> Any:
    """Text, a number or a short list of numbers as they are; anything else, long lists too, as JSON."""
    if isinstance(value, str | bool | int | float | np.number | np.bool_):
        return value
    if isinstance(value, np.ndarray | list | tuple):
        array = np.asarray(value)
        small = array.dtype.kind in "biuf" and 0 < array.nbytes <= _ATTRIBUTE_BYTES
        return array if small else _json(array.tolist())
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)


def write_dataset(file: h5py.File, declared: Layout, path: str, array: NDArray[Any]) -> None:
    """One dataset that `check` has accepted, with its description and unit, its groups made on the way."""
    found = declared.find(path)
    assert found is not None  # check() refuses undeclared datasets
    group = _group(file, declared, path)
    name = path.rsplit("/", 1)[-1]
    values, dtype = _stored(array)
    storage = {} if found[0].mapped else _storage(values)
    dataset = group.create_dataset(name, data=values, dtype=dtype, track_times=False, **storage)
    dataset.attrs["description"] = found[0].description
    if found[0].unit:
        dataset.attrs["unit"] = found[0].unit


def _group(file: h5py.File, declared: Layout, path: str) -> h5py.Group:
    """The group that holds `path`, made with its parents, each with its description."""
    group: h5py.Group = file
    parts = path.split("/")[:-1]
    for depth, part in enumerate(parts, start=1):
        if part in group:
            group = group[part]
        else:
            group = group.create_group(part)
            group.attrs["description"] = declared.group_description("/".join(parts[:depth]))
    return group


def _stored(array: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    if array.dtype.kind != "O":
        little = array.dtype.newbyteorder("<")
        return np.ascontiguousarray(array, dtype=little).reshape(array.shape), little
    encoded = np.empty(array.size, dtype=object)
    encoded[:] = [text.encode("utf-8", "surrogateescape") for text in array.reshape(-1)]
    return encoded.reshape(array.shape), h5py.string_dtype("utf-8")


def _storage(values: NDArray[Any]) -> dict[str, Any]:
    """Chunks along items, gzip and shuffle for arrays worth it; text lies elsewhere in the file anyway."""
    if values.dtype.kind == "O" or values.ndim == 0 or values.nbytes < _COMPRESS_FROM:
        return {}
    rows = max(1, min(len(values), _CHUNK_BYTES // max(1, values.nbytes // len(values))))
    level = 1 if values.nbytes >= _FAST_FROM else 4
    return {
        "chunks": (rows, *values.shape[1:]),
        "compression": "gzip",
        "compression_opts": level,
        "shuffle": True,
    }
