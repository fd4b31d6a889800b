"""Is an artifact still what it was? By size and mtime where nothing was touched, by its digest otherwise.

What is known about an artifact belongs to it: it is damaged without its sidecar, a chunk without its items.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from storage.files.digests import file_sha256, json_sha256
from storage.files.whole import read_json, write_json
from storage.keys.artifacts import (
    MANIFEST,
    ArtifactRef,
    items_path,
    read_manifest,
    read_sidecar,
    sidecar_path,
)

# A file written within one tick of the file system's clock may change again without a new mtime.
CLOCK_TICK_NS = 20_000_000
HDF5_SUFFIX = ".h5"


def record_path(root: Path, ref: ArtifactRef) -> Path:
    """Where the last verification of an artifact is remembered."""
    return root / "verified" / ref.stage / f"{ref.name}.json"


def is_intact(root: Path, ref: ArtifactRef, full: bool = False) -> bool:
    """Whether the artifact is there and has the reference's digest; ``full`` reads every byte.

    Raises OpenElsewhere where another program has it open for writing: it may be whole again afterwards.
    """
    record = read_json(record_path(root, ref))
    if not full and _untouched(root / ref.stage, record, ref.file_sha256):
        return True
    return verify(root, ref)


def verify(root: Path, ref: ArtifactRef) -> bool:
    """Read every byte of the artifact, and remember the verification if all is as it was.

    Raises OpenElsewhere.
    """
    started_ns = time.time_ns()
    try:
        names = _verified_names(root / ref.path, ref)
        known = _verified_sidecar(root, ref)
        if names is None or known is None:
            return False
        stats = [_stat(root / ref.stage, name) for name in (*names, *known)]
    except OSError:
        return False
    record = {"sha256": ref.file_sha256, "at_ns": started_ns, "files": stats}
    with suppress(OSError):  # in a store that cannot be written it is verified anew each time
        write_json(record_path(root, ref), record, durable=False)
    return True


def _verified_sidecar(root: Path, ref: ArtifactRef) -> list[str] | None:
    """Names of the files beside the artifact that tell about it, None where they are lost or damaged."""
    sidecar = read_sidecar(sidecar_path(root, ref))
    if sidecar is None or sidecar.ref.key != ref.key:
        return None
    if not sidecar.items:
        return [sidecar_path(root, ref).name]
    items = items_path(root, ref)
    listed = json_sha256(read_json(items)) == sidecar.items_sha256
    return [sidecar_path(root, ref).name, items.name] if listed else None


def _verified_names(path: Path, ref: ArtifactRef) -> list[str] | None:
    """Names of the artifact's files, relative to its stage's folder, None where one is damaged."""
    if not path.is_dir():
        return [path.name] if _has_bytes(path, ref.file_sha256) else None
    if file_sha256(path / MANIFEST) != ref.file_sha256:
        return None
    members = read_manifest(path) or []
    if not all(_has_bytes(path / member["path"], member["sha256"]) for member in members):
        return None
    return [f"{path.name}/{name}" for name in (MANIFEST, *(member["path"] for member in members))]


def _has_bytes(path: Path, sha256: str) -> bool:
    """Whether a file is as it was. Raises OpenElsewhere, which alone changes a file."""
    if file_sha256(path) == sha256:
        return True
    if path.suffix == HDF5_SUFFIX:
        from storage.hdf5.access import check_closed

        check_closed(path)
    return False


def _stat(folder: Path, name: str) -> list[Any]:
    stat = os.stat(f"{folder}/{name}")
    return [name, stat.st_size, stat.st_mtime_ns]


def _untouched(folder: Path, record: Any, sha256: str) -> bool:
    try:
        if record["sha256"] != sha256:
            return False
        limit = record["at_ns"] - CLOCK_TICK_NS
        return all(_stat(folder, fact[0]) == fact and fact[2] < limit for fact in record["files"])
    except (OSError, KeyError, TypeError, IndexError):
        return False
