"""The catalogue: every image file that the scan found, and what became of it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sfm.outcomes import Outcome
from storage import hdf5
from storage.options import Options
from storage.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="catalogue",
    version=1,
    schema_name="catalogue",
    suffix=".h5",
    packages=("numpy", "h5py"),
    modules=("sfm.catalogue", "sfm.outcomes"),
)


class CatalogueOptions(Options):
    """The catalogue has no options of its own; those of the working copies decide."""


class ScannedFile(Protocol):
    """One file of `storage.photographs.ScanTable`: sha256 is "" where the scan did not read it."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str: ...


class MissingOutcome(ValueError):
    """A scanned photograph of which no working copy was tried."""


@dataclass(frozen=True)
class Catalogue:
    """The usable photographs sorted by sha256, the name that stands for each, and files by status."""

    shas: tuple[str, ...]
    names: tuple[str, ...]
    counts: Mapping[str, int]


def to_decode(files: Sequence[ScannedFile]) -> list[tuple[str, str]]:
    """(sha256, name) of every content worth decoding, sorted; of equal files the first name stands."""
    first: dict[str, str] = {}
    for file in sorted(files, key=lambda each: each.name):
        if file.status == "ok":
            first.setdefault(file.sha256, file.name)
    return sorted(first.items())


def make_catalogue(
    files: Sequence[ScannedFile], outcomes: Mapping[str, Outcome], out: Path, *, inputs: Sequence[str] = ()
) -> Catalogue:
    """Join the scan with the outcomes of the working copies (sha256 -> outcome) and write `out` (schema
    catalogue).

    Of equal photographs the first by name stays, the others become `duplicate`. Raises MissingOutcome.
    """
    ordered = sorted(files, key=lambda each: each.name)
    stands: dict[str, int] = {}
    rows = [_row(file, index, outcomes, stands) for index, file in enumerate(ordered)]
    arrays: dict[str, Any] = {f"photos/{key}": [row[key] for row in rows] for key in _COLUMNS}
    for key in ("focal_prior_px", *_POSITION):
        arrays[f"photos/{key}"] = np.array(arrays[f"photos/{key}"], np.float64)
    if np.isnan(arrays["photos/latitude_deg"]).all():  # most collections have no position at all
        arrays = {path: column for path, column in arrays.items() if path not in _POSITION_PATHS}
    for key in _INTEGERS:
        arrays[f"photos/{key}"] = np.array(arrays[f"photos/{key}"], np.int64)
    hdf5.write(out, "catalogue", arrays, stage=STAGE.name, options={}, inputs=inputs)
    catalogue = _summary(arrays)
    logger.info("catalogue of %d files: %s", len(rows), dict(catalogue.counts))
    return catalogue


def read_catalogue(path: Path) -> Catalogue:
    """The usable photographs of a catalogue file."""
    return _summary(hdf5.read(path, "catalogue", ["photos/sha256", "photos/name", "photos/status"]))


def read_names(path: Path) -> dict[str, str]:
    """Every file of a catalogue -> sha256 of the photograph that it is, that of the original for a duplicate;
    "" where it cannot be used."""
    columns = hdf5.read(path, "catalogue", ["photos/name", "photos/sha256", "photos/status"])
    rows = zip(*(columns[f"photos/{key}"].tolist() for key in ("name", "sha256", "status")), strict=True)
    return {str(name): str(sha) if status in ("ok", "duplicate") else "" for name, sha, status in rows}


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


def _row(
    file: ScannedFile, index: int, outcomes: Mapping[str, Outcome], stands: dict[str, int]
) -> dict[str, Any]:
    if file.status != "ok":
        outcome = Outcome(file.status, file.reason)  # type: ignore[arg-type]
    elif file.sha256 in outcomes:
        outcome = outcomes[file.sha256]
    else:
        raise MissingOutcome(
            f"{file.name!r}: no working copy was tried ({file.sha256[:12]}); decode it first"
        )
    original = stands.setdefault(file.sha256, index) if outcome.status == "ok" else index
    is_copy = original != index
    return {
        "name": file.name,
        "sha256": file.sha256,
        "status": "duplicate" if is_copy else outcome.status,
        "reason": "the same bytes as an earlier file" if is_copy else outcome.reason,
        "alias_of": original if is_copy else -1,
        "focal_prior_px": outcome.focal_prior_px or math.nan,
        **{key: math.nan if getattr(outcome, key) is None else getattr(outcome, key) for key in _POSITION},
        **{key: getattr(outcome, key) for key in _INTEGERS if key != "alias_of"},
    }


def _summary(arrays: Mapping[str, Sequence[Any] | NDArray[Any]]) -> Catalogue:
    status, names, shas = (
        [str(each) for each in arrays[f"photos/{key}"]] for key in ("status", "name", "sha256")
    )
    good = sorted((sha, name) for sha, name, state in zip(shas, names, status, strict=True) if state == "ok")
    return Catalogue(
        tuple(sha for sha, _ in good), tuple(name for _, name in good), dict(sorted(Counter(status).items()))
    )
