"""The folder of photographs: what is in it, under which names, and whether a file is still what it was."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from storage.files.digests import file_sha256
from storage.photographs.folders import Folder, ending, left_out_text
from storage.photographs.tables import Facts, Known, PhotoEntry, ScanTable, save_scan
from storage.pictures.formats import HEAD_BYTES, PICTURE_ENDINGS, RAW_ENDINGS, VIDEO_ENDINGS, verdict

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
_OTHER = "other"  # no photograph and not called one
_NOT_UTF8 = "the file name is not UTF-8; rename the file"


class PhotographChanged(ValueError):
    """A photograph whose content is not what the scan saw, or that is gone."""


class UnknownPhotograph(ValueError):
    """A name that the scan does not have."""


class NoFolder(ValueError):
    """A folder of photographs that does not exist or cannot be read."""


class NoPhotographs(NoFolder):
    """A folder without a file that is a photograph."""


@dataclass(frozen=True)
class _Listing:
    """The files of a folder that are photographs or called so, by their first bytes; others: the rest."""

    root: Path
    entries: list[PhotoEntry]
    others: frozenset[Facts]
    left_out: Mapping[str, int]
    known: Known

    def table(self, entries: Sequence[PhotoEntry]) -> ScanTable:
        """The table of this folder with these entries in place of its own."""
        named = sorted(_under_own_names(entries), key=lambda entry: entry.name)
        return ScanTable(tuple(named), self.left_out, self.others)


def scan(root: str | Path, table_path: Path, progress: Progress | None = None, threads: int = 4) -> ScanTable:
    """All photographs below a folder, by content, with the sha256 of each; only new or touched files are
    read, of those that are no photographs the first bytes alone.

    table_path: where (name, size, mtime, inode) -> sha256 is kept between scans. progress: called with (files
    hashed, files to hash). Linked folders are followed, each real folder is visited once; hidden and system
    folders and stores are not. Raises NoFolder.
    """
    started_ns = time.time_ns()
    listing = _listed(root, Known.of(table_path))
    table = listing.table(_hash(listing.root, listing.entries, listing.known, progress, threads))
    save_scan(table, table_path, started_ns)
    log.info("%d photographs in %s, left out: %s", len(table.entries), root, left_out_text(table.left_out))
    return table


def scan_names(
    root: str | Path,
    names: Sequence[str],
    table_path: Path,
    progress: Progress | None = None,
    threads: int = 4,
) -> ScanTable:
    """The same for files that are named (POSIX, below the root); the table keeps the given order.

    They are believed to be photographs. What cannot be read has the status rejected and its reason.
    """
    started_ns, folder, known = time.time_ns(), Path(root), Known.of(table_path)
    entries = {entry.name: entry for entry in (_look(folder, name) for name in names)}
    entries = {entry.name: entry for entry in _hash(folder, list(entries.values()), known, progress, threads)}
    table = ScanTable(tuple(entries[name] for name in names if name in entries))
    save_scan(table, table_path, started_ns)
    return table


def survey(root: str | Path, table_path: Path | None, read_bytes: int) -> tuple[ScanTable, int]:
    """What a scan would find, without keeping anything; and how many files it left unread (sha256 "").

    New files are read only where all of them together have at most ``read_bytes``. Raises NoFolder.
    """
    listing = _listed(root, Known.of(table_path))
    new = [e for e in listing.entries if e.status == "ok" and e.facts not in listing.known.sha256]
    unread = {entry.name for entry in new} if sum(entry.size for entry in new) > read_bytes else set()
    entries = _hash(
        listing.root, [e for e in listing.entries if e.name not in unread], listing.known, None, 4
    )
    entries += [entry for entry in new if entry.name in unread]
    return listing.table(entries), len(unread)


def check_folder(root: str | Path) -> None:
    """A look at a folder until the first photograph. Raises NoFolder, NoPhotographs."""
    listing = _listed(root, Known(), until_first=True)
    require_photographs(ScanTable(tuple(listing.entries), listing.left_out), root)


def require_photographs(table: ScanTable, root: str | Path) -> None:
    """Raises NoPhotographs that says what the folder has instead."""
    if "ok" in table.status:
        return
    status = Counter(table.status)
    parts = [f"{count} {name} ({_most_frequent(table, name)})" for name, count in sorted(status.items())]
    parts += [text] if (text := left_out_text(table.left_out)) else []
    raise NoPhotographs(
        f"0 photographs in {str(root)!r}: {', '.join(parts) or 'it is empty'}; give the folder of the "
        "photographs"
    )


def _most_frequent(table: ScanTable, status: str) -> str:
    ((reason, count),) = Counter(e.reason for e in table.entries if e.status == status).most_common(1)
    return f"{count} x {reason}" if count > 1 else reason


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
        self._by_name[entry.name] = replace(
            entry, size=now.st_size, mtime_ns=now.st_mtime_ns, inode=now.st_ino
        )


def _listed(root: str | Path, known: Known, *, until_first: bool = False) -> _Listing:
    """until_first: no further than to the first photograph. Raises NoFolder."""
    if not Path(root).is_dir():
        raise NoFolder(f"{str(root)!r} is not a folder; give the folder of the photographs")
    folder = Folder(Path(root))
    entries: list[PhotoEntry] = []
    others: set[Facts] = set()
    for name in folder.files():
        entry = _recognised(folder.root, name, known)
        if entry.status == _OTHER:
            folder.left_out[ending(name)] += 1
            others.add(entry.facts)
        else:
            entries.append(entry)
            if until_first and entry.status == "ok":
                break
    return _Listing(folder.root, entries, frozenset(others), dict(folder.left_out), known)


def _recognised(root: Path, name: str, known: Known) -> PhotoEntry:
    """What a file is by its first bytes; `_OTHER` where it is no photograph and not called one."""
    entry, suffix = _look(root, name), Path(name).suffix.lower()
    called_one = suffix in PICTURE_ENDINGS | RAW_ENDINGS | VIDEO_ENDINGS
    if entry.facts in known.others:
        return replace(entry, status=_OTHER)
    if entry.facts in known.verdicts:
        status, reason = known.verdicts[entry.facts]
        return replace(entry, status=status, reason=reason)
    if entry.status == "rejected" and entry.reason != _NOT_UTF8:
        return entry if called_one else replace(entry, status=_OTHER)
    try:
        found = verdict(suffix, _head(root / name))
    except OSError as error:
        found = ("rejected", f"cannot be read: {error.strerror}") if called_one else None
    if found is None:
        return replace(entry, status=_OTHER)
    return entry if found[0] == "ok" else replace(entry, status=found[0], reason=found[1])


def _look(root: Path, name: str) -> PhotoEntry:
    """What can be said about a file without reading it."""
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    try:
        found = os.stat(root / name)
    except OSError as error:
        return PhotoEntry(shown, "", 0, 0, 0, "rejected", f"cannot be opened: {error.strerror}")
    facts = found.st_size, found.st_mtime_ns, found.st_ino
    if not stat.S_ISREG(found.st_mode):
        return PhotoEntry(shown, "", *facts, "rejected", "not a regular file")
    if shown != name:
        return PhotoEntry(shown, "", *facts, "rejected", _NOT_UTF8)
    return PhotoEntry(shown, "", *facts, "ok")


def _head(path: Path) -> bytes:
    """The first bytes of a file; what has become a pipe by now does not keep us waiting."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(file, HEAD_BYTES)
    finally:
        os.close(file)


def _hash(
    root: Path, found: Sequence[PhotoEntry], known: Known, progress: Progress | None, threads: int
) -> list[PhotoEntry]:
    """The same entries, those that are ok with their sha256."""
    entries, todo = [], []
    for entry in found:
        if entry.status != "ok":
            entries.append(entry)
        elif entry.facts in known.sha256:
            entries.append(replace(entry, sha256=known.sha256[entry.facts]))
        else:
            todo.append(entry)
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for count, entry in enumerate(pool.map(lambda entry: _read(root, entry), todo), start=1):
            entries.append(entry)
            if progress is not None:
                progress(count, len(todo))
    return entries


def _read(root: Path, entry: PhotoEntry) -> PhotoEntry:
    try:
        return replace(entry, sha256=file_sha256(root / entry.name))
    except OSError as error:
        return replace(entry, status="rejected", reason=f"cannot be read: {error.strerror}")


def _under_own_names(entries: Sequence[PhotoEntry]) -> Iterator[PhotoEntry]:
    """No two of one name: bytes that are no UTF-8 may be shown as another file is called."""
    taken = {entry.name for entry in entries if entry.reason != _NOT_UTF8}
    for entry in entries:
        name, count = entry.name, 1
        while entry.reason == _NOT_UTF8 and name in taken:
            name, count = f"{entry.name} ({count + 1})", count + 1
        taken.add(name)
        yield replace(entry, name=name) if name != entry.name else entry
