"""A folder for other programs: filled beside its place, then moved there in one step."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.files.whole import remove, sync_file, sync_tree


class UnusableFolder(ValueError):
    """A folder that cannot be written to."""


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; when the block ends well it is at `target`, when it raises nothing is left.

    A killed process leaves `.<name>.unfinished-<hex>` beside the target, which may be deleted. Raises
    UnusableFolder where the target is there and not an empty folder, or cannot be made.
    """
    target = Path(os.path.abspath(target))
    check_free(target)
    unfinished = target.parent / f".{target.name}.unfinished-{uuid.uuid4().hex[:8]}"
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise UnusableFolder(f"{str(target)!r} cannot be made: {error.strerror}") from error
    try:
        yield unfinished
        sync_tree(unfinished)
        check_free(target)
        try:
            os.rename(unfinished, target)
        except OSError as error:
            raise UnusableFolder(
                f"{str(target)!r} cannot be replaced ({error.strerror}); give a folder that does not exist"
            ) from error
        sync_file(target.parent)
    finally:
        remove(unfinished)


def check_free(target: Path) -> None:
    """Raises UnusableFolder unless the path is not there or is an empty folder."""
    if not os.path.lexists(target):
        return
    if not target.is_dir() or target.is_symlink() or any(target.iterdir()):
        raise UnusableFolder(f"{str(target)!r} is there already; give a folder that is new or empty")
