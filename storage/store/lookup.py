"""Which artifacts a key, a family or a meaning has, without reading every sidecar.

The sidecars are the truth. The index is small files that are written in one step, may be lost or stale, and
can be rebuilt at any time:

    index/keys/<stage>/<key>.json        the current artifact of a key
    index/families/<family>/<artifact>   artifacts that differ only in their inputs (chunks of items)
    index/meanings/<meaning>/<artifact>  artifacts that differ only in code and package versions
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from storage.files.whole import read_json, remove, unfinished_folder, write_json
from storage.keys.artifacts import SIDECAR, ArtifactRef, Sidecar, read_sidecar
from storage.keys.keys import parts_family, parts_meaning
from storage.keys.stages import RESERVED_NAMES


@dataclass(frozen=True)
class Index:
    """The index of the store at ``root``."""

    root: Path
    folder: str = "index"

    def current(self, stage_name: str, key: str) -> ArtifactRef | None:
        """The artifact that a key points to; it may be missing or damaged."""
        value = read_json(self._pointer(stage_name, key))
        try:
            ref = None if value is None else ArtifactRef.model_validate(value)
        except ValueError:
            return None
        return ref if ref is not None and (ref.stage, ref.key) == (stage_name, key) else None

    def point(self, ref: ArtifactRef) -> None:
        """Make an artifact the current one of its key."""
        write_json(self._pointer(ref.stage, ref.key), ref.model_dump(mode="json"), durable=False)

    def of_key(self, stage_name: str, key: str) -> list[ArtifactRef]:
        """All artifacts of a key that have a sidecar, newest first; they may be missing or damaged."""
        found = [s for s in map(read_sidecar, self._named(stage_name, key[:16])) if s and s.ref.key == key]
        return [s.ref for s in sorted(found, key=lambda s: s.created, reverse=True)]

    def sidecars(self) -> Iterator[Sidecar]:
        """Every readable sidecar of the store, by stage and name."""
        for stage_name in self.stage_names():
            yield from (s for s in map(read_sidecar, sorted(self._named(stage_name, ""))) if s is not None)

    def stage_names(self) -> list[str]:
        """Folders of stages in the store."""
        with os.scandir(self.root) as entries:
            names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
        return sorted(name for name in names if name not in RESERVED_NAMES)

    def family(self, family: str) -> Iterator[Sidecar]:
        """Sidecars of the artifacts of a family, by name."""
        return self._marked("families", family)

    def meaning(self, meaning: str) -> Iterator[Sidecar]:
        """Sidecars of the artifacts that differ only in code and package versions, by name."""
        return self._marked("meanings", meaning)

    def add(self, sidecar: Sidecar) -> None:
        """Enter an artifact under its family and its meanings."""
        for marker in self._markers(sidecar):
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()

    def discard(self, ref: ArtifactRef) -> None:
        """Forget an artifact."""
        sidecar = read_sidecar(self.root / ref.stage / f"{ref.name}{SIDECAR}")
        for marker in self._markers(sidecar) if sidecar else ():
            marker.unlink(missing_ok=True)
        if self.current(ref.stage, ref.key) == ref:
            self._pointer(ref.stage, ref.key).unlink(missing_ok=True)

    def rebuild(self) -> int:
        """Make the index anew from the sidecars; the number of artifacts in it. It is there whole or not at
        all."""
        sidecars = sorted(self.sidecars(), key=lambda s: s.created)
        with unfinished_folder(self.root) as folder:
            new = replace(self, folder=folder.name)
            for sidecar in sidecars:
                new.add(sidecar)
                new.point(sidecar.ref)
            remove(self.root / self.folder)
            try:
                os.rename(folder, self.root / self.folder)
            except OSError as error:  # another process was faster
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
        return len(sidecars)

    def _markers(self, sidecar: Sidecar) -> Iterator[Path]:
        parts, name = sidecar.key_parts, f"{sidecar.ref.stage}@{sidecar.ref.name}"
        yield self.root / self.folder / "families" / parts_family(parts) / name
        yield self.root / self.folder / "meanings" / parts_meaning(parts) / name
        if sidecar.items:
            yield self.root / self.folder / "meanings" / parts_meaning(parts, inputs=False) / name

    def _marked(self, kind: str, digest: str) -> Iterator[Sidecar]:
        try:
            names = sorted(os.listdir(self.root / self.folder / kind / digest))
        except FileNotFoundError:
            return
        for name in names:
            stage_name, _, artifact = name.partition("@")
            sidecar = read_sidecar(self.root / stage_name / f"{artifact}{SIDECAR}")
            if sidecar is not None:
                yield sidecar

    def _named(self, stage_name: str, prefix: str) -> Iterator[Path]:
        try:
            names = os.listdir(self.root / stage_name)
        except (FileNotFoundError, NotADirectoryError):
            return
        yield from (
            self.root / stage_name / n
            for n in names
            if n.endswith(SIDECAR) and n.startswith(prefix) and not n.startswith(".")
        )

    def _pointer(self, stage_name: str, key: str) -> Path:
        return self.root / self.folder / "keys" / stage_name / f"{key}.json"
