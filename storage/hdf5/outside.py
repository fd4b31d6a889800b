"""An HDF5 file from outside as arrays: every promise of its layout is checked, and the size of its texts.

Called in a process of its own: `storage.outside.read_outside`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from storage.files.errors import DamagedArtifact
from storage.hdf5.access import HDF5_ERRORS, open_file
from storage.hdf5.digests import group_sha256
from storage.hdf5.open import Artifact, open_artifact, violations_of
from storage.hdf5.relations import related
from storage.hdf5.sources import FileSource, blocks
from storage.hdf5.walk import walk


@dataclass(frozen=True, eq=False)
class Read:
    """All arrays of a file by path, of the layout's current version, and its own root attributes."""

    arrays: dict[str, NDArray[Any]]
    attributes: dict[str, Any]


def read_whole(path: Path, schema: str | None, *, watch: Callable[[str], None]) -> Read:
    """A file of `schema` (None: of any), checked as inspecting checks it. Raises ArtifactError."""
    with open_artifact(path, schema) as artifact:
        check_sound(artifact, watch)
        return Read(artifact.upgraded(), dict(artifact.attributes))


def check_sound(artifact: Artifact, watch: Callable[[str], None], max_rows: int | None = None) -> None:
    """Raises DamagedArtifact for the first broken promise of the file's layout."""
    found = walk(artifact.file)
    broken = violations_of(found, artifact.layout, max_rows, watch)
    if not broken:
        broken = related(FileSource(found.datasets, watch), artifact.layout, set(), max_rows)
    if broken:
        more = f" ({len(broken) - 1} more; see `retrieval-sfm inspect`)" if len(broken) > 1 else ""
        raise DamagedArtifact(f"{artifact.path}: {broken[0]}{more}")


def digest(path: Path, *, watch: Callable[[str], None]) -> str:
    """Content digest of a file whose objects can all be read."""
    with open_file(path) as file:
        check_walk(path, file)
        try:
            return group_sha256(file, watch=watch)
        except HDF5_ERRORS as error:
            raise DamagedArtifact(f"{path}: cannot be read ({error}); get it again") from error


def check_walk(path: Path, file: h5py.File) -> dict[str, h5py.Dataset]:
    """All datasets by path. Raises DamagedArtifact for what cannot be followed or cannot be as large as it
    says."""
    found = walk(file)
    for where, text in found.strange.items():
        raise DamagedArtifact(f"{path}: {where} {text}")
    return found.datasets


def blocks_of(path: Path, dataset: h5py.Dataset, watch: Callable[[str], None]) -> NDArray[Any]:
    """A dataset of numbers, read in blocks. Raises DamagedArtifact."""
    if dataset.dtype.kind not in "iuf" or not dataset.shape:
        raise DamagedArtifact(f"{path}: {dataset.name} holds no numbers in rows; give an array of them")
    source = FileSource({dataset.name: dataset}, watch)
    try:
        parts = [rows for _, rows in blocks(source, dataset.name)]
    except HDF5_ERRORS as error:
        raise DamagedArtifact(f"{path}: {dataset.name} cannot be read ({error}); get it again") from error
    return np.concatenate(parts) if parts else np.empty(dataset.shape, dataset.dtype)
