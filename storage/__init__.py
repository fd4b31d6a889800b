"""Artifacts, HDF5 layouts, locks, provenance and inspection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.artifacts import ArtifactRef
    from storage.hdf5 import open_artifact
    from storage.inspection import describe
    from storage.store import Store

__all__ = ["ArtifactRef", "Store", "describe", "open_artifact"]

_HOME = {
    "ArtifactRef": "storage.artifacts",
    "Store": "storage.store",
    "describe": "storage.inspection",
    "open_artifact": "storage.hdf5",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module when it is first used, so that importing `storage` loads no library."""
    if name not in _HOME:
        raise AttributeError(f"module 'storage' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
