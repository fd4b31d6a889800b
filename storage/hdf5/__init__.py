"""HDF5 files: opened, read, written and checked."""

from storage.lazy import lazy

__getattr__, __all__ = lazy(__name__, {"storage.hdf5.file": "read write open_artifact"})
