"""Files that are whole or absent: write beside, sync, rename, sync the folder."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.files.locks import flocked

TEMPORARY = ".tmp-"  # an artifact that is being built
UNFINISHED = ".new-"  # a small file that is being written


def sync_file(path: Path) -> None:
    """Force a file's or a folder's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """Force every file and folder below a folder, and itself, to the disk."""
    for folder, _, names in os.walk(root):
        for name in names:
            sync_file(Path(folder, name))
        sync_file(Path(folder))


def publish(temporary: Path, target: Path) -> None:
    """Move a finished file or folder to its name in one step; a folder's target must not exist."""
    sync_tree(temporary) if temporary.is_dir() else sync_file(temporary)
    os.rename(temporary, target)
    sync_file(target.parent)


def temporary_beside(target: Path, label: str = "", suffix: str = "") -> Path:
    """A fresh name in the target's folder, so that a rename stays on one file system."""
    return target.parent / f"{TEMPORARY}{label}{'-' if label else ''}{uuid.uuid4().hex[:12]}{suffix}"


def write_bytes(path: Path, content: bytes, *, durable: bool = True, folder: bool = True) -> None:
    """Replace a file in one step. Without ``durable`` a power failure may lose what was written.

    Without ``folder`` the rename is on the disk only once the caller has synced the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, descriptor = _claimed(path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable and folder:
        sync_file(path.parent)


def write_text(path: Path, text: str, *, durable: bool = True, folder: bool = True) -> None:
    """Replace a file by UTF-8 in one step; see ``write_bytes``."""
    write_bytes(path, text.encode(), durable=durable, folder=folder)


def _claimed(folder: Path) -> tuple[Path, int]:
    """A new file and its descriptor, locked until that is closed: nobody takes it for a dead writer's."""
    while True:
        path = folder / f"{UNFINISHED}{uuid.uuid4().hex[:12]}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if flocked(descriptor) and path.exists():
            return path, descriptor
        os.close(descriptor)  # removed between its making and its lock


@contextmanager
def unfinished_folder(parent: Path) -> Iterator[Path]:
    """A new folder to fill and to rename, as a file of `write_text`; gone afterwards where it was not."""
    path = parent / f"{UNFINISHED}{uuid.uuid4().hex[:12]}"
    path.mkdir()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flocked(descriptor)
        yield path
    finally:
        os.close(descriptor)
        remove(path)


def sweep_unfinished(folder: Path) -> int:
    """Remove the unfinished small files and folders of dead writers in a folder; how many there were."""
    return sum(_swept(path) for path in folder.glob(f"{UNFINISHED}*"))


def _swept(path: Path) -> bool:
    try:
        access = os.O_RDONLY if path.is_dir() else os.O_RDWR
        descriptor = os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # finished meanwhile, or not ours
        return False
    try:
        dead = flocked(descriptor)
        if dead:
            remove(path)
        return dead
    finally:
        os.close(descriptor)


def write_json(
    path: Path, value: Any, *, durable: bool = True, folder: bool = True, indent: int | None = None
) -> None:
    """Replace a JSON file in one step; see ``write_text``."""
    write_text(path, json.dumps(value, indent=indent) + "\n", durable=durable, folder=folder)


def read_json(path: Path) -> Any:
    """The value of a JSON file, None where it is missing, unreadable or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that it holds; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
