"""Digests: of bytes for integrity, of content for meaning.

The content digest of an HDF5 or safetensors file depends on names, dtypes, shapes and values only, so a file
that was rewritten with other chunks, compression, attributes or in another order has the same one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BLOCK_BYTES = 16 << 20
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class UnreadableContent(ValueError):
    """A file whose content cannot be read in the format that it claims."""


def is_digest(text: str) -> bool:
    """Whether it is a sha256 in hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def canonical_json(value: Any) -> str:
    """JSON text with sorted keys and no spaces, one text per value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def json_sha256(value: Any) -> str:
    """sha256 (64 hex) of the canonical JSON text."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: str | Path) -> str:
    """sha256 (64 hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def members_sha256(digests: Mapping[str, str]) -> str:
    """Digest of a folder from its members' content digests by relative POSIX path."""
    ordered = sorted((os.fsencode(name).hex(), digest) for name, digest in digests.items())
    return json_sha256({"directory": ordered})


def relative_files(root: Path) -> Iterator[str]:
    """Relative POSIX paths of all files below a folder, sorted; linked folders are followed once."""
    seen = {_identity(root)}
    pending, found = [""], []
    while pending:
        folder = pending.pop()
        for entry in os.scandir(root / folder):
            name = f"{folder}{entry.name}"
            if not entry.is_dir():
                found.append(name)
            elif _identity(root / name) not in seen:
                seen.add(_identity(root / name))
                pending.append(f"{name}/")
    return iter(sorted(found))


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def safetensors_sha256(path: str | Path) -> str:
    """Canonical digest of a safetensors file: sorted names, dtype, shape, bytes; metadata left out."""
    path = Path(path)
    digest = hashlib.sha256(b"safetensors\n")
    with open(path, "rb") as file:
        header, _, start = safetensors_header(file, path)
        for name in sorted(header):
            entry = header[name]
            begin, end = entry["data_offsets"]
            digest.update(
                canonical_json([name, entry["dtype"], entry["shape"], end - begin]).encode() + b"\n"
            )
            file.seek(start + begin)
            remaining = end - begin
            while remaining:
                block = file.read(min(BLOCK_BYTES, remaining))
                if not block:
                    raise UnreadableContent(f"{str(path)!r}: tensor {name!r} ends early; rebuild the file")
                digest.update(block)
                remaining -= len(block)
    return digest.hexdigest()


def safetensors_header(file: Any, path: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """(dtype, shape and data_offsets by tensor; metadata; where the data begin). Raises UnreadableContent."""
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise UnreadableContent(f"{str(path)!r}: the header is longer than the file")
        entries = json.loads(file.read(length))
        names = ("dtype", "shape", "data_offsets")
        metadata = dict(entries.pop("__metadata__", {}))
        header = {key: {name: e[name] for name in names} for key, e in entries.items()}
    except (struct.error, ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise UnreadableContent(f"{str(path)!r} is not a safetensors file ({error}); rebuild it") from error
    return header, metadata, 8 + length
