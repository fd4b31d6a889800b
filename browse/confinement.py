"""Which files may be looked at: regular HDF5 files below one folder, reached without a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".h5", ".hdf5")
MOST_LISTED = 5000


class Refused(ValueError):
    """A name that leads, or may lead, out of what is shown. The text never tells what is there."""


@dataclass(frozen=True)
class Scope:
    """All HDF5 files below `root`, or `only` one of them (its name below the root)."""

    root: Path
    only: str | None = None

    @classmethod
    def of(cls, path: Path) -> Scope:
        """A folder with all below it, or one file. Raises FileNotFoundError, Refused for another kind."""
        real = path.resolve(strict=True)
        if real.is_dir():
            return cls(real)
        if not real.is_file():
            raise Refused(f"{path}: is neither a file nor a folder")
        return cls(real.parent, real.name)

    def file(self, name: str) -> Path:
        """The file of a name with forward slashes. Raises Refused: absolute, with `..`, hidden, through a
        link, no regular HDF5 file, or not there."""
        parts = name.split("/")
        wrong = any(part in ("", ".", "..") or part.startswith(".") for part in parts)
        if wrong or any(each in name for each in "\\\0:") or Path(name).is_absolute():
            raise Refused(f"File not found: {name!r} is no name of a file below the folder that is shown")
        if not name.endswith(SUFFIXES) if self.only is None else name != self.only:
            raise Refused(f"File not found: {name!r} is not among the files that are shown")
        current = self.root
        for place, part in enumerate(parts):
            current = current / part
            try:
                mode = os.lstat(current).st_mode
            except (OSError, ValueError):
                raise Refused(f"File not found: {name!r}") from None
            wanted = stat.S_ISREG if place == len(parts) - 1 else stat.S_ISDIR
            if not wanted(mode):
                raise Refused(f"File not found: {name!r} is a link or no regular file")
        if current.resolve() != current:
            raise Refused(f"File not found: {name!r} leads elsewhere")
        return current

    def files(self) -> Iterator[tuple[str, int]]:
        """(name, bytes) of what may be shown, sorted by folder, at most MOST_LISTED."""
        if self.only is not None:
            yield self.only, (self.root / self.only).stat().st_size
            return
        listed = 0
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for each in sorted(names):
                path = Path(folder, each)
                name = path.relative_to(self.root).as_posix()
                try:
                    size = self.file(name).stat().st_size
                except (Refused, OSError):
                    continue
                yield name, size
                listed += 1
                if listed == MOST_LISTED:
                    return
