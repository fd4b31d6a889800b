"""numpy's own files from outside: no pickles, sizes that fit the file, one line where they are damaged."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.files.errors import DamagedArtifact
from storage.outside.guarded import read_outside

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    SyntaxError,
    RecursionError,
    NotImplementedError,
)
"""What numpy raises for damaged headers and archives, beside ValueError."""
_STEP_S = 30.0


def arrays_of_npz(path: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz, all or `names`: read in a process of its own, since it may announce any size.

    Raises DamagedArtifact.
    """
    found: dict[str, NDArray[Any]] = read_outside(
        "storage.outside.numpy_files:look", path, names, step_s=_STEP_S
    )
    return found


def look(path: Path, names: Sequence[str] | None) -> dict[str, NDArray[Any]]:
    """`arrays_of_npz`, in this process."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = sorted(set(names or ()) - set(arrays.files))
            if missing:
                raise DamagedArtifact(f"{path}: has no {', '.join(missing)}")
            return {name: arrays[name] for name in (arrays.files if names is None else names)}
    except (*DAMAGED, ValueError, OSError, EOFError, KeyError, AttributeError) as error:
        if isinstance(error, DamagedArtifact):
            raise
        raise DamagedArtifact(f"{path}: is no readable .npz ({error}); get it again") from error
