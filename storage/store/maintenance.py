"""Looking after a store: what is there, is it intact, what can go, where a file comes from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from storage.files import whole
from storage.files.digests import file_sha256
from storage.files.errors import OpenElsewhere
from storage.files.locks import FileLock
from storage.keys import artifacts
from storage.keys.artifacts import ITEMS, SIDECAR, ArtifactRef, Sidecar
from storage.keys.keys import FORMAT_VERSION, schema_version
from storage.store import ledger as runs
from storage.store.store import Store

WEEK_S = 7 * 24 * 3600.0
ORPHAN_S = 600.0


class StoreBusy(ValueError):
    """Something that must not be removed while a run is going on."""


class UnknownFile(ValueError):
    """A file that no artifact of the store is."""


Status = Literal["ok", "damaged", "missing", "open elsewhere", "orphan"]


@dataclass(frozen=True)
class Listed:
    """One artifact of the store, and the runs that hold it."""

    ref: ArtifactRef
    created: datetime
    seconds: float
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What ``verify`` found: an artifact and how it is, or a file that belongs to none (orphan)."""

    path: str
    status: Status
    ref: ArtifactRef | None


@dataclass(frozen=True)
class Garbage:
    """What ``gc`` would remove, or has removed; paths relative to the store."""

    artifacts: tuple[ArtifactRef, ...]
    others: tuple[str, ...]  # unfinished work, leftovers of dead builders, files without a sidecar
    kept_locked: tuple[str, ...]
    bytes: int
    deleted: bool


@dataclass(frozen=True)
class Ancestor:
    """An artifact and what it was made from."""

    ref: ArtifactRef
    sidecar: Sidecar | None  # None where the artifact is no longer in the store
    upstream: tuple[Ancestor, ...]

    def lines(self, depth: int = 0) -> Iterator[str]:
        """The tree as text, one artifact a line; what was shown before is not shown again."""
        yield from self._lines(depth, set())

    def _lines(self, depth: int, seen: set[str]) -> Iterator[str]:
        name = f"{'  ' * depth}{self.ref.path}"
        if self.sidecar is None:
            yield f"{name}  (no longer in the store)"
        elif self.ref.path in seen:
            yield f"{name}  (see above)"
            return
        else:
            adopted = ", adopted from older code" if self.sidecar.accepted else ""
            yield f"{name}  {self.sidecar.created:%Y-%m-%d %H:%M} {self.sidecar.seconds:.1f} s{adopted}"
        seen.add(self.ref.path)
        for parent in self.upstream:
            yield from parent._lines(depth + 1, seen)


@dataclass(frozen=True)
class Migrated:
    """What ``migrate`` did: formats of the store, artifacts indexed, files of older, readable layouts."""

    from_format: int
    to_format: int
    indexed: int
    older_layouts: tuple[str, ...]


def ls(store: Store, stage: str | None = None) -> list[Listed]:
    """Every artifact, by stage and age."""
    holders: dict[str, list[str]] = {}
    for record in runs.records(store):
        for ref in record.all_refs():
            holders.setdefault(ref.path, []).append(record.id)
    listed = [
        Listed(s.ref, s.created, s.seconds, tuple(holders.get(s.ref.path, ())))
        for s in store.index.sidecars()
        if stage in (None, s.ref.stage)
    ]
    return sorted(listed, key=lambda item: (item.ref.stage, item.created, item.ref.path))


def verify(store: Store, full: bool = True) -> list[Verdict]:
    """Look at every artifact, and by default read every byte of it."""
    verdicts = []
    for sidecar in store.index.sidecars():
        verdicts.append(Verdict(sidecar.ref.path, _status(store, sidecar.ref, full), sidecar.ref))
    return verdicts + [Verdict(path, "orphan", None) for path in _orphans(store)]


def _status(store: Store, ref: ArtifactRef, full: bool) -> Status:
    if not store.path(ref).exists():
        return "missing"
    try:
        return "ok" if store.is_intact(ref, full=full) else "damaged"
    except OpenElsewhere:
        return "open elsewhere"


def gc(store: Store, *, delete: bool = False, keep_work_s: float = WEEK_S) -> Garbage:
    """Find, and with ``delete`` remove, what no run in the ledger stands on.

    Kept: the artifacts of all runs and all that those were made from; whatever is locked; unfinished work
    younger than ``keep_work_s``. Raises StoreBusy when asked to delete while a run is going on.
    """
    if delete and (busy := [record.id for record in runs.records(store) if record.alive]):
        raise StoreBusy(f"run {busy[0]} is going on in {str(store.root)!r}; wait for its end")
    kept = _referenced(store)
    unused = [s.ref for s in store.index.sidecars() if s.ref.path not in kept]
    freed, others, locked, size = [], [], [], 0
    for ref in unused:
        if not _remove_unlocked(store, ref, delete):
            locked.append(ref.path)
            continue
        freed.append(ref)
        size += ref.bytes
    for path, key in _loose_files(store, keep_work_s):
        bytes_here = _bytes_below(store.root / path)
        if not _remove_loose(store, path, key, delete):
            locked.append(path)
            continue
        others.append(path)
        size += bytes_here
    return Garbage(tuple(freed), tuple(others), tuple(locked), size, delete)


def lineage(store: Store, file: str | Path) -> Ancestor:
    """The ancestry of a file of the store, or of a copy of one elsewhere. Raises UnknownFile."""
    sidecars = {sidecar.ref.path: sidecar for sidecar in store.index.sidecars()}
    path = Path(file)
    ref = _ref_of(store, path, sidecars)
    if ref is None:
        raise UnknownFile(f"{str(file)!r} is no artifact of {str(store.root)!r}; `store ls` lists them")
    return _ancestor(ref, sidecars, {})


def migrate(store: Store) -> Migrated:
    """Bring a store to today's format: a fresh index, and a list of the files in older layouts."""
    facts = whole.read_json(store.root / "store.json")
    indexed = store.index.rebuild()
    whole.write_json(store.root / "store.json", {**facts, "format": FORMAT_VERSION})
    older = tuple(s.ref.path for s in store.index.sidecars() if _has_older_layout(s))
    return Migrated(facts["format"], FORMAT_VERSION, indexed, older)


def _has_older_layout(sidecar: Sidecar) -> bool:
    name, version = sidecar.key_parts.get("schema", [None, None])
    return name is not None and version is not None and version < (schema_version(name) or 0)


def _referenced(store: Store) -> set[str]:
    """Paths of the artifacts that runs hold, and of all that those were made from."""
    kept: set[str] = set()
    pending = [ref for record in runs.records(store) for ref in record.all_refs()]
    while pending:
        ref = pending.pop()
        if ref.path not in kept:
            kept.add(ref.path)
            sidecar = store.sidecar(ref)
            pending += sidecar.upstream if sidecar else ()
    return kept


def _remove_unlocked(store: Store, ref: ArtifactRef, delete: bool) -> bool:
    return _under(store.lock(ref.key), partial(store.remove, ref) if delete else None)


def _remove_loose(store: Store, path: str, key: str, delete: bool) -> bool:
    return _under(store.lock(key), partial(whole.remove, store.root / path) if delete else None)


def _under(lock: FileLock, remove: Callable[[], None] | None) -> bool:
    """Remove something while holding its lock; whether the lock was free. None: only look, write nothing."""
    if remove is None:
        return lock.is_free()
    if not lock.try_acquire():
        return False
    try:
        remove()
    finally:
        lock.release()
    return True


def _loose_files(store: Store, keep_work_s: float) -> Iterator[tuple[str, str]]:
    """(path, key that locks it) of old unfinished work, leftovers of builders and files without a sidecar."""
    for work in sorted((store.root / "work").iterdir()):
        if time.time() - _youngest(work) > keep_work_s:
            yield f"work/{work.name}", work.name
    for stage_name in store.index.stage_names():
        for path in sorted((store.root / stage_name).glob(f"{whole.TEMPORARY}*")):
            yield f"{stage_name}/{path.name}", path.name.removeprefix(whole.TEMPORARY).split("-")[0]
    for orphan in _orphans(store):
        if time.time() - _youngest(store.root / orphan) > ORPHAN_S:  # else it may be about to get its sidecar
            yield orphan, f"orphan-{Path(orphan).name}"


def _orphans(store: Store) -> Iterator[str]:
    """Files and folders in the stages' folders that no sidecar speaks of."""
    for stage_name in store.index.stage_names():
        names = sorted(os.listdir(store.root / stage_name))
        known = {name.removesuffix(SIDECAR) for name in names if name.endswith(SIDECAR)}
        for name in names:
            stem = name.removesuffix(SIDECAR).removesuffix(ITEMS).split(".")[0]
            if not name.startswith(".") and stem not in known:
                yield f"{stage_name}/{name}"


def _youngest(folder: Path) -> float:
    """The latest mtime of a file, or of a folder and all below it."""
    times = [folder.lstat().st_mtime]
    for parent, _, names in os.walk(folder):
        times += [os.lstat(os.path.join(parent, name)).st_mtime for name in names]
    return max(times)


def _bytes_below(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum(os.lstat(os.path.join(parent, n)).st_size for parent, _, names in os.walk(path) for n in names)


def _ref_of(store: Store, path: Path, sidecars: dict[str, Sidecar]) -> ArtifactRef | None:
    names = {Path(known).name.split(".")[0]: sidecar.ref for known, sidecar in sidecars.items()}
    for part in (path, *path.parents):  # a member of a folder artifact stands for the folder
        if part.name.split(".")[0] in names:
            return names[part.name.split(".")[0]]
    if not path.exists():
        return None
    source = path / artifacts.MANIFEST if path.is_dir() else path
    digest = file_sha256(source) if source.is_file() else ""
    return next((s.ref for s in _newest_first(sidecars.values()) if s.ref.file_sha256 == digest), None)


def _newest_first(sidecars: Iterable[Sidecar]) -> list[Sidecar]:
    return sorted(sidecars, key=lambda sidecar: sidecar.created, reverse=True)


def _ancestor(ref: ArtifactRef, sidecars: dict[str, Sidecar], done: dict[str, Any]) -> Ancestor:
    if ref.path not in done:
        sidecar = sidecars.get(ref.path)
        upstream = sidecar.upstream if sidecar else ()
        done[ref.path] = Ancestor(ref, sidecar, tuple(_ancestor(r, sidecars, done) for r in upstream))
    found: Ancestor = done[ref.path]
    return found
