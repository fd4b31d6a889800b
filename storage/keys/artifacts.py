"""What an artifact is: its reference, its sidecar, and the manifest of one that is a folder."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from storage.files.digests import file_sha256, is_digest, json_sha256, members_sha256, relative_files
from storage.files.whole import TEMPORARY, read_json, write_json
from storage.hdf5.digests import content_sha256
from storage.keys.stages import is_stage_name

SIDECAR = ".sidecar.json"
ITEMS = ".items.json"
MANIFEST = "manifest.json"

with warnings.catch_warnings():
    # `schema` is what every file calls it; pydantic's deprecated method of that name is not used here.
    warnings.filterwarnings("ignore", message='Field name "schema"', category=UserWarning)

    class ArtifactRef(BaseModel):
        """A reference to one artifact of a store: small, JSON both ways, the same after the store moved."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        stage: str = Field(description="folder of the stage")
        key: str = Field(description="64 hex, what the artifact was made from")
        path: str = Field(description="POSIX path relative to the store")
        file_sha256: str = Field(description="integrity: the file's bytes, or the manifest's of a folder")
        content_sha256: str = Field(description="meaning: the canonical content")
        bytes: int = Field(ge=0, description="size of the file, or of all files of a folder")
        schema: str | None = Field(default=None, description="HDF5 layout")  # type: ignore[assignment]

        @model_validator(mode="after")
        def _stays_in_the_store(self) -> ArtifactRef:
            """What is read from a sidecar or a run names a file of the store, never one beside it."""
            if not is_stage_name(self.stage):
                raise ValueError(f"stage {self.stage!r} is the name of no stage")
            if not is_digest(self.key):
                raise ValueError(f"key {self.key!r}: it is 64 digits of a sha256")
            folder, _, name = self.path.partition("/")
            if folder != self.stage or not is_plain_name(name):
                raise ValueError(f"path {self.path!r} leaves the folder of stage {self.stage!r}")
            return self

        @property
        def name(self) -> str:
            """File name without what follows the content digest: ``<key16>-<content16>``."""
            return Path(self.path).name.split(".")[0]


class Sidecar(BaseModel):
    """What is known about an artifact beside its content: where it comes from, and how it was made."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ref: ArtifactRef
    key_parts: dict[str, Any]
    family: str
    upstream: tuple[ArtifactRef, ...] = ()
    items: int = Field(default=0, description="number of items of a chunk, listed in the items file")
    items_sha256: str | None = Field(default=None, description="digest of that list")
    created: datetime
    seconds: float = Field(description="time that the build took")
    machine: dict[str, Any] = Field(default_factory=dict)
    git_revision: str | None = None
    facts: dict[str, Any] = Field(
        default_factory=dict, description="what the build reported beside its content"
    )
    accepted: dict[str, Any] | None = Field(default=None, description="set where older code's result is used")


class BrokenBuild(RuntimeError):
    """A build that left something that is no artifact of its stage."""


def is_plain_name(name: str) -> bool:
    """Whether it names a file of a folder, and nothing above, below or beside it."""
    return name not in ("", ".", "..") and not any(letter in name for letter in "/\\\0")


def is_inner_path(path: str) -> bool:
    """Whether a POSIX path names something below a folder, whatever links there are."""
    return all(is_plain_name(part) for part in path.split("/"))


def artifact_name(key: str, content: str) -> str:
    """``<key16>-<content16>``, the name of an artifact without its suffix."""
    return f"{key[:16]}-{content[:16]}"


def sidecar_path(root: Path, ref: ArtifactRef) -> Path:
    """The sidecar of an artifact, beside it."""
    return root / ref.stage / f"{ref.name}{SIDECAR}"


def items_path(root: Path, ref: ArtifactRef) -> Path:
    """The list of items of a chunk artifact, beside it."""
    return root / ref.stage / f"{ref.name}{ITEMS}"


def read_sidecar(path: Path) -> Sidecar | None:
    """A sidecar, None where it is missing or damaged."""
    value = read_json(path)
    try:
        return None if value is None else Sidecar.model_validate(value)
    except ValueError:
        return None


def write_sidecar(root: Path, sidecar: Sidecar, items: Mapping[str, Any] | None = None) -> None:
    """Write an artifact's items and sidecar, each in one step; publishing the artifact syncs the folder."""
    if items:
        write_json(items_path(root, sidecar.ref), dict(sorted(items.items())), folder=False)
    write_json(sidecar_path(root, sidecar.ref), sidecar.model_dump(mode="json"), folder=False, indent=1)


def describe_file(path: Path) -> tuple[str, str, int]:
    """(file sha256, content sha256, bytes) of one file."""
    return file_sha256(path), content_sha256(path), path.stat().st_size


def write_manifest(folder: Path) -> tuple[str, str, int]:
    """List a folder's members in its manifest; (manifest sha256, content sha256, bytes of all members).

    Raises BrokenBuild for a link, for a member with the manifest's name and for a name that is not UTF-8.
    """
    members: list[dict[str, Any]] = []
    for name in relative_files(folder):
        if name == MANIFEST or Path(name).name.startswith(TEMPORARY):
            raise BrokenBuild(f"{folder.name}: {name!r} must not be among the files of an artifact")
        digest, content, size = describe_file(folder / name)
        members.append({"path": name, "bytes": size, "sha256": digest, "content_sha256": content})
    for parent, folders, names in os.walk(folder):
        for name in folders + names:
            if Path(parent, name).is_symlink():
                raise BrokenBuild(f"{folder.name}: {name!r} is a link; an artifact holds its own files")
    write_json(folder / MANIFEST, {"files": members}, indent=1)
    content = members_sha256({member["path"]: member["content_sha256"] for member in members})
    return file_sha256(folder / MANIFEST), content, sum(member["bytes"] for member in members)


def read_manifest(folder: Path) -> list[dict[str, Any]] | None:
    """Members of a folder artifact (path, bytes, sha256, content_sha256), None for a damaged manifest."""
    value = read_json(folder / MANIFEST)
    try:
        members = list(value["files"])
        known = all({"path", "bytes", "sha256"} <= set(member) for member in members)
        return members if known and all(is_inner_path(member["path"]) for member in members) else None
    except (TypeError, KeyError, AttributeError):
        return None


@lru_cache(maxsize=1)
def machine_facts() -> dict[str, Any]:
    """Where this process runs: host, system, processor count, Python version."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
    }


def peak_memory_bytes() -> int:
    """The most memory that this process, or one of its ended children, has had at a time so far."""
    unit = 1 if platform.system() == "Darwin" else 1024
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(peaks) * unit


@lru_cache(maxsize=1)
def git_revision() -> str | None:
    """Revision of this code's own repository, with "+" where it was edited; None outside of one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        run = ["git", "-C", str(root)]
        head = subprocess.run(
            [*run, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
        changed = subprocess.run([*run, "diff", "--quiet", "HEAD"], capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if changed.returncode else "")


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def items_digest(items: Mapping[str, str]) -> str:
    """One digest (64 hex) over item ids and their input digests, whatever their order."""
    return json_sha256(sorted(items.items()))
