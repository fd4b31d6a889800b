"""How much a column of texts takes, known before it is read: each row only points into the file's heap, and
all rows may point to one text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

_STEP_BYTES = 64 << 20
_LENGTH = np.dtype("<u4")


def announced_bytes(dataset: h5py.Dataset) -> int | None:
    """Bytes that the rows of a column of variable length take; None where only reading tells.

    The file's own lengths are summed, the heap is not touched: what is damaged there makes the library hang.
    """
    count = int(dataset.size or 0)
    offset = dataset.id.get_offset()
    if not count or offset is None or dataset.chunks:
        return 0 if not count else None
    stride, left = divmod(int(dataset.id.get_storage_size()), count)
    if left or stride < _LENGTH.itemsize:
        raise OSError("its rows are of no whole number of bytes")
    path = _file(dataset)
    if offset + count * stride > path.stat().st_size:
        raise OSError("it lies beyond the end of the file")
    octets = np.memmap(path, np.uint8, "r", offset, (count, stride))
    lengths = np.ascontiguousarray(octets[:, : _LENGTH.itemsize]).view(_LENGTH)
    base = None if h5py.check_string_dtype(dataset.dtype) else h5py.check_vlen_dtype(dataset.dtype)
    return int(lengths.sum(dtype=np.uint64)) * (1 if base is None else np.dtype(base).itemsize)


def rows_of_texts(dataset: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    """Rows of a column of texts, never more bytes of them than the file has. Raises OSError."""
    limit = file_bytes(dataset)
    announced = announced_bytes(dataset)
    if announced is not None:
        if announced > limit:
            raise OSError(too_much(announced, limit))
        return np.asarray(dataset[start:stop])
    step, parts, taken = max(1, _STEP_BYTES // max(1, limit)), [], 0
    for begin in range(start, stop, step):
        part = np.asarray(dataset[begin : min(stop, begin + step)])
        taken += sum(map(len, part.reshape(-1).tolist()))
        if taken > limit:
            raise OSError(too_much(taken, limit))
        parts.append(part)
    return np.concatenate(parts) if parts else np.asarray(dataset[start:stop])


def too_much(announced: int, limit: int) -> str:
    """What is wrong with a column whose texts take more than the file."""
    return f"claims {announced} bytes of texts, the whole file has {limit}"


def file_bytes(dataset: h5py.Dataset) -> int:
    """Size of the file that a dataset is in."""
    return _file(dataset).stat().st_size


def _file(dataset: h5py.Dataset) -> Path:
    return Path(os.fsdecode(dataset.file.filename))
