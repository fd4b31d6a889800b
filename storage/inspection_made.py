"""When, how and how long an artifact was made: what its sidecar tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage.artifacts import SIDECAR, read_sidecar


def sidecar_facts(path: Path) -> dict[str, Any]:
    """Facts of the sidecar beside a file or folder of a store, {} where there is none that can be read."""
    stem = path.name if path.is_dir() else path.name.split(".", 1)[0]
    found = read_sidecar(path.with_name(f"{stem}{SIDECAR}"))
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


def _sources(paths: list[str], most: int = 6) -> str:
    """The first few by path, the rest as a number."""
    shown = ", ".join(paths[:most])
    return f"{shown} and {len(paths) - most} more" if len(paths) > most else shown
