"""Can a folder hold a store? Working locks, renames in one step, and room."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from pathlib import Path

from storage.files.whole import remove

MIN_FREE_BYTES = 1 << 30


class UnsuitableFolder(ValueError):
    """A folder, or the file system below it, that cannot hold a store."""


def probe(root: Path, min_free_bytes: int = MIN_FREE_BYTES) -> None:
    """Make the folder and try what a store needs. Raises UnsuitableFolder with the first thing that fails."""
    trial = root / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        trial.mkdir(parents=True)
    except OSError as error:
        raise UnsuitableFolder(
            f"{str(root)!r} cannot be written ({error.strerror}); choose another folder"
        ) from error
    try:
        _probe_space(root, min_free_bytes)
        for what, works in (("flock", _locks_exclude), ("renaming in one step", _renames_replace)):
            if not _succeeds(works, trial):
                raise UnsuitableFolder(
                    f"the file system of {str(root)!r} does not support {what}; put the store on a local disk"
                )
    finally:
        remove(trial)


def _probe_space(root: Path, min_free_bytes: int) -> None:
    free = shutil.disk_usage(root).free
    if free < min_free_bytes:
        raise UnsuitableFolder(
            f"{str(root)!r} has {free / 2**20:.0f} MiB free, a store needs {min_free_bytes / 2**20:.0f} MiB; "
            "free some or choose another disk"
        )


def _succeeds(check: object, trial: Path) -> bool:
    try:
        return bool(check(trial))  # type: ignore[operator]
    except OSError:
        return False


def _locks_exclude(trial: Path) -> bool:
    first = os.open(trial / "lock", os.O_RDWR | os.O_CREAT)
    second = os.open(trial / "lock", os.O_RDWR)
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(first)
            first = -1
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False
    finally:
        os.close(second)
        if first >= 0:
            os.close(first)


def _renames_replace(trial: Path) -> bool:
    (trial / "old").write_text("old")
    (trial / "new").write_text("new")
    os.replace(trial / "new", trial / "old")
    (trial / "folder").mkdir()
    os.rename(trial / "folder", trial / "renamed")
    return (trial / "old").read_text() == "new" and (trial / "renamed").is_dir()
