"""The catalogue: every image file that the scan found, and what became of it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfm.photographs import same_pictures
from sfm.photographs.outcome import Outcome, read_outcomes
from sfm.photographs.same_pictures import Picture
from storage.hdf5 import file as hdf5
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.photographs.tables import PhotoEntry

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="catalogue",
    version=1,
    schema_name="catalogue",
    suffix=".h5",
    packages=("numpy", "scipy", "h5py", "pillow", "pillow-heif"),
    code=__name__,
)


class CatalogueOptions(Options):
    """The catalogue has no options of its own; those of the working copies decide."""


class MissingOutcome(ValueError):
    """A scanned photograph of which no working copy was tried."""


@dataclass(frozen=True)
class Catalogue:
    """The usable photographs sorted by sha256, the name that stands for each, and files by status."""

    shas: tuple[str, ...]
    names: tuple[str, ...]
    counts: Mapping[str, int]


def to_decode(files: Sequence[PhotoEntry]) -> list[tuple[str, str]]:
    """(sha256, name) of every content worth decoding, sorted; of equal files the first name stands."""
    first: dict[str, str] = {}
    for file in sorted(files, key=lambda each: each.name):
        if file.status == "ok":
            first.setdefault(file.sha256, file.name)
    return sorted(first.items())


def pictures(
    files: Sequence[PhotoEntry], outcomes: Mapping[str, Outcome], folders: Sequence[Path]
) -> list[Picture]:
    """The accepted photographs, each content once, as they are compared. folders: of working copies."""
    sizes = {file.sha256: file.size for file in files}
    working = {path.stem: path for folder in folders for path in folder.glob("*.jpg")}
    found = []
    for sha, _ in to_decode(files):
        outcome = outcomes.get(sha)
        if outcome is not None and outcome.status == "ok":
            found.append(Picture(sha, working[sha], *outcome.upright, sizes[sha]))
    return found


def build_catalogue(
    files: Sequence[PhotoEntry],
    folders: Sequence[Path],
    original: Callable[[str], Path],
    out: Path,
    *,
    inputs: Sequence[str] = (),
) -> Catalogue:
    """Look for the same picture in several files, then `make_catalogue`.

    folders: of the working copies; original: name of a photograph -> its file.
    """
    outcomes, names = read_outcomes(folders), dict(to_decode(files))
    shown = pictures(files, outcomes, folders)
    copies = same_pictures.copies(shown, lambda sha: original(names[sha]))
    return make_catalogue(files, outcomes, out, copies=copies, inputs=inputs)


def make_catalogue(
    files: Sequence[PhotoEntry],
    outcomes: Mapping[str, Outcome],
    out: Path,
    *,
    copies: Mapping[str, str] | None = None,
    inputs: Sequence[str] = (),
) -> Catalogue:
    """Join the scan with the outcomes of the working copies (sha256 -> outcome) and write `out` (schema
    catalogue). copies: sha256 -> sha256 of the same picture, see `same_pictures`.

    Of equal photographs the first by name stays, the others become `duplicate`. Raises MissingOutcome.
    """
    ordered = sorted(files, key=lambda each: each.name)
    stands: dict[str, int] = {}
    for index, file in enumerate(ordered):
        stands.setdefault(file.sha256, index)
    rows = [_row(file, outcomes) for file in ordered]
    for index, row in enumerate(rows):
        if row["status"] == "ok":
            own = row["sha256"]
            _mark_copy(row, index, stands[(copies or {}).get(own, own)], rows)
    arrays: dict[str, Any] = {f"photos/{key}": [row[key] for row in rows] for key in _COLUMNS}
    if np.isnan(arrays["photos/latitude_deg"]).all():  # most collections have no position at all
        arrays = {path: column for path, column in arrays.items() if path not in _POSITION_PATHS}
    hdf5.write(out, "catalogue", arrays, stage=STAGE.name, options={}, inputs=inputs)
    catalogue = _summary(arrays)
    logger.info("catalogue of %d files: %s", len(rows), dict(catalogue.counts))
    return catalogue


def read_catalogue(path: Path) -> Catalogue:
    """The usable photographs of a catalogue file."""
    return _summary(hdf5.read(path, "catalogue", ["photos/sha256", "photos/name", "photos/status"]))


def read_names(path: Path, *, same_bytes: bool = False) -> dict[str, str]:
    """Every file of a catalogue -> sha256 of the photograph that it is, that of the original for a duplicate;
    "" where it cannot be used, with `same_bytes` also where it is a copy with other bytes."""
    keys = ("name", "sha256", "status", "alias_of")
    columns = hdf5.read(path, "catalogue", [f"photos/{key}" for key in keys])
    names, shas, status, alias = (columns[f"photos/{key}"].tolist() for key in keys)
    found: dict[str, str] = {}
    for name, sha, state, original in zip(names, shas, status, alias, strict=True):
        stands = shas[original] if original >= 0 else sha
        usable = state in ("ok", "duplicate") and not (same_bytes and stands != sha)
        found[str(name)] = str(stands) if usable else ""
    return found


def read_unusable(path: Path) -> dict[str, str]:
    """Every file of a catalogue that cannot be used -> its status and the reason."""
    columns = hdf5.read(path, "catalogue", ["photos/name", "photos/status", "photos/reason"])
    rows = zip(*(columns[f"photos/{key}"].tolist() for key in ("name", "status", "reason")), strict=True)
    return {str(name): f"{status}: {why}" for name, status, why in rows if status not in ("ok", "duplicate")}


def read_positions(path: Path) -> NDArray[np.float64]:
    """GPS positions of the N usable photographs by sorted sha256: [N, 3] latitude and longitude in degrees,
    altitude in m; nan = unknown."""
    with hdf5.open_artifact(path, "catalogue") as artifact:
        shas, status = artifact["photos/sha256"], artifact["photos/status"]
        there = set(artifact.paths())
        absent = np.full(len(shas), np.nan)
        columns = [artifact[path] if path in there else absent for path in _POSITION_PATHS]
    good = np.flatnonzero(status == "ok")
    return np.stack(columns, axis=1)[good[np.argsort(shas[good])]].astype(np.float64)


_POSITION = ("latitude_deg", "longitude_deg", "altitude_m")
_POSITION_PATHS = tuple(f"photos/{key}" for key in _POSITION)
_INTEGERS = ("width", "height", "orientation", "working_width", "working_height", "alias_of")
_COLUMNS = ("name", "sha256", "status", "reason", "focal_prior_px", *_POSITION, *_INTEGERS)


def _row(file: PhotoEntry, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    if file.status != "ok":
        outcome = Outcome(file.status, file.reason)  # type: ignore[arg-type]
    elif file.sha256 in outcomes:
        outcome = outcomes[file.sha256]
    else:
        raise MissingOutcome(
            f"{file.name!r}: no working copy was tried ({file.sha256[:12]}); decode it first"
        )
    return {
        "name": file.name,
        "sha256": file.sha256,
        "status": outcome.status,
        "reason": outcome.reason,
        "alias_of": -1,
        "focal_prior_px": outcome.focal_prior_px or math.nan,
        **{key: math.nan if getattr(outcome, key) is None else getattr(outcome, key) for key in _POSITION},
        **{key: getattr(outcome, key) for key in _INTEGERS if key != "alias_of"},
    }


def _mark_copy(row: dict[str, Any], index: int, original: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make a photograph for which another one stands its duplicate."""
    if original == index:
        return
    other = rows[original]
    reason = "the same bytes as an earlier file"
    if other["sha256"] != row["sha256"]:
        sizes = [sorted((each["width"], each["height"])) for each in (row, other)]
        how = "written another time" if sizes[0] == sizes[1] else "at another size"
        reason = f"the same picture as {other['name']!r}, {how}"
    row |= {"status": "duplicate", "reason": reason, "alias_of": original}


def _summary(arrays: Mapping[str, Sequence[Any] | NDArray[Any]]) -> Catalogue:
    status, names, shas = (
        [str(each) for each in arrays[f"photos/{key}"]] for key in ("status", "name", "sha256")
    )
    good = sorted((sha, name) for sha, name, state in zip(shas, names, status, strict=True) if state == "ok")
    return Catalogue(
        tuple(sha for sha, _ in good), tuple(name for _, name in good), dict(sorted(Counter(status).items()))
    )
