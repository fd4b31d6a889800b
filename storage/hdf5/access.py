"""Where HDF5 files are opened, for reading and for writing, and nowhere else.

Always without HDF5's own locks: the library refuses a file that is open in the same process with another
answer to that question, and threads of one process read the same artifacts (pages are drawn while the next
stage works). The locks are not needed: what is published never changes, and what is being written has a name
that nobody reads. Whether another program writes to a file is found out before it is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

import h5py

from storage.files.digests import HDF5_SIGNATURE
from storage.files.errors import DamagedArtifact, NotAnArtifact, OpenElsewhere
from storage.files.locks import flocked

HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError)
"""What h5py raises for damaged bytes, depending on where they are."""

_MARKED = "already open for"
"""HDF5 notes in a file, from version 3 of the format on, that it is open for writing; and says so."""
# HDF5 1.10 (2016): metadata with checksums, so a flipped byte is an error and not a crash inside the library.
_LIBVER = ("v110", "v110")


def open_file(path: Path) -> h5py.File:
    """An HDF5 file of any kind, for reading.

    Raises FileNotFoundError, NotAnArtifact, OpenElsewhere, DamagedArtifact.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the path of an HDF5 file")
    with path.open("rb") as stream:
        begin = stream.read(len(HDF5_SIGNATURE))
        _check_unlocked(stream, path)
    if begin != HDF5_SIGNATURE:
        what = f"it begins with {begin!r}" if begin else "it is empty"
        raise NotAnArtifact(f"{path}: not an HDF5 file ({what}); give a file that a stage wrote")
    try:
        return h5py.File(path, "r", locking=False)
    except HDF5_ERRORS as error:
        check_closed(path)
        raise DamagedArtifact(f"{path}: truncated or damaged HDF5 file ({error}); rebuild it") from error


def create_file(path: Path) -> h5py.File:
    """A new HDF5 file, open for writing: under a name that nobody reads before it is whole."""
    return h5py.File(path, "w", libver=_LIBVER, locking=False, track_order=False)


def names_in(group: h5py.Group, path: Path) -> list[str]:
    """What a group of a file holds, sorted. Raises DamagedArtifact."""
    try:
        return sorted(map(str, group))
    except HDF5_ERRORS as error:
        raise DamagedArtifact(
            f"{path}: {group.name!r} cannot be listed ({error}); rebuild the file"
        ) from error


def check_closed(path: Path) -> None:
    """Raises OpenElsewhere where another program has a file open for writing; what HDF5 does not know, and
    what is not there, passes."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        _check_unlocked(stream, path)
    try:
        h5py.File(path, "r", locking=False).close()
    except HDF5_ERRORS as error:
        if _MARKED in str(error):
            text = "; if none has, it was killed, and `h5clear -s` of the HDF5 tools takes its mark away"
            raise OpenElsewhere(_open_elsewhere(path) + text) from None


def _open_elsewhere(path: Path) -> str:
    return f"{path}: another program has it open for writing; close it there"


def _check_unlocked(stream: IO[bytes], path: Path) -> None:
    """Raises OpenElsewhere where a writer holds HDF5's lock on a file; closing the file gives ours back."""
    if not flocked(stream.fileno(), shared=True):
        raise OpenElsewhere(_open_elsewhere(path))
