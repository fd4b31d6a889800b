"""The folder of photographs: what is in it, under which names, and whether a file is still what it was."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from storage.digests import file_sha256, json_sha256
from storage.files import read_json, write_json
from storage.integrity import CLOCK_TICK_NS

log = logging.getLogger(__name__)

_IMAGES = "jpg jpeg jpe jfif png tif tiff webp bmp gif ppm pgm jp2 heic heif avif"
_RAW = "cr2 cr3 crw nef arw dng orf rw2 raf pef srw x3f raw 3fr iiq"
_VIDEO = "mp4 mov avi mkv m4v webm mts m2ts 3gp wmv insv mpg mpeg"
IMAGES, RAW, VIDEO = (frozenset(f".{end}" for end in ends.split()) for ends in (_IMAGES, _RAW, _VIDEO))

Progress = Callable[[int, int], None]


class PhotographChanged(ValueError):
    """A photograph whose content is not what the scan saw, or that is gone."""


class UnknownPhotograph(ValueError):
    """A name that the scan does not have."""


class NoFolder(ValueError):
    """A folder of photographs that does not exist or cannot be read."""


@dataclass(frozen=True)
class PhotoEntry:
    """One file of the scan; ``name`` is its POSIX path below the root, sha256 is "" where it was not read."""

    name: str
    sha256: str
    size: int
    mtime_ns: int
    inode: int
    status: str  # ok, rejected, unsupported
    reason: str = ""


@dataclass(frozen=True)
class ScanTable:
    """What a scan found, sorted by name; ``skipped`` counts what is not listed."""

    entries: tuple[PhotoEntry, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)  # hidden, other, unreadable_folder

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.entries]

    @property
    def sha256(self) -> list[str]:
        return [entry.sha256 for entry in self.entries]

    @property
    def size(self) -> list[int]:
        return [entry.size for entry in self.entries]

    @property
    def mtime_ns(self) -> list[int]:
        return [entry.mtime_ns for entry in self.entries]

    @property
    def inode(self) -> list[int]:
        return [entry.inode for entry in self.entries]

    @property
    def status(self) -> list[str]:
        return [entry.status for entry in self.entries]

    @property
    def reason(self) -> list[str]:
        return [entry.reason for entry in self.entries]

    @property
    def content_sha256(self) -> str:
        """Digest of what was found, the same on another machine: names, content, verdicts, no times."""
        return json_sha256([[e.name, e.sha256, e.status, e.reason] for e in self.entries])


def scan(root: str | Path, table_path: Path, progress: Progress | None = None, threads: int = 4) -> ScanTable:
    """All photographs below a folder, with the sha256 of each; only new or touched files are read.

    table_path: where (name, size, mtime, inode) -> sha256 is kept between scans. progress: called with (files
    hashed, files to hash). Linked folders are followed, each real folder is visited once. Raises NoFolder.
    """
    started_ns = time.time_ns()
    root, found, skipped = _listed(root)
    entries = _hash(root, found, _known(table_path), progress, threads)
    table = ScanTable(tuple(sorted(entries, key=lambda entry: entry.name)), skipped)
    _save(table, table_path, started_ns)
    log.info("%d photographs in %s, skipped %s", len(found), root, skipped)
    return table


def scan_names(
    root: str | Path,
    names: Sequence[str],
    table_path: Path,
    progress: Progress | None = None,
    threads: int = 4,
) -> ScanTable:
    """The same for files that are named (POSIX, below the root); the table keeps the given order.

    What cannot be read has the status rejected and its reason.
    """
    started_ns = time.time_ns()
    entries = {e.name: e for e in _hash(Path(root), list(names), _known(table_path), progress, threads)}
    table = ScanTable(tuple(entries[name] for name in names if name in entries))
    _save(table, table_path, started_ns)
    return table


def survey(root: str | Path, table_path: Path | None, read_bytes: int) -> tuple[ScanTable, int]:
    """What a scan would find, without keeping anything; and how many files it left unread (sha256 "").

    New files are read only where all of them together have at most ``read_bytes``. Raises NoFolder.
    """
    root, found, skipped = _listed(root)
    known = _known(table_path) if table_path else {}
    new = [e for e in (_look(root, name) for name in found) if e.status == "ok" and _facts(e) not in known]
    unread = {entry.name for entry in new} if sum(entry.size for entry in new) > read_bytes else set()
    entries = _hash(root, [name for name in found if name not in unread], known, None, 4)
    entries += [entry for entry in new if entry.name in unread]
    return ScanTable(tuple(sorted(entries, key=lambda entry: entry.name)), skipped), len(unread)


def _listed(root: str | Path) -> tuple[Path, list[str], dict[str, int]]:
    """The folder, the names of its photographs and videos, sorted, and counts of what else is there."""
    root = Path(root)
    if not root.is_dir():
        raise NoFolder(f"{str(root)!r} is not a folder; give the folder of the photographs")
    skipped = {"hidden": 0, "other": 0, "unreadable_folder": 0}
    return root, sorted(_photographs(root, skipped)), skipped


def load_scan(table_path: Path) -> ScanTable | None:
    """The last scan kept at this path, None where it is missing or damaged."""
    value = read_json(table_path)
    try:
        return ScanTable(tuple(PhotoEntry(**entry) for entry in value["entries"]), dict(value["skipped"]))
    except (TypeError, KeyError):
        return None


@dataclass(frozen=True)
class PhotoSource:
    """Opens photographs by name and makes sure that they are the ones that were scanned."""

    root: Path
    table: ScanTable
    _by_name: dict[str, PhotoEntry] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        object.__setattr__(self, "_by_name", {entry.name: entry for entry in self.table.entries})

    @classmethod
    def from_digests(cls, root: str | Path, digests: Mapping[str, str]) -> PhotoSource:
        """A source that knows digests only, and so reads each file once more when it is asked for."""
        entries = (PhotoEntry(name, sha, -1, -1, -1, "ok") for name, sha in sorted(digests.items()))
        return cls(Path(root), ScanTable(tuple(entries)))

    def path(self, name: str) -> Path:
        """The file of a photograph. Raises UnknownPhotograph, PhotographChanged for different content."""
        if name not in self._by_name:
            raise UnknownPhotograph(
                f"{name!r} is not in the scan of {str(self.root)!r}; scan the folder again"
            )
        entry, path = self._by_name[name], self.root / name
        try:
            now = os.stat(path)
            if (now.st_size, now.st_mtime_ns, now.st_ino) != (entry.size, entry.mtime_ns, entry.inode):
                self._confirm(entry, path, now)
        except OSError as error:
            raise PhotographChanged(
                f"{name!r} cannot be read any more ({error.strerror}); run again"
            ) from error
        return path

    def _confirm(self, entry: PhotoEntry, path: Path, now: os.stat_result) -> None:
        if file_sha256(path) != entry.sha256:
            raise PhotographChanged(f"{entry.name!r} is no longer the photograph that was scanned; run again")
        facts = {"size": now.st_size, "mtime_ns": now.st_mtime_ns, "inode": now.st_ino}
        self._by_name[entry.name] = PhotoEntry(**{**asdict(entry), **facts})


def _known(table_path: Path) -> dict[tuple[Any, ...], str]:
    table = load_scan(table_path)
    entries = table.entries if table else ()
    return {_facts(entry): entry.sha256 for entry in entries if entry.status == "ok" and entry.mtime_ns >= 0}


def _facts(entry: PhotoEntry) -> tuple[Any, ...]:
    return entry.name, entry.size, entry.mtime_ns, entry.inode


def _save(table: ScanTable, table_path: Path, started_ns: int) -> None:
    """Keep the table; a file written just now may change again within its mtime: its digest is not kept."""
    late = started_ns - CLOCK_TICK_NS
    entries = [asdict(e) | ({"mtime_ns": -1} if e.mtime_ns >= late else {}) for e in table.entries]
    write_json(table_path, {"entries": entries, "skipped": dict(table.skipped)})


def _photographs(root: Path, skipped: dict[str, int]) -> Iterator[str]:
    """Names of image, RAW and video files. Real folders first; a link leads only to a folder not yet seen."""
    seen: set[tuple[int, int]] = set()
    folders: list[str] = [""]
    links: list[str] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            identity = os.stat(root / folder)
            with os.scandir(root / folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            skipped["unreadable_folder"] += 1
            continue
        if (identity.st_dev, identity.st_ino) in seen:
            continue
        seen.add((identity.st_dev, identity.st_ino))
        for entry in entries:
            if entry.name.startswith("."):
                skipped["hidden"] += 1
            elif _is_folder(entry):
                (links if entry.is_symlink() else folders).append(f"{folder}{entry.name}/")
            elif _is_photograph(f"{folder}{entry.name}"):
                yield f"{folder}{entry.name}"
            else:
                skipped["other"] += 1
        links.sort()


def _is_photograph(name: str) -> bool:
    """By its ending; without one, by its place in the reference's image tree: ef/cd/ab/0123456789abcdef."""
    if Path(name).suffix.lower() in IMAGES | RAW | VIDEO:
        return True
    *_, first, second, third, cid = ["", "", "", *name.split("/")]
    return len(cid) >= 6 and "." not in cid and [first, second, third] == [cid[-2:], cid[-4:-2], cid[-6:-4]]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _hash(
    root: Path,
    names: list[str],
    known: Mapping[tuple[Any, ...], str],
    progress: Progress | None,
    threads: int,
) -> list[PhotoEntry]:
    entries, todo = [], []
    for name in names:
        entry = _look(root, name)
        sha256 = known.get(_facts(entry))
        if entry.status != "ok" or sha256 is not None:
            entries.append(PhotoEntry(**{**asdict(entry), "sha256": sha256 or ""}))
        else:
            todo.append(entry)
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for count, entry in enumerate(pool.map(lambda entry: _read(root, entry), todo), start=1):
            entries.append(entry)
            if progress is not None:
                progress(count, len(todo))
    return entries


def _look(root: Path, name: str) -> PhotoEntry:
    """What can be said about a file without reading it."""
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    try:
        found = os.stat(root / name)
    except OSError as error:
        return PhotoEntry(shown, "", 0, 0, 0, "rejected", f"cannot be opened: {error.strerror}")
    size, mtime_ns, inode = found.st_size, found.st_mtime_ns, found.st_ino
    status, reason = "ok", ""
    suffix = Path(name).suffix.lower()
    if shown != name:
        status, reason = "rejected", "the file name is not UTF-8; rename the file"
    elif not stat.S_ISREG(found.st_mode):
        status, reason = "rejected", "not a regular file"
    elif suffix in RAW:
        status, reason = "unsupported", f"RAW photograph ({suffix}); convert it to JPEG or TIFF"
    elif suffix in VIDEO:
        status, reason = "unsupported", f"video ({suffix}); extract frames, see docs/video.md"
    return PhotoEntry(shown, "", size, mtime_ns, inode, status, reason)


def _read(root: Path, entry: PhotoEntry) -> PhotoEntry:
    try:
        return PhotoEntry(**{**asdict(entry), "sha256": file_sha256(root / entry.name)})
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        return PhotoEntry(**{**asdict(entry), "status": "rejected", "reason": reason})
