"""Artifacts, HDF5 layouts, locks, provenance and inspection."""

from storage.lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "storage.hdf5.file": "open_artifact",
        "storage.inspect.describe": "describe",
        "storage.keys.artifacts": "ArtifactRef",
        "storage.store.store": "Store",
    },
)
