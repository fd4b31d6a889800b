"""Photographs for other programs: the names that they get there, their working copies, a table of both.

Coordinates in models and features are pixels of the working copies, so these are what is handed over.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from sfm.scene.scene import Scene
from storage.hdf5.open import open_artifact

ImageMode = Literal["copy", "hardlink", "symlink", "none"]
_JPEG = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
_LONGEST_NAME_BYTES = 255
TABLE = "photographs.csv"
_COLUMNS = (
    "exported",
    "name",
    "sha256",
    "width",
    "height",
    "orientation",
    "working_width",
    "working_height",
    "cluster",
    "model",
)


class UnusableExport(ValueError):
    """A folder that cannot be exported to, or a run that has nothing to export."""


@dataclass(frozen=True)
class Exported:
    """Accepted photographs by sha256: position in the scene, id from 1 on, name in the other program."""

    photo: Mapping[str, int]
    name: Mapping[str, str]

    @property
    def ids(self) -> dict[str, int]:
        """sha256 -> 1, 2, .. in sorted order, as `sfm.features.database` numbers them too."""
        return {sha: number for number, sha in enumerate(sorted(self.name), start=1)}


def exported(scene: Scene) -> Exported:
    """The accepted photographs of a scene under the user's names.

    `.jpg` is added where the name would lie about the working copy, which is a JPEG.
    """
    accepted = np.flatnonzero(scene.photos.cluster >= 0).tolist()
    shas = {photo: scene.photos.sha256[photo].decode() for photo in accepted}
    by_name = sorted((str(scene.photos.name[photo]), shas[photo]) for photo in accepted)
    return Exported({sha: photo for photo, sha in shas.items()}, unique_names(by_name, str))


def unique_names(photographs: Sequence[tuple[str, str]], plain: Callable[[str], str]) -> dict[str, str]:
    """(name, sha256) in order of preference -> sha256 -> a name of a JPEG file, unique also in its plain
    form and never the folder of another. Raises UnusableExport for a name that leads out of the folder.
    """
    taken = {plain(str(parent)) for name, _ in photographs for parent in PurePosixPath(name).parents}
    wanted = sorted(photographs, key=lambda pair: PurePosixPath(pair[0]).suffix.lower() not in _JPEG)
    found = {}
    for name, sha in wanted:
        for candidate in _candidates(name, sha):
            if plain(candidate) not in taken:
                taken.add(plain(candidate))
                found[sha] = candidate
                break
    return found


def _candidates(name: str, sha: str) -> Iterable[str]:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise UnusableExport(f"photograph {name!r}: its name leads out of the folder; rename it")
    stem = name if path.suffix.lower() in _JPEG else f"{name}.jpg"
    for candidate in (stem, f"{stem}.{sha[:12]}.jpg"):
        if len(os.fsencode(PurePosixPath(candidate).name)) <= _LONGEST_NAME_BYTES:
            yield candidate
    yield f"{sha}.jpg"


def verified_pairs(scene: Scene, files: Iterable[Path]) -> dict[tuple[str, str], Path]:
    """Pair of photographs (smaller sha256 first) -> the match file that has its matches, for pairs that were
    tried for this scene; chunks of matches may hold pairs of other collections too.
    """
    shas = scene.photos.sha256
    ends = zip(scene.attempts.first.tolist(), scene.attempts.second.tolist(), strict=True)
    tried = {tuple(sorted((shas[one].decode(), shas[other].decode()))) for one, other in ends}
    found: dict[tuple[str, str], Path] = {}
    for file in sorted(set(files)):
        with open_artifact(file, "matches") as artifact:
            for item in artifact.items():
                first, second = item.split("/")
                if (first, second) in tried:
                    found.setdefault((first, second), file)
    return found


def write_photographs(
    folder: Path, scene: Scene, photographs: Exported, working: Mapping[str, Path], mode: ImageMode
) -> None:
    """Fill `folder`: `images/` with the working copies and `photographs.csv`, one row per photograph.

    working: sha256 -> folder of its working copy `<sha256>.jpg`. `hardlink` saves space, but who edits such a
    file damages the store (which notices). Raises UnusableExport where a working copy is missing.
    """
    for sha, name in sorted(photographs.name.items()) if mode != "none" else ():
        source = working.get(sha, Path()) / f"{sha}.jpg"
        if not source.is_file():
            raise UnusableExport(f"the working copy of {name!r} is missing; run again, then export")
        target = folder / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(source.resolve(), target, mode)
    _write_table(folder / TABLE, scene, photographs)


def _place(source: Path, target: Path, mode: ImageMode) -> None:
    if mode == "symlink":
        target.symlink_to(source)
    elif mode == "copy":
        shutil.copyfile(source, target)
    else:
        try:
            os.link(source, target)
        except OSError as error:
            raise UnusableExport(
                f"{str(target)!r}: no hard link is possible ({error.strerror}); use --images copy"
            ) from error


def _write_table(path: Path, scene: Scene, photographs: Exported) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for sha, name in sorted(photographs.name.items(), key=lambda pair: pair[1]):
            photo = photographs.photo[sha]
            own = [str(getattr(scene.photos, column)[photo]) for column in _COLUMNS[3:]]
            writer.writerow([name, str(scene.photos.name[photo]), sha, *own])
