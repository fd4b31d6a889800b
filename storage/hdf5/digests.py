"""Content digests: of what a file means, whatever its chunks, compression, attributes and order are."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.recfunctions import repack_fields

from storage.files.digests import (
    BLOCK_BYTES,
    HDF5_SIGNATURE,
    UnreadableContent,
    canonical_json,
    file_sha256,
    members_sha256,
    relative_files,
    safetensors_sha256,
)


def content_sha256(path: str | Path) -> str:
    """Canonical digest (64 hex) of what a file or folder means.

    HDF5: sorted dataset paths, dtype, shape, little-endian values. Safetensors: sorted names, dtype, shape,
    bytes. Folder: sorted relative POSIX paths and each member's content digest. Anything else: its bytes.
    Raises UnreadableContent for a broken HDF5 or safetensors file, FileNotFoundError for a missing one.
    """
    path = Path(path)
    if path.is_dir():
        return members_sha256({name: content_sha256(path / name) for name in relative_files(path)})
    if path.suffix == ".safetensors":
        return safetensors_sha256(path)
    return group_sha256(path) if _is_hdf5(path) else file_sha256(path)


def cached_content_sha256(path: str | Path) -> str:
    """``content_sha256`` of what an option names, remembered in this process while size, mtime and inode of
    every file stay. Raises UnreadableContent, ArtifactError, FileNotFoundError."""
    path = Path(path)
    names = list(relative_files(path)) if path.is_dir() else [""]
    stats = (os.stat(path / name if name else path) for name in names)
    facts = tuple((n, s.st_size, s.st_mtime_ns, s.st_ino) for n, s in zip(names, stats, strict=True))
    return _content_sha256_of(str(path.absolute()), facts)


@lru_cache(maxsize=256)
def _content_sha256_of(path: str, facts: tuple[tuple[str, int, int, int], ...]) -> str:
    if Path(path).is_dir():
        return members_sha256({name: _guarded_sha256(Path(path, name)) for name, *_ in facts})
    return _guarded_sha256(Path(path))


def _guarded_sha256(path: Path) -> str:
    """``content_sha256`` of a file that somebody gave: HDF5 is opened in a process of its own."""
    from storage.outside.guarded import read_outside

    if not _is_hdf5(path):
        return content_sha256(path)
    return str(read_outside("storage.hdf5.outside:digest", path))


def _is_hdf5(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


def group_sha256(source: Any, name: str = "/", watch: Callable[[str], None] = lambda _: None) -> str:
    """Canonical digest of one HDF5 group and all below it: relative dataset paths, dtype, shape, values.

    source: a file's path (then ``name`` is the group in it), an open h5py File or Group. Attributes, links'
    creation order, chunks and compression do not count. watch: told before each block is read. Raises
    UnreadableContent, OpenElsewhere.
    """
    if not isinstance(source, str | Path):
        return _hash_group(source[name] if name != "/" else source, watch)
    from storage.files.errors import DamagedArtifact, NotAnArtifact
    from storage.hdf5.access import open_file

    try:
        with open_file(Path(source)) as file:
            return _hash_group(file[name], watch)
    except (OSError, KeyError, RuntimeError, DamagedArtifact, NotAnArtifact) as error:
        raise UnreadableContent(f"{str(source)!r}, group {name!r}: {error}") from error


def _hash_group(group: Any, watch: Callable[[str], None]) -> str:
    digest = hashlib.sha256(b"hdf5\n")
    for path, dataset in sorted(_datasets(group, ""), key=lambda pair: pair[0]):
        shape = None if dataset.shape is None else list(dataset.shape)
        header = [path, _dtype_label(dataset.dtype), shape]
        digest.update(canonical_json(header).encode() + b"\n")
        if dataset.shape is not None:
            _update_values(digest.update, dataset, watch)
    return digest.hexdigest()


def _datasets(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key in group:
        member = group[key]
        if hasattr(member, "shape"):
            yield prefix + key, member
        elif hasattr(member, "keys"):
            yield from _datasets(member, f"{prefix}{key}/")


def _dtype_label(dtype: np.dtype[Any]) -> Any:
    import h5py

    if h5py.check_string_dtype(dtype) is not None and dtype.kind == "O":
        return "text"
    if (base := h5py.check_vlen_dtype(dtype)) is not None:
        return ["ragged", _dtype_label(np.dtype(base))]
    if dtype.kind == "O":
        raise UnreadableContent(f"HDF5 type {dtype} (a reference?) has no canonical digest")
    if (values := h5py.check_enum_dtype(dtype)) is not None:
        return ["enum", dtype.newbyteorder("<").str, sorted(values.items())]
    if dtype.names is not None:
        return [[name, _dtype_label(dtype[name])] for name in dtype.names]
    if dtype.subdtype is not None:
        return ["array", _dtype_label(dtype.subdtype[0]), list(dtype.subdtype[1])]
    return dtype.newbyteorder("<").str


def _update_values(update: Callable[[bytes], None], dataset: Any, watch: Callable[[str], None]) -> None:
    watch(str(dataset.name))
    if dataset.ndim == 0:
        _update_array(update, np.asarray(dataset[()], dtype=dataset.dtype))
        return
    row_bytes = max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64)))
    rows = max(1, BLOCK_BYTES // row_bytes)
    if dataset.chunks:
        rows = max(dataset.chunks[0], rows // dataset.chunks[0] * dataset.chunks[0])
    if dataset.dtype.names is not None and dataset.dtype.hasobject:
        rows = max(1, dataset.shape[0])  # goes field by field, so it must not depend on the size of a block
    for start in range(0, dataset.shape[0], rows):
        watch(str(dataset.name))
        _update_array(update, dataset[start : start + rows])


def _update_array(update: Callable[[bytes], None], values: np.ndarray[Any, Any]) -> None:
    if values.dtype.names is not None:
        if values.dtype.hasobject:
            for name in values.dtype.names:
                _update_array(update, values[name])
            return
        values = repack_fields(values, recurse=True)  # without the padding, whose bytes mean nothing
    if values.dtype.kind == "O":
        for item in values.reshape(-1):
            raw = _item_bytes(item)
            update(struct.pack("<Q", len(raw)) + raw)
    else:
        update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes())


def _item_bytes(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode("utf-8", "surrogateescape")
    array = np.asarray(item)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
