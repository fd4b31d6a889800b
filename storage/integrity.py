"""Is an artifact still what it was? By size and mtime where nothing was touched, by its digest otherwise."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from storage.artifacts import MANIFEST, ArtifactRef, read_manifest
from storage.digests import file_sha256
from storage.files import read_json, write_json

# A file written within one tick of the file system's clock may change again without a new mtime.
CLOCK_TICK_NS = 20_000_000


def record_path(root: Path, ref: ArtifactRef) -> Path:
    """Where the last verification of an artifact is remembered."""
    return root / "verified" / ref.stage / f"{ref.name}.json"


def is_intact(root: Path, ref: ArtifactRef, full: bool = False) -> bool:
    """Whether the artifact is there and has the reference's digest; ``full`` reads every byte."""
    path = root / ref.path
    if not full and _untouched(path, read_json(record_path(root, ref)), ref.file_sha256):
        return True
    return verify(root, ref)


def verify(root: Path, ref: ArtifactRef) -> bool:
    """Read every byte of the artifact, and remember the verification if all is as it was."""
    path, started_ns = root / ref.path, time.time_ns()
    try:
        names = _verified_names(path, ref)
        stats = None if names is None else [_stat(path, name) for name in names]
    except OSError:
        return False
    if stats is None:
        return False
    record = {"sha256": ref.file_sha256, "at_ns": started_ns, "files": stats}
    write_json(record_path(root, ref), record, durable=False)
    return True


def _verified_names(path: Path, ref: ArtifactRef) -> list[str] | None:
    if not path.is_dir():
        return [""] if file_sha256(path) == ref.file_sha256 else None
    if file_sha256(path / MANIFEST) != ref.file_sha256:
        return None
    members = read_manifest(path) or []
    if any(file_sha256(path / member["path"]) != member["sha256"] for member in members):
        return None
    return [MANIFEST, *(member["path"] for member in members)]


def _stat(path: Path, name: str) -> list[Any]:
    stat = os.stat(f"{path}/{name}" if name else path)
    return [name, stat.st_size, stat.st_mtime_ns]


def _untouched(path: Path, record: Any, sha256: str) -> bool:
    try:
        if record["sha256"] != sha256:
            return False
        limit = record["at_ns"] - CLOCK_TICK_NS
        return all(_stat(path, fact[0]) == fact and fact[2] < limit for fact in record["files"])
    except (OSError, KeyError, TypeError, IndexError):
        return False
