"""Pitts30k, Tokyo 24/7 and any place-recognition set with UTM coordinates, as they lie on disk.

In the folder, the first of these that is there:
- `queries.csv` and `database.csv` with the columns image, easting, northing (metres);
- `NAME*.mat`, the official dbStruct (dbImageFns, utmDb, qImageFns, utmQ, posDistThr);
- `NAME*.npz` (utmDb, utmQ, posDistThr) with lists of images: `NAME*dbImages.npy` and `NAME*qImages.npy`, or
  `NAME*index.txt` and `NAME*query.txt`;
- `database/` and `queries/` (also in `images/test/` or `test/`) with names `@easting@northing@...`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.places import (
    evaluate_places,
    one_per_group,
    positives_within,
    read_npz_utm,
    utm_from_names,
)
from retrieval.official.readers import files
from retrieval.official.readers.common import Benchmark, Ids, ProtocolOptions, Ranking, Score, named_by_files
from storage.outside.guarded import read_outside
from storage.outside.names import Names, form
from storage.outside.numbers import ANY
from storage.outside.numpy_files import DAMAGED
from storage.outside.tables import Columns, read_table
from storage.outside.text import BadText
from storage.pictures.coordinates import has_fix_m

COLUMNS = Columns(((("image", "easting", "northing"), ()),), {"easting": ANY, "northing": ANY}, others=True)
logger = logging.getLogger(__name__)
NS = (1, 5, 10, 20)
CUTOUTS = 12
RADIUS_M = 25.0
_PREFIXES = (
    "",
    "images/",
    "database/",
    "queries/",
    "query/",
    "queries_real/",
    "247query_v3/",
    "images/test/",
)


@dataclass(frozen=True)
class _Places:
    """Images (files below the root) and UTM [N, 2] of both sides; the radius in the file, if any."""

    queries: list[str]
    query_utm: NDArray[np.float64]
    database: list[str]
    database_utm: NDArray[np.float64]
    radius_m: float | None = None


def read_places(name: str, data: Path, options: ProtocolOptions, images: bool) -> Benchmark:
    """A set with UTM; positives lie within the radius, included: that of the options, its file's, or 25 m.

    images: whether they have to be there beside lists of them. Raises MissingBenchmarkFile,
    InvalidBenchmarkFile, InvalidPlaces.
    """
    root = data / name if not _has_any(data) and (data / name).is_dir() else data
    if not root.is_dir():
        raise files.MissingBenchmarkFile(f"'{data}' is no folder; give the folder of {name} as --data")
    found, notes = _with_fix(_read(name, root, images))
    radius = options.radius_m or found.radius_m or RADIUS_M
    positives = tuple(positives_within(found.query_utm, found.database_utm, radius))
    groups = _panoramas(found.database_utm) if name == "tokyo247" else None

    def score(ranking: Ranking) -> Score:
        lists = {"": ranking.ranks}
        if groups is not None:
            lists = {"per cutout": ranking.ranks, "one per panorama": one_per_group(ranking.ranks, groups)}
        measured = Score()
        for protocol, ranks in lists.items():
            recall = evaluate_places(ranks, positives, NS)
            values = {f"recall@{n}": value for n, value in recall.recall_at.items()}
            first = np.divide(1.0, recall.found_at, out=np.zeros(len(ranks)), where=recall.found_at > 0)
            per_query = {f"1 over place of the first positive {protocol}".strip(): first}
            measured.add(protocol, values, recall.num_queries, per_query)
        return measured

    largest = 1 if groups is None else int(np.bincount(groups).max())
    return Benchmark(
        name=name,
        root=root,
        **named_by_files(found.queries, found.database),
        positives=positives,
        score=score,
        depth=max(NS) * largest,
        notes=(f"radius {radius:g} m", *notes),
        facts=None if groups is None else groups.tolist(),
    )


def _with_fix(found: _Places) -> tuple[_Places, list[str]]:
    """Without images that have no position (0, 0 where all others are far away), and what is to be said."""
    fixed = has_fix_m(np.concatenate([found.query_utm, found.database_utm]))
    if fixed.all():
        return found, []
    asked, kept = np.split(fixed, [len(found.queries)])
    lost = f"{(~asked).sum()} queries and {(~kept).sum()} database images"
    note = f"{lost} without a position (0, 0) left out"
    logger.warning(note)
    queries, database = list(compress(found.queries, asked)), list(compress(found.database, kept))
    utm = found.query_utm[asked], found.database_utm[kept]
    return _Places(queries, utm[0], database, utm[1], found.radius_m), [note]


def _has_any(folder: Path) -> bool:
    return folder.is_dir() and any(
        next(folder.glob(pattern), None) is not None
        for pattern in ("*.csv", "*.mat", "*.npz", "database", "images/test/database", "test/database")
    )


def _read(name: str, root: Path, images: bool) -> _Places:
    if (root / "queries.csv").is_file() or (root / "database.csv").is_file():
        queries, database = _read_csv(root, "queries.csv", images), _read_csv(root, "database.csv", images)
        return _Places(*queries, *database)
    for folder in (root, root / "datasets"):
        for path in sorted(folder.glob(f"{name}*.mat")):
            return _read_mat(root, path, images)
        for path in sorted(folder.glob(f"{name}*.npz")):
            return _read_npz(name, root, path, images)
    for below in ("", "images/test/", "test/"):
        if (root / below / "database").is_dir() and (root / below / "queries").is_dir():
            return _read_names(root, below)
    raise files.MissingBenchmarkFile(
        f"{name}: '{root}' has none of queries.csv + database.csv, {name}*.mat, {name}*.npz, "
        "database/ + queries/ with @easting@northing@ names; put one there (nothing is downloaded)"
    )


def _read_csv(root: Path, file: str, images: bool) -> tuple[list[str], NDArray[np.float64]]:
    if not (root / file).is_file():
        raise files.MissingBenchmarkFile(
            f"'{root / file}' is missing; expected columns image, easting, northing"
        )
    try:
        table = read_table(root / file, COLUMNS)
        utm = np.stack([table.numbers(column) for column in ("easting", "northing")], axis=1)
    except BadText as error:
        raise files.InvalidBenchmarkFile(
            f"{error} (a header image,easting,northing and numbers in metres are expected)"
        ) from error
    return _files(root, table.columns["image"], images), utm


_MAT_S = 30.0  # of processor time


def _read_mat(root: Path, path: Path, images: bool) -> _Places:
    try:
        field = read_outside("retrieval.official.readers.place:fields_of_mat", path, step_s=_MAT_S)
        database, queries = (np.atleast_1d(field[name]).tolist() for name in ("dbImageFns", "qImageFns"))
        utm = [np.asarray(field[name], np.float64).reshape(2, -1).T for name in ("utmQ", "utmDb")]
        radius = float(field["posDistThr"])
    except Exception as error:  # scipy raises what it likes on damaged files
        raise files.InvalidBenchmarkFile(f"'{path}' is not an official dbStruct: {error!r}") from error
    queries, database = _files(root, queries, images), _files(root, database, images)
    return _checked(_Places(queries, utm[0], database, utm[1], radius), path)


def fields_of_mat(path: Path) -> dict[str, Any]:
    """The fields of an official dbStruct, in a process of its own."""
    from scipy.io import loadmat

    struct = loadmat(str(path), squeeze_me=True)["dbStruct"]
    return {name: struct[name].item() for name in struct.dtype.names}


def _read_npz(name: str, root: Path, path: Path, images: bool) -> _Places:
    query_utm, database_utm, radius = read_npz_utm(path)
    queries = _list(name, path.parent, ("*qImages.npy", "*query.txt"))
    database = _list(name, path.parent, ("*dbImages.npy", "*index.txt"))
    queries, database = _files(root, queries, images), _files(root, database, images)
    return _checked(_Places(queries, query_utm, database, database_utm, radius), path)


def _list(name: str, folder: Path, patterns: Sequence[str]) -> list[str]:
    for pattern in patterns:
        for path in sorted(folder.glob(f"{name}{pattern}")):
            if path.suffix == ".npy":
                return _names_of_npy(path)
            return [line for _, line in files.listed_lines(path)]
    wanted = " or ".join(f"{name}{pattern}" for pattern in patterns)
    raise files.MissingBenchmarkFile(f"no {wanted} in '{folder}'; expected the list of images beside the npz")


def _names_of_npy(path: Path) -> list[str]:
    try:
        return [str(each) for each in np.load(path, mmap_mode="r", allow_pickle=False).ravel()]
    except (*DAMAGED, ValueError, OSError, EOFError) as error:
        raise files.InvalidBenchmarkFile(f"'{path}' is no list of image names: {error}") from error


def _read_names(root: Path, below: str) -> _Places:
    def side(folder: str) -> list[str]:
        found = sorted((root / below / folder).rglob("@*@*"))
        if not found:
            raise files.MissingBenchmarkFile(
                f"no @easting@northing@ images in '{root / below / folder}'; expected them there"
            )
        return [path.relative_to(root).as_posix() for path in found]

    queries, database = side("queries"), side("database")
    return _Places(queries, utm_from_names(queries), database, utm_from_names(database))


def _checked(found: _Places, path: Path) -> _Places:
    named, placed = (len(found.queries), len(found.database)), (len(found.query_utm), len(found.database_utm))
    if named != placed:
        raise files.InvalidBenchmarkFile(
            f"'{path}' has coordinates of {placed[0]} queries and {placed[1]} database images, "
            f"the lists name {named[0]} and {named[1]}; take files of one and the same set"
        )
    return found


def _files(root: Path, names: Sequence[str], images: bool) -> list[str]:
    """The file below the root of each listed name: lists carry folders of their authors, and .jpg for .png.

    What turns the first name into a file is tried on all. Raises MissingBenchmarkFile.
    """
    if not names:
        raise files.InvalidBenchmarkFile(f"'{root}': a list of images is empty")
    if not images:
        return [name.removeprefix("./") for name in names]
    if move := _move(names[0], lambda file: (root / file).is_file()):
        return files.resolved(root, [_moved(name, *move) for name in names])
    forms = [form(name) for name in names]
    if move := _move(forms[0], Names(files.image_files(root)).means):
        return files.resolved(root, [_moved(name, *move) for name in forms])
    raise files.MissingBenchmarkFile(
        f"'{root / names[0].removeprefix('./')}' is missing, and it lies in no folder of '{root}' where such "
        f"sets have it; {len(names)} images are listed"
    )


def _move(name: str, is_there: Callable[[str], bool]) -> tuple[int, str, str] | None:
    """How a listed name becomes a file, see `_moved`: folders to drop, prefix, ending; None: in no way."""
    for drop in range(len(name.removeprefix("./").split("/"))):
        for prefix in _PREFIXES:
            for suffix in ("", ".png", ".jpg"):
                if is_there(_moved(name, drop, prefix, suffix)):
                    return drop, prefix, suffix
    return None


def _moved(name: str, drop: int, prefix: str, suffix: str) -> str:
    file = prefix + "/".join(name.removeprefix("./").split("/")[drop:])
    return file.rpartition(".")[0] + suffix if suffix else file


def _panoramas(utm: NDArray[np.float64]) -> Ids:
    """[N] panorama of each cutout: 12 in a row, or those of one position where they are not in that order."""
    in_rows = len(utm) % CUTOUTS == 0 and bool(
        (utm.reshape(-1, CUTOUTS, 2) == utm.reshape(-1, CUTOUTS, 2)[:, :1]).all()
    )
    if in_rows:
        return np.arange(len(utm), dtype=np.int64) // CUTOUTS
    return np.asarray(np.unique(utm, axis=0, return_inverse=True)[1], dtype=np.int64).ravel()


PLACE = 2
READS = dict.fromkeys(("pitts30k", "tokyo247", "places"), read_places)
