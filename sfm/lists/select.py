"""Selection from a list that somebody brings: positions or identities (.csv), the reference's training list
(.pkl), another store's training set (.h5).

The photographs of the list are found among those of a folder; nothing is matched or mapped.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from sfm.lists import identities, positions
from sfm.lists.identities import Identities, IdentityOptions
from sfm.lists.photographs import Listed, check_readable, find_photographs
from sfm.lists.position_tables import COLUMNS, Positions, read_positions
from sfm.lists.positions import PositionOptions
from sfm.training_set import cirtorch as exchange
from sfm.training_set import known_truth
from sfm.training_set.cirtorch import CirtorchOptions
from sfm.training_set.cirtorch_file import CirtorchList, read_cirtorch
from sfm.training_set.duplicates import first_with, twin_error
from sfm.training_set.known_truth import NothingToTrainOn
from sfm.training_set.splits import TRAIN
from sfm.training_set.training_set import TrainingSet
from storage.keys.options import ContentPath, Options
from storage.keys.stages import Stage
from storage.outside.tables import Columns, read_header
from storage.photographs.tables import PhotoEntry

Kind = Literal["positions", "identities", "cirtorch", "training_set"]
Content = Positions | Identities | CirtorchList | TrainingSet
STAGE = Stage(
    name="listed_set",
    version=1,
    schema_name="training_set",
    suffix=".h5",
    packages=("numpy", "scipy", "h5py", "pillow", "pillow-heif"),
    code=__name__,
)
IMAGE_TREE = "ims"
"""Folder of the reference's image tree; PHOTOS is this folder or the one above it."""
_SUFFIXES: dict[str, Kind] = {".pkl": "cirtorch", ".h5": "training_set", ".hdf5": "training_set"}
_log = logging.getLogger(__name__)


class UnknownList(ValueError):
    """A file that is none of the lists that are read here."""


class ListOptions(Options):
    """A list, and how it is read: the section of its kind alone, so that the others change nothing."""

    list: ContentPath = Field(description="the list: .csv, .pkl or training_set.h5")
    positions: PositionOptions | None = Field(None, description="what is the same place")
    identities: IdentityOptions | None = Field(None, description="which photographs are positives")
    cirtorch: CirtorchOptions | None = Field(None, description="what is set aside to measure on")


@dataclass(frozen=True, eq=False)
class GivenList:
    """A list as its file says it, and the photographs that it names."""

    kind: Kind
    content: Content
    listed: Listed


def kind_of(path: Path) -> Kind:
    """What a file lists, by its ending, a csv by its columns. Raises UnknownList, BadText."""
    if not path.is_file():
        raise UnknownList(f"{str(path)!r} is no file; give a list of photographs: {_EXPECTED}")
    suffix = path.suffix.lower()
    if suffix != ".csv":
        if suffix not in _SUFFIXES:
            raise UnknownList(f"{str(path)!r} is no list that is read here; give {_EXPECTED}")
        return _SUFFIXES[suffix]
    tables: dict[Kind, Columns] = {"positions": COLUMNS, "identities": identities.COLUMNS}
    header = read_header(path, Columns([each for table in tables.values() for each in table.layouts]))
    kinds = [kind for kind, table in tables.items() if table.own() & set(header)]
    if len(kinds) != 1:
        what = "of positions and of identities at once" if kinds else "of neither positions nor identities"
        raise UnknownList(f"{path}, line 1: the columns {','.join(header)!r} are {what}; give {_COLUMNS}")
    return kinds[0]


def read_list(path: Path) -> GivenList:
    """A list, checked as far as that is possible without its photographs.

    Raises UnknownList, BadText, BadTrainingList, and what storage raises for a broken training_set.h5.
    """
    match kind := kind_of(path):
        case "positions":
            places = read_positions(path)
            return GivenList(kind, places, _of_rows(places))
        case "identities":
            labels = identities.read_labels(path)
            return GivenList(kind, labels, _of_rows(labels))
        case "cirtorch":
            listed = read_cirtorch(path)
            return GivenList(kind, listed, _of_images(listed.names, listed.sha256))
        case "training_set":
            chosen = TrainingSet.from_outside(path)
            names, digests = chosen.images.name.tolist(), chosen.images.sha256.astype(str).tolist()
            known = ["" if _of_name(*pair) else pair[1] for pair in zip(names, digests, strict=True)]
            return GivenList(kind, chosen, _of_images(names, known))


def listed_digests(path: Path, files: Sequence[PhotoEntry]) -> list[str]:
    """sha256 (the name where it was not read) of the different photographs that a list uses, sorted.

    Raises what read_list and find_photographs raise.
    """
    given = read_list(path)
    return sorted({file.sha256 or file.name for file in find_photographs(given.listed, files, str(path))})


def select_from_list(
    options: ListOptions, files: Sequence[PhotoEntry], path_of: Callable[[str], Path]
) -> TrainingSet:
    """The training set of a list whose photographs are in a folder: `images` are those of the folder.

    files: of the folder's scan; path_of: name -> file, which is decoded once. Raises UnusablePhotographs,
    Contradiction, NothingToTrainOn and what reading raises.
    """
    path = Path(options.list)
    given = read_list(path)
    found = find_photographs(given.listed, files, path.name)
    check_readable(given.listed, found, path.name, path_of)
    names, digests = [file.name for file in found], [file.sha256 for file in found]
    match given.content:
        case Positions() as rows:
            chosen = positions.from_rows(replace(rows, names=names), digests, options.positions)
        case Identities() as labels:
            chosen = identities.from_rows(replace(labels, names=names), digests, options.identities)
        case CirtorchList() as listed:
            held = options.cirtorch or CirtorchOptions()
            chosen = exchange.training_set_of(TrainingSet, listed, names, digests, held)
            if held.test_fraction:
                share = f"{held.test_fraction:.0%} of the clusters of the list's train are set aside as test"
                chosen = known_truth.noted(chosen, [f"{share} (selection.cirtorch.test_fraction)"])
        case TrainingSet() as other:
            chosen = _renamed(other, names, digests, given.listed)
    _require_queries(chosen)
    chosen = known_truth.noted(chosen, [], list=given.kind)
    _log.info("%d photographs of a list, %s", len(found), chosen.summary.get("queries", {}))
    return chosen


def _of_rows(rows: Positions | Identities) -> Listed:
    return Listed(rows.names, [""] * len(rows.names), rows.where)


def _of_images(names: Sequence[str], digests: Sequence[str]) -> Listed:
    return Listed(names, digests, [""] * len(names), ("", f"{IMAGE_TREE}/"))


def _of_name(name: str, digest: str) -> bool:
    """Whether a digest is only one of the name: the content was not known when the list was made."""
    return digest in (hashlib.sha256(each.encode()).hexdigest() for each in (name, name.rsplit("/", 1)[-1]))


def _renamed(
    chosen: TrainingSet, names: Sequence[str], digests: Sequence[str], listed: Listed
) -> TrainingSet:
    """The training set with the folder's photographs as its images."""
    first = first_with(digests)
    twins = np.flatnonzero(first != np.arange(first.size)).tolist()
    if twins:
        where = [f"image {row}" for row in range(len(names))]
        raise twin_error(listed.names, where, int(first[twins[0]]), twins[0], "as two images")
    images = replace(chosen.images, name=np.array(names, dtype=object), sha256=np.array(digests, dtype="S64"))
    return replace(chosen, images=images)


def _require_queries(chosen: TrainingSet) -> None:
    if not np.any(chosen.queries.split == TRAIN):
        count = int((chosen.images.split == TRAIN).sum())
        raise NothingToTrainOn(
            f"none of the {count} photographs of train has a positive in the list; give one with more"
        )


_COLUMNS = (
    "name,easting,northing[,heading] or name,latitude,longitude[,heading] (positions), or "
    "name,identity[,camera] (identities), parted by commas, semicolons or tabs"
)
_EXPECTED = f"a .csv ({_COLUMNS}), a .pkl of the reference (cirtorch), or another store's training_set.h5"
