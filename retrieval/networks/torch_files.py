"""A .pth of torch's as plain values and arrays, read without torch and without running anything of it.

Two forms: a zip of `data.pkl` and one member per storage (torch 1.6 and later), and a sequence of pickles
with the storages behind them. Every size that is announced is compared with the file before memory is taken.
Source: torch/serialization.py.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.outside.guarded import read_outside
from storage.outside.pickles import BadPickle, Kept, Named, RefusedPickle, loads

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MOST_EXPANSION, _SMALL_BYTES = 4, 64 << 20
_MOST_DIMENSIONS = 32
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}


class BadTorchFile(ValueError):
    """A file that is no .pth, or a damaged one; the message names the file."""


class RefusedTorchFile(BadTorchFile):
    """A .pth that asks for more than tensors and arrays."""


@dataclass(eq=False)
class Storage(Kept):
    """Values that tensors are views of: how many of what type, and once they are read, the values."""

    kind: str
    count: int
    values: NDArray[Any] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """How it is stored: bfloat16 is not known to numpy and stays as 16 bits."""
        return np.dtype("<u2" if self.kind == "bfloat16" else self.kind)


@dataclass(eq=False)
class StoredTensor(Kept):
    """A tensor: a view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def is_bfloat16(self) -> bool:
        return self.storage.kind == "bfloat16"

    def array(self) -> NDArray[Any]:
        """The values, without a copy; those of bfloat16 as 16 bits."""
        assert self.storage.values is not None
        strides = [each * self.storage.dtype.itemsize for each in self.stride]
        begin = self.storage.values[self.offset :]
        return np.lib.stride_tricks.as_strided(begin, self.shape, strides)


class _Part(NamedTuple):
    """A storage's values: how many bytes there are, and what reads them."""

    size: int
    read: Callable[[], bytearray]


@dataclass
class _Reader:
    """What torch's pickles call, as records."""

    storages: dict[str, Storage] = field(default_factory=dict)

    @property
    def calls(self) -> dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]]:
        return {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_tensor"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda arguments: arguments[0],
            ("torch._tensor", "_rebuild_from_type_v2"): _tensor_of_type,
            ("torch", "Size"): lambda arguments: tuple(arguments[0]),
            ("collections", "OrderedDict"): _ordered,
        }

    def storage(self, identity: Any) -> Storage:
        """("storage", type, key, where, number of values[, view]) -> the storage of that key."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or _text(identity[0]) != "storage":
            raise BadPickle("it refers to something that is no storage")
        kind, key, count = identity[1], _text(identity[2]), identity[4]
        if not isinstance(kind, Named) or kind.module not in ("torch", "torch.storage"):
            raise RefusedPickle(f"it asks for {kind} as a storage")
        if kind.name not in _STORAGES or (len(identity) == 6 and identity[5] is not None):
            raise RefusedPickle(f"it asks for a {kind.name}, or for a view of one")
        if type(count) is not int or count < 0:
            raise BadPickle("a storage of no number of values")
        found = self.storages.setdefault(key, Storage(_STORAGES[kind.name], count))
        if (found.kind, found.count) != (_STORAGES[kind.name], count):
            raise BadPickle(f"storage {key[:40]!r} is announced twice, in two sizes")
        return found

    def fill(self, parts: dict[str, _Part]) -> None:
        """Read every storage; its announced size must be that of its part."""
        for key, storage in self.storages.items():
            wanted = storage.count * storage.dtype.itemsize
            if key not in parts or parts[key].size != wanted:
                there = parts[key].size if key in parts else 0
                raise BadPickle(
                    f"storage {key[:40]!r} is announced with {wanted} bytes, the file has {there}"
                )
        for key, storage in self.storages.items():
            storage.values = np.frombuffer(parts[key].read(), storage.dtype, storage.count)


@lru_cache(maxsize=32)
def _looked_at(path: str, size: int, mtime_ns: int) -> None:
    read_outside("retrieval.networks.torch_files:look", Path(path))


def look(path: Path, *, watch: Callable[[str], None]) -> None:
    """Read all of it and keep nothing: whether it can be read within the limits of a process of its own."""
    _read(path, watch)


def read_torch_file(path: Path) -> Any:
    """The content: containers, texts, numbers, numpy arrays and StoredTensor.

    Raises BadTorchFile, ArtifactError (it hangs or takes too much memory), OSError.
    """
    found = path.stat()
    _looked_at(str(path.absolute()), found.st_size, found.st_mtime_ns)
    return _read(path, lambda _: None)


def _read(path: Path, watch: Callable[[str], None]) -> Any:
    try:
        if _is_zip(path):
            return _read_zip(path, watch)
        return _read_sequence(path, watch)
    except RefusedPickle as error:
        raise RefusedTorchFile(f"{path}: {error}") from None
    except (
        BadPickle, zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, IndexError, TypeError,
        ValueError, NotImplementedError, RuntimeError, OverflowError,
    ) as error:  # fmt: skip
        raise BadTorchFile(f"{path}: {error or type(error).__name__}") from error


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _read_zip(path: Path, watch: Callable[[str], None]) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = {each.filename: each for each in archive.infolist()}
        _check_sizes(path, members)
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
        roots = [root for root in roots if root.count("/") == 1]
        if len(roots) != 1:
            raise BadPickle("a zip without one data.pkl, so none of torch's")
        root = roots[0]
        order = members.get(f"{root}byteorder")
        if order is not None and _member(archive, order, watch) != b"little":
            raise BadPickle("its byte order is not little")
        reader = _Reader()
        content = bytes(_member(archive, members[f"{root}data.pkl"], watch))
        value, _ = loads(content, calls=reader.calls, persistent=reader.storage)
        reader.fill(
            {
                name.removeprefix(f"{root}data/"): _Part(
                    each.file_size, partial(_member, archive, each, watch)
                )
                for name, each in members.items()
            }
        )
    return value


def _check_sizes(path: Path, members: dict[str, zipfile.ZipInfo]) -> None:
    """Raises BadPickle where the members together are larger than such a file can hold."""
    announced, there = sum(each.file_size for each in members.values()), path.stat().st_size
    if announced > _MOST_EXPANSION * there + _SMALL_BYTES:
        raise BadPickle(
            f"its members are announced with {announced} bytes, {announced // max(1, there)} times the file: "
            "torch does not compress them, save it with torch again"
        )


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, watch: Callable[[str], None]) -> bytearray:
    """A member's bytes, no more than it announces."""
    content = bytearray()
    with archive.open(member) as file:
        while len(content) < member.file_size:
            watch(member.filename)
            block = file.read(min(1 << 24, member.file_size - len(content)))
            if not block:
                raise BadPickle(f"{member.filename[:80]!r} ends too early")
            content += block
    return content


def _read_sequence(path: Path, watch: Callable[[str], None]) -> Any:
    """The form before torch 1.6: four pickles, the list of storages, their values."""
    with open(path, "rb") as file:
        content = file.read()
    reader, position = _Reader(), 0
    for wanted in (_MAGIC, _PROTOCOL):
        watch("")
        found, position = loads(content, start=position)
        if type(found) is not int or found != wanted:
            raise BadPickle("it is neither a zip nor torch's older form")
    _, position = loads(content, start=position)
    watch("")
    value, position = loads(content, start=position, calls=reader.calls, persistent=reader.storage)
    keys, position = loads(content, start=position)
    if not isinstance(keys, list):
        raise BadPickle("its storages are not listed")
    reader.fill(dict(_parts(content, position, [_text(key) for key in keys], reader.storages)))
    return value


def _parts(
    content: bytes, position: int, keys: list[str], storages: dict[str, Storage]
) -> Iterator[tuple[str, _Part]]:
    for key in keys:
        if key not in storages:
            raise BadPickle(f"storage {key[:40]!r} belongs to no tensor")
        (count,) = struct.unpack_from("<q", content, position)
        size = count * storages[key].dtype.itemsize
        position += 8
        if not 0 <= size <= len(content) - position:
            raise BadPickle(f"storage {key[:40]!r} is announced with {size} bytes, and the file ends before")
        yield key, _Part(size, partial(_slice, content, position, size))
        position += size


def _slice(content: bytes, position: int, size: int) -> bytearray:
    return bytearray(memoryview(content)[position : position + size])


def _tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    """(storage, offset, shape, stride, ...) -> a view that lies within the storage."""
    storage, offset, shape, stride = arguments[:4]
    sizes = (shape, stride)
    if not isinstance(storage, Storage) or not all(isinstance(each, tuple) for each in sizes):
        raise BadPickle("a tensor without storage, shape or stride")
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or len(shape) > _MOST_DIMENSIONS:
        raise BadPickle("a tensor whose shape and stride differ in length")
    if not all(type(each) is int and 0 <= each < 2**62 for each in numbers):
        raise BadPickle("a tensor whose shape, stride or offset are no sizes")
    count = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if count > storage.count or (count and last >= storage.count):
        raise BadPickle(f"a tensor of {count} values, its storage has {storage.count}")
    return StoredTensor(storage, offset if count else 0, shape, stride if count else (0,) * len(stride))


def _tensor_of_type(arguments: tuple[Any, ...]) -> StoredTensor:
    function, _, inner = arguments[:3]
    if function not in (
        Named("torch._utils", "_rebuild_tensor_v2"),
        Named("torch._utils", "_rebuild_tensor"),
    ):
        raise RefusedPickle(f"it asks for {function}")
    return _tensor(inner)


def _ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    pairs = arguments[0] if arguments else []
    return {key: value for key, value in pairs}


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
