"""When, how and how long an artifact was made: what its sidecar tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage.files.digests import file_sha256
from storage.hdf5.check import Violation
from storage.keys.artifacts import MANIFEST, SIDECAR, Sidecar, read_sidecar

MOST_BYTES = 64 << 20
"""A file's digest is compared unasked up to this size: a tenth of a second."""


def sidecar_facts(path: Path) -> dict[str, Any]:
    """Facts of the sidecar beside a file or folder of a store, {} where there is none that can be read."""
    found = sidecar_of(path)
    if found is None:
        return {}
    facts: dict[str, Any] = {
        "created": f"{found.created:%Y-%m-%d %H:%M:%S} UTC",
        "seconds": found.seconds,
        "stage version": found.key_parts.get("version"),
        "packages": found.key_parts.get("packages", {}),
        "git revision": found.git_revision or "",
        "machine": found.machine,
        "made from": _sources([ref.path for ref in found.upstream]),
    }
    if found.items:
        facts["items"] = found.items
    return facts


def sidecar_of(path: Path) -> Sidecar | None:
    """What the store noted beside a file or folder, None where there is nothing that can be read."""
    stem = path.name if path.is_dir() else path.name.split(".", 1)[0]
    return read_sidecar(path.with_name(f"{stem}{SIDECAR}"))


def digest_problems(path: Path, full: bool) -> list[Violation]:
    """Whether a file of a store, or the manifest of a folder, still has the bytes that were written.

    A file above MOST_BYTES is read with `full` alone; its size is compared all the same.
    """
    found = sidecar_of(path)
    if found is None:
        return []
    file, place = (path / MANIFEST, MANIFEST) if path.is_dir() else (path, "/")
    if not file.is_file():
        return []
    return [
        Violation(place, text)
        for text in compare_bytes(
            file, found.ref.file_sha256, None if path.is_dir() else found.ref.bytes, full
        )
    ]


def compare_bytes(file: Path, sha256: str, size: int | None, full: bool) -> list[str]:
    """What is wrong with the bytes of a file, against its size and digest of when it was made."""
    there = file.stat().st_size
    if size is not None and there != size:
        return [f"has {there} bytes, {size} when it was made; rebuild the artifact"]
    if not full and there > MOST_BYTES:
        return []
    found = file_sha256(file)
    if found == sha256:
        return []
    return [
        f"was changed after it was made: its sha256 is {found[:16]}..., it was {sha256[:16]}...; rebuild the "
        "artifact"
    ]


def _sources(paths: list[str], most: int = 6) -> str:
    """The first few by path, the rest as a number."""
    shown = ", ".join(paths[:most])
    return f"{shown} and {len(paths) - most} more" if len(paths) > most else shown
