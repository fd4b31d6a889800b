"""The store: artifacts by key, each made once, whole or absent, and looked at before it is believed.

    <store>/store.json                                   format of the store
    <store>/<stage>/<key16>-<content16><suffix>          an artifact; .sidecar.json and .items.json beside it
    <store>/index/                                       rebuilt from the sidecars whenever it is missing
    <store>/verified/                                    last verification of each artifact
    <store>/locks/, work/, runs/, scans/, prefect/

Paths inside are relative to the store, so that a moved one works.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from storage.files import probe, whole
from storage.files.digests import json_sha256
from storage.files.locks import FileLock
from storage.keys import artifacts
from storage.keys.artifacts import ArtifactRef, BrokenBuild, Sidecar
from storage.keys.keys import FORMAT_VERSION, key_parts, parts_family, parts_key
from storage.keys.stages import RESERVED_NAMES, Stage
from storage.store import chunks, integrity, superseded
from storage.store.lookup import Index

log = logging.getLogger(__name__)

_STORE_BYTES = 4096  # of store.json

Build = Callable[[Path], Mapping[str, Any] | None]


class NoStore(ValueError):
    """A folder that is not a store, or one that this version cannot read."""


def is_store(folder: Path) -> bool:
    """Whether a folder is a store, of any version; never an error, whatever is in it."""
    file = folder / "store.json"
    try:
        return file.stat().st_size <= _STORE_BYTES and _is_format(whole.read_json(file))
    except (OSError, RecursionError):  # somebody else's
        return False


def _is_format(facts: Any) -> bool:
    return isinstance(facts, dict) and isinstance(facts.get("format"), int)


@dataclass(frozen=True)
class Store:
    """A folder of artifacts. Make one with ``Store.create``, use one with ``Store.open``."""

    root: Path

    @classmethod
    def create(cls, root: str | Path, *, min_free_bytes: int = probe.MIN_FREE_BYTES) -> Store:
        """Make a store, or open the one that is there.

        Raises UnsuitableFolder where the file system lacks working ``flock`` or atomic renames, or space.
        """
        root = Path(root).absolute()
        if (root / "store.json").exists():
            return cls.open(root)
        probe.probe(root, min_free_bytes)
        for name in sorted(RESERVED_NAMES):
            (root / name).mkdir(exist_ok=True)
        created = artifacts.now().isoformat(timespec="seconds")
        whole.write_json(root / "store.json", {"format": FORMAT_VERSION, "created": created})
        return cls(root)

    @classmethod
    def open(cls, root: str | Path) -> Store:
        """Open a store. Raises NoStore for another folder and for a newer format."""
        root = Path(root).absolute()
        facts = whole.read_json(root / "store.json")
        if not _is_format(facts):
            raise NoStore(f"{str(root)!r} is not a store; make one with `retrieval-sfm store init {root}`")
        if facts["format"] > FORMAT_VERSION:
            raise NoStore(
                f"{str(root)!r} has format {facts['format']}, this reads {FORMAT_VERSION}; update the package"
            )
        _check_no_links(root)
        store = cls(root)
        if not (root / "index").is_dir():
            try:
                store.index.rebuild()
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EACCES):
                    raise
                log.warning("%s has no index and cannot be written: it is read without one", root)
        return store

    @property
    def index(self) -> Index:
        """Which artifacts a key, a family or a meaning has."""
        return Index(self.root)

    def path(self, ref: ArtifactRef) -> Path:
        """Absolute path of an artifact."""
        return self.root / ref.path

    def sidecar(self, ref: ArtifactRef) -> Sidecar | None:
        """What is known about how an artifact was made, None where its sidecar is lost."""
        return artifacts.read_sidecar(artifacts.sidecar_path(self.root, ref))

    def find(self, stage_name: str, key: str) -> ArtifactRef | None:
        """The intact artifact of a key, None where there is none."""
        current = self.index.current(stage_name, key)
        if current is not None and self.is_intact(current):
            return current
        for ref in self.index.of_key(stage_name, key):
            if ref != current and self.is_intact(ref):
                with suppress(OSError):  # in a store that cannot be written it is looked for anew each time
                    self.index.point(ref)
                return ref
        return None

    def is_intact(self, ref: ArtifactRef, full: bool = False) -> bool:
        """Whether an artifact is there and undamaged; ``full`` reads every byte, even of untouched files."""
        return integrity.is_intact(self.root, ref, full)

    def member_digest(self, ref: ArtifactRef, member: str) -> str:
        """Content digest of one member of a folder artifact. Raises KeyError where it has no such member."""
        for facts in artifacts.read_manifest(self.path(ref)) or []:
            if facts["path"] == member:
                return str(facts["content_sha256"])
        raise KeyError(f"{ref.path} has no member {member!r}")

    def lock(self, key: str, *, what: str = "", timeout_s: float | None = None) -> FileLock:
        """The lock of a key, a context manager. Who builds under the key or uses its work folder holds it."""
        return FileLock(self.root / "locks" / f"{key}.lock", what or f"key {key[:16]}", timeout_s)

    def work_dir(self, key: str) -> Path:
        """Folder for unfinished work of a key, such as checkpoints; its owner holds the key's lock."""
        folder = self.root / "work" / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def produce(
        self,
        stage: Stage,
        options: BaseModel,
        inputs: Sequence[str],
        build: Build,
        *,
        force: bool = False,
        upstream: Sequence[ArtifactRef] = (),
    ) -> ArtifactRef:
        """The artifact of a stage for these options and inputs: found intact, or built now, by one process.

        build: gets a path that does not exist (of a file, with the suffix) or an empty folder, and fills it.
        It may return ``{"items": {id: {"input": digest, "content": digest}}, "sidecar": {any JSON facts}}``.
        If it raises, nothing is left. ``force`` builds even if there is one. Raises BrokenBuild, and what
        ``key_parts`` raises.
        """
        parts = key_parts(stage, options, inputs)
        key = parts_key(parts)
        if not force and (found := self.find(stage.name, key)):
            return found
        with self.lock(key, what=f"{stage.name} {key[:16]}"):
            if not force:
                if found := self.find(stage.name, key):
                    return found
                self._remove_damaged(stage.name, key)
            return self._build(stage, parts, build, tuple(upstream))

    def _build(
        self, stage: Stage, parts: dict[str, Any], build: Build, upstream: tuple[ArtifactRef, ...]
    ) -> ArtifactRef:
        key = parts_key(parts)
        with self._temporary(stage, key) as temporary:
            start = time.monotonic()
            report = _report(stage, build(temporary))
            seconds = time.monotonic() - start
            ref = _described(stage, key, temporary)
            chunk = chunks.checked(report.get("items"), stage.name)
            sidecar = Sidecar(
                ref=ref,
                key_parts=parts,
                family=parts_family(parts),
                upstream=upstream,
                items=len(chunk),
                items_sha256=json_sha256(chunk) if chunk else None,
                created=artifacts.now(),
                seconds=round(seconds, 3),
                machine={**artifacts.machine_facts(), "peak_memory_bytes": artifacts.peak_memory_bytes()},
                git_revision=artifacts.git_revision(),
                facts=dict(report.get("sidecar") or {}),
            )
            ref = self._publish(temporary, sidecar, chunk)
        log.info("%s %s made in %.1f s, %d bytes", stage.name, key[:16], seconds, ref.bytes)
        return ref

    def _publish(self, temporary: Path, sidecar: Sidecar, chunk: Mapping[str, Any]) -> ArtifactRef:
        """Give a finished build its name. If the same content is there for this key, intact, it stays."""
        ref = sidecar.ref
        there = artifacts.read_sidecar(artifacts.sidecar_path(self.root, ref))
        if there is not None and there.ref.key == ref.key and integrity.verify(self.root, there.ref):
            self.index.point(there.ref)
            return there.ref
        whole.remove(self.path(ref))
        artifacts.write_sidecar(self.root, sidecar, chunk)
        self.index.add(sidecar)
        whole.publish(temporary, self.path(ref))  # from here on it exists
        integrity.is_intact(self.root, ref)
        self.index.point(ref)
        return ref

    @contextmanager
    def _temporary(self, stage: Stage, key: str) -> Iterator[Path]:
        """A path beside the target; it and what a dead builder left there are gone afterwards."""
        folder = self.root / stage.name
        folder.mkdir(exist_ok=True)
        self.remove_leftovers(stage.name, held=key)
        temporary = whole.temporary_beside(folder / "x", key, stage.suffix)
        if stage.kind == "directory":
            temporary.mkdir()
        try:
            yield temporary
        finally:
            whole.remove(temporary)

    def remove_leftovers(self, stage_name: str, held: str | None = None, delete: bool = True) -> list[Path]:
        """Remove temporary files in a stage's folder whose builder is dead; what is being built stays.

        held: the key that the caller has locked. Returns what was, or without ``delete`` would be, removed.
        """
        removed = []
        for path in (self.root / stage_name).glob(f"{whole.TEMPORARY}*"):
            key = path.name.removeprefix(whole.TEMPORARY).split("-")[0]
            lock = self.lock(key)
            if key == held or lock.try_acquire():
                removed.append(path)
                if delete:
                    whole.remove(path)
                lock.release()
        return removed

    def sweep(self) -> None:
        """Remove what killed processes left unfinished or locked; what living ones work on stays."""
        for stage_name in self.index.stage_names():
            self.remove_leftovers(stage_name)
        inside = (self.root.glob(pattern) for pattern in ("*", "index/keys/*", "verified/*"))
        for folder in (self.root, *chain.from_iterable(inside)):
            whole.sweep_unfinished(folder)
        for path in (self.root / "locks").glob("*.lock"):
            lock = FileLock(path)
            if lock.try_acquire():
                lock.release()

    def remove(self, ref: ArtifactRef) -> None:
        """Take an artifact and all that is known about it out of the store; the caller holds its lock."""
        self.index.discard(ref)
        whole.remove(self.path(ref))
        for path in (artifacts.items_path(self.root, ref), artifacts.sidecar_path(self.root, ref)):
            whole.remove(path)
        whole.remove(integrity.record_path(self.root, ref))

    def _remove_damaged(self, stage_name: str, key: str) -> None:
        for ref in self.index.of_key(stage_name, key):
            log.warning("%s is missing or damaged and is made again", ref.path)
            self.remove(ref)

    def plan_items(
        self, stage: Stage, options: BaseModel, wanted: Mapping[str, str], chunk_size: int
    ) -> list[chunks.Chunk]:
        """Chunks that together hold all wanted items: intact ones, then the misses: storage.store.chunks."""
        return chunks.plan(self, stage, options, wanted, chunk_size)

    def locate_items(
        self, stage: Stage, options: BaseModel, wanted: Mapping[str, str]
    ) -> dict[str, ArtifactRef]:
        """The intact chunk of each wanted item (id -> input digest); items that no chunk has are left out."""
        return chunks.locate(self, stage, options, wanted)

    def item_digests(self, ref: ArtifactRef) -> dict[str, str]:
        """Content digest of each item of a chunk artifact."""
        return {name: facts["content"] for name, facts in chunks.read(self.root, ref).items()}

    def why_missing(self, stage: Stage, options: BaseModel, *inputs: Any) -> superseded.OlderCode | None:
        """The artifact that only other code or package versions keep from being used, else None. inputs: and
        what they formerly were, as of `superseded.why_missing`."""
        return superseded.why_missing(self, stage, options, *inputs)

    def accept_older_code(self, stage: Stage, options: BaseModel, *inputs: Any) -> ArtifactRef:
        """Adopt that artifact for today's key and record it. Raises NothingOlder where there is none."""
        return superseded.accept(self, stage, options, *inputs)


def _check_no_links(root: Path) -> None:
    """A folder of the store that is a link would have what is written and deleted elsewhere."""
    with os.scandir(root) as entries:
        links = sorted(entry.name for entry in entries if entry.is_symlink() and entry.is_dir())
    if links:
        raise NoStore(f"{str(root / links[0])!r} is a link; a store holds its own folders: move it in")


def _report(stage: Stage, value: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if value is not None and not (isinstance(value, Mapping) and set(value) <= {"items", "sidecar"}):
        raise BrokenBuild(
            f"stage {stage.name!r}: build returned {value!r}, not a mapping of items and sidecar"
        )
    return value or {}


def _described(stage: Stage, key: str, built: Path) -> ArtifactRef:
    """The reference of a finished build, still under its temporary name. Raises BrokenBuild."""
    if built.is_dir() != (stage.kind == "directory") or not built.exists():
        raise BrokenBuild(
            f"stage {stage.name!r}: the build left no {stage.kind} at the path that it was given"
        )
    _check_soundness(stage, built)
    digest, content, size = (
        artifacts.write_manifest(built) if built.is_dir() else artifacts.describe_file(built)
    )
    name = artifacts.artifact_name(key, content) + stage.suffix
    return ArtifactRef(
        stage=stage.name,
        key=key,
        path=f"{stage.name}/{name}",
        file_sha256=digest,
        content_sha256=content,
        bytes=size,
        schema=stage.schema_name,
    )


def _check_soundness(stage: Stage, built: Path) -> None:
    """Whatever `inspect` would say against the artifact, before anybody can use it. Raises BrokenBuild."""
    from storage.inspect.soundness import problems_of_artifact

    if problems := problems_of_artifact(built, stage.schema_name):
        more = f"; ... {len(problems) - 3} more" if len(problems) > 3 else ""
        shown = "; ".join(map(str, problems[:3]))
        what = repr(stage.schema_name) if stage.schema_name else stage.kind
        raise BrokenBuild(f"stage {stage.name!r} wrote no valid {what}: {shown}{more}")
