"""Global descriptors as hloc reads them."""

from pathlib import Path

import h5py
import numpy as np


def read_as_hloc(path: Path) -> dict[str, np.ndarray]:
    """hloc's list_h5_names, then its get_descriptors."""
    found: set[str] = set()
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda _, each: found.add(each.parent.name.strip("/")) if isinstance(each, h5py.Dataset) else None
        )
        return {name: file[name]["global_descriptor"].__array__() for name in found}
