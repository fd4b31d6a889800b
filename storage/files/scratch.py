"""Temporary folders that do not outlive their maker, and arrays in files of them.

A folder `retrieval-sfm-<what>-<random>` has a lock file beside it that its maker holds; a folder whose lock
is free belongs to nobody any more: it goes with the next run.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from storage.files.locks import FileLock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PREFIX, _LOCK = "retrieval-sfm-", ".lock"
_TRIES, _PAUSE_S = 50, 0.02  # a dying child may still write where its folder is being removed


@contextmanager
def scratch_folder(what: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder for this process alone, gone at the end of the block.

    what: part of its name. parent: where it goes, by default the system's folder for temporary files.
    Raises OSError where it cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    while True:
        folder = parent / f"{_PREFIX}{what}-{secrets.token_hex(6)}"
        lock = FileLock(_lock_of(folder))
        if not folder.exists() and lock.try_acquire():
            break
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        _remove(folder)
        lock.release()


def scratch_rows(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A new file as an array [N, D] float32 of zeros that can be written; its space is reserved at once.

    Raises OSError where the disk has no room: a mapped file that runs out of disk would kill the process.
    """
    import numpy as np  # not where a child process starts

    with path.open("xb") as file:
        size = 4 * shape[0] * shape[1]
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(path, np.float32, "r+", shape=shape) if size else np.zeros(shape, np.float32)


def remove_in_stead(folder: Path) -> None:
    """Remove the scratch folder of a maker that died, by a child of it that outlived it."""
    _remove(folder)
    if not folder.exists():
        _lock_of(folder).unlink(missing_ok=True)


def sweep_scratch(parent: Path | None = None) -> int:
    """Remove the scratch folders of this user's dead processes in `parent` and return how many there were."""
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    return sum(_swept(path) for path in sorted(parent.glob(f"{_PREFIX}*{_LOCK}")))


def _swept(path: Path) -> bool:
    lock, folder = FileLock(path), path.with_suffix("")
    try:
        facts = path.lstat()  # a link in a folder that everybody may write to is not followed
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid() or not lock.try_acquire():
            return False
    except OSError:
        return False  # gone meanwhile, or not ours
    try:
        _remove(folder)
    finally:
        lock.release()
    return True


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _remove(folder: Path) -> None:
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_PAUSE_S)
