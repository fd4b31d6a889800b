"""One view on columns that are to be checked: arrays in memory, or datasets of an open file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from storage.hdf5.texts import rows_of_texts

BLOCK_BYTES = 8 << 20


class Watch:
    """Told what is read next: reports it, and refuses with OSError what the HDF5 library hangs on."""

    def __init__(self, report: Callable[[str], None] | None = None, refused: Collection[str] = ()) -> None:
        self.report, self.refused = report, frozenset(refused)

    def __call__(self, path: str) -> None:
        if path in self.refused:
            raise OSError("damaged so that the HDF5 library never comes back from reading it")
        if self.report is not None:
            self.report(path)


UNWATCHED = Watch()


class Source(Protocol):
    """Columns by path; strings come as object arrays of str or as fixed-length bytes."""

    def paths(self) -> list[str]: ...
    def shape(self, path: str) -> tuple[int, ...]: ...
    def type_name(self, path: str) -> str: ...
    def rows(self, path: str, start: int, stop: int) -> NDArray[Any]: ...


def type_name(dtype: np.dtype[Any]) -> str:
    """The name of a type as layouts write it: "str" (variable UTF-8), "S64" (fixed), else numpy's name."""
    text = h5py.check_string_dtype(dtype)
    if text is not None:
        return "str" if text.length is None else f"S{text.length}"
    if dtype.kind == "O":
        return "object"
    return dtype.name if dtype.kind != "S" else f"S{dtype.itemsize}"


def decode(values: NDArray[Any]) -> NDArray[Any]:
    """Bytes (object or fixed length) -> object array of str; undecodable bytes survive as surrogates.

    That is how Python itself keeps file names that are not UTF-8.
    """
    flat = [_text(value) for value in values.reshape(-1).tolist()]
    texts = np.empty(len(flat), dtype=h5py.string_dtype())
    texts[:] = flat
    return texts.reshape(values.shape)


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


class ArraySource:
    """Arrays by path, all in memory."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    def paths(self) -> list[str]:
        return sorted(self.arrays)

    def shape(self, path: str) -> tuple[int, ...]:
        return self.arrays[path].shape

    def type_name(self, path: str) -> str:
        return type_name(self.arrays[path].dtype)

    def rows(self, path: str, start: int, stop: int) -> NDArray[Any]:
        array = self.arrays[path]
        return array.reshape(1)[start:stop] if array.ndim == 0 else array[start:stop]


class FileSource:
    """Datasets of an open HDF5 file; `found` is what a walk over it found."""

    def __init__(self, found: Mapping[str, h5py.Dataset], watch: Callable[[str], None] = UNWATCHED) -> None:
        self.found, self.watch = found, watch

    def paths(self) -> list[str]:
        return sorted(self.found)

    def shape(self, path: str) -> tuple[int, ...]:
        return self.found[path].shape or ()

    def type_name(self, path: str) -> str:
        return type_name(self.found[path].dtype)

    def rows(self, path: str, start: int, stop: int) -> NDArray[Any]:
        self.watch(path)
        dataset = self.found[path]
        if dataset.ndim == 0:
            values = np.asarray(dataset[()]).reshape(1)[start:stop]
        elif dataset.dtype.kind == "O":
            values = rows_of_texts(dataset, start, stop)
        else:
            values = dataset[start:stop]
        return decode(values) if self.type_name(path) == "str" else values


def count(source: Source, path: str) -> int:
    """Rows of a dataset; a scalar has one."""
    shape = source.shape(path)
    return shape[0] if shape else 1


def blocks(source: Source, path: str) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first row, rows) in slices of about BLOCK_BYTES."""
    shape = source.shape(path)
    width = max(1, int(np.prod(shape[1:], dtype=np.int64)) * 8)
    step = max(1, BLOCK_BYTES // width)
    for start in range(0, count(source, path), step):
        yield start, source.rows(path, start, min(start + step, count(source, path)))


def whole(source: Source, path: str) -> NDArray[Any]:
    """The dataset as one array of at least one dimension."""
    return source.rows(path, 0, count(source, path))
