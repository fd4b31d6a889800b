"""Global descriptors as a file that hloc reads: /<name>: global_descriptor [D] float32.

Source: cvg/Hierarchical-Localization, hloc/extract_features.py, pairs_from_retrieval.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.files.whole import publish, remove, sync_file, temporary_beside
from storage.hdf5.access import create_file


class UnusableFile(ValueError):
    """A file that cannot be written to."""


def check_free(path: Path) -> None:
    """Raises UnusableFile where something is there already, or no folder to write to."""
    if path.exists() or path.is_symlink():
        raise UnusableFile(f"{str(path)!r} is there already; give a file that is new")
    if not path.absolute().parent.is_dir():
        raise UnusableFile(f"{str(path.parent)!r} is no folder; make it, or write the file elsewhere")


def write_hloc(path: Path, names: Sequence[str], rows: NDArray[np.float32]) -> None:
    """Write a new file with a group per name, whole or not at all; equal rows give equal bytes.

    names: [N], paths below the folder of photographs, as hloc names its images; rows: [N, D], read one at a
    time (may be a memory map). Raises UnusableFile, ValueError where the numbers differ.
    """
    check_free(path)
    temporary = temporary_beside(path)
    try:
        with create_file(temporary) as file:
            for name, row in zip(names, rows, strict=True):
                file.create_group(name).create_dataset("global_descriptor", data=row, track_times=False)
        sync_file(temporary)
        publish(temporary, path)
    finally:
        remove(temporary)
