"""The files below a folder of photographs: not those of systems, nor those of stores."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from storage.store.store import is_store

HIDDEN, SYSTEM, STORE, UNREADABLE = "hidden", "system", "store", "unreadable folder"
LEFT_OUT = "left_out"  # root attribute of scan.h5 and scene.h5
NO_ENDING, OTHER_ENDING = "without ending", "with another ending"
MOST_ENDINGS = 8

_SYSTEM = (  # in lower case; what begins with a dot is hidden anyway
    "@eadir",  # Synology: thumbnails of every photograph
    "@recycle",  # QNAP
    "@recently-snapshot",
    "@snapshot",
    "@tmp",
    "#recycle",
    "#snapshot",
    "$recycle.bin",  # Windows
    "recycler",
    "system volume information",
    "thumbs.db*",
    "ehthumbs*.db",
    "desktop.ini",
    "__macosx",  # what macOS adds to archives
    "icon\r",
    "network trash folder",
    "temporary items",
    "lost+found",
    "*.lrdata",  # Lightroom's previews
)
_ENDING = re.compile(r"\.\w[\w+-]{0,11}")


@dataclass
class Folder:
    """A folder of photographs, looked through once; `left_out` counts what is not listed."""

    root: Path
    left_out: Counter[str] = field(default_factory=Counter)
    _inside: dict[str, bool] = field(default_factory=dict)

    def files(self) -> Iterator[str]:
        """Names of files, POSIX below the root. Real folders first; a link leads only to a folder not yet
        seen."""
        seen: set[tuple[int, int]] = set()
        folders: list[str] = [""]
        links: list[str] = []
        while folders or links:
            folder = folders.pop() if folders else links.pop(0)
            entries = self._listing(folder, seen)
            if any(entry.name == "store.json" for entry in entries) and is_store(self.root / folder):
                self.left_out[STORE] += 1
                continue
            for entry in entries:
                if why := self._never(entry):
                    self.left_out[why] += 1
                elif _is_folder(entry):
                    (links if entry.is_symlink() else folders).append(f"{folder}{entry.name}/")
                else:
                    yield f"{folder}{entry.name}"
            links.sort()

    def _listing(self, folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
        """What is in a folder, sorted; nothing where it was seen before or cannot be read."""
        try:
            identity = os.stat(self.root / folder)
            with os.scandir(self.root / folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            self.left_out[UNREADABLE] += 1
            return []
        known = (identity.st_dev, identity.st_ino) in seen
        seen.add((identity.st_dev, identity.st_ino))
        return [] if known else entries

    def _never(self, entry: os.DirEntry[str]) -> str:
        """Why an entry is not looked at, "" where it is."""
        if entry.name.startswith("."):
            return HIDDEN
        if any(fnmatch(entry.name.lower(), pattern) for pattern in _SYSTEM):
            return SYSTEM
        return STORE if entry.is_symlink() and self._leads_into_store(Path(entry.path)) else ""

    def _leads_into_store(self, link: Path) -> bool:
        """Whether what a link names lies in a store; one in which the root itself lies does not count."""
        own = self.root.resolve()
        try:
            target = link.resolve()
        except (OSError, RuntimeError):  # a link that leads to itself
            return False
        return any(
            self._is_store(folder) for folder in target.parents if folder != own and folder not in own.parents
        )

    def _is_store(self, folder: Path) -> bool:
        name = str(folder)
        if name not in self._inside:
            self._inside[name] = is_store(folder)
        return self._inside[name]


def ending(name: str) -> str:
    """How a file is counted that is no photograph: by its ending, in lower case."""
    suffix = Path(name).suffix.lower()
    if not suffix:
        return NO_ENDING
    return suffix if _ENDING.fullmatch(suffix) else OTHER_ENDING


def left_out_text(counts: Mapping[str, int]) -> str:
    """`12 .txt, 3 .pdf, 1 without ending, 2 system folders`; "" for nothing."""
    endings = {name: count for name, count in counts.items() if name.startswith(".")}
    order = sorted(endings, key=lambda name: (-endings[name], name))
    parts = [f"{endings[name]} {name}" for name in order[:MOST_ENDINGS]]
    others = counts.get(OTHER_ENDING, 0) + sum(endings[name] for name in order[MOST_ENDINGS:])
    words = {
        NO_ENDING: (counts.get(NO_ENDING, 0), NO_ENDING, NO_ENDING),
        OTHER_ENDING: (others, OTHER_ENDING, "with other endings"),
        HIDDEN: (counts.get(HIDDEN, 0), HIDDEN, HIDDEN),
        SYSTEM: (counts.get(SYSTEM, 0), "of the system", "of the system"),
        STORE: (counts.get(STORE, 0), "store of this program", "stores of this program"),
        UNREADABLE: (counts.get(UNREADABLE, 0), UNREADABLE, "unreadable folders"),
    }
    parts += [f"{count} {one if count == 1 else many}" for count, one, many in words.values() if count]
    return ", ".join(parts)


def left_out_attributes(counts: Mapping[str, int]) -> dict[str, str]:
    """Root attributes of a file that says what was left out; none for nothing."""
    return {LEFT_OUT: json.dumps(dict(counts), sort_keys=True)} if counts else {}


def read_left_out(path: Path, schema: str) -> dict[str, int]:
    """What `left_out_attributes` wrote to an artifact; {} for nothing and for files from before there were
    counts."""
    from storage.hdf5 import (
        file as hdf5,  # not where folders alone are looked at: it takes a fifth of a second
    )
    from storage.inspect.root import json_of

    with hdf5.open_artifact(path, schema) as artifact:
        value = json_of(artifact.attributes, LEFT_OUT, {})
    return {str(name): int(count) for name, count in value.items() if isinstance(count, int)}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
