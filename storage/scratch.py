"""Arrays that lie in a file for a while, because memory may be too small for them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def scratch_rows(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A new file as an array [N, D] float32 of zeros that can be written; its space is reserved at once.

    Raises OSError where the disk has no room: a mapped file that runs out of disk would kill the process.
    """
    with path.open("xb") as file:
        size = 4 * shape[0] * shape[1]
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(path, np.float32, "r+", shape=shape) if size else np.zeros(shape, np.float32)
