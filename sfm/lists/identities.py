"""Re-identification and products: a training set from who or what each photograph shows.

Cluster = identity. Positive: the same identity, if asked from another camera only. Everything of another
identity is a negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.lists.tables import photo_digests
from sfm.training_set import known_truth, splits
from sfm.training_set.duplicates import first_with, twin_error, twin_notes
from sfm.training_set.training_set import TrainingSet
from storage.keys.options import Options
from storage.outside.tables import Columns, read_table
from storage.outside.text import BadText
from storage.schemas.training_set import Images

COLUMNS = Columns(((("name", "identity"), ("camera",)),), key="name")


class BadIdentities(ValueError):
    """Identities or cameras that do not fit the photographs."""


class IdentityOptions(Options):
    """Which photographs of an identity are positives, and how identities are held back."""

    other_camera: bool = Field(
        False,
        description="positives come from another camera; those of the same one are neither, as in re-id",
    )
    val_fraction: float = Field(0.10, ge=0, lt=1, description="share of the identities that choose epochs")
    test_fraction: float = Field(0.20, ge=0, lt=1, description="share of the identities that only measure")
    seed: int = Field(0, ge=0, description="draws which identities are train, val and test")


@dataclass(frozen=True, eq=False)
class Identities:
    """What a csv file says: names, identities, cameras (None = no such column) [N]; where: for errors."""

    names: list[str]
    identities: list[str]
    cameras: list[str] | None
    where: list[str]


def read_labels(path: Path | str) -> Identities:
    """Read a csv file with the columns name,identity[,camera]. Raises BadText with the line."""
    table = read_table(path, COLUMNS)
    for column in ("identity", "camera"):
        for row, text in enumerate(table.columns.get(column, [])):
            if not text:
                raise BadText(f"{table.where(row)}: {column} is empty; one that occurs nowhere else will do")
    where = [table.where(row) for row in range(len(table.line))]
    return Identities(table.columns["name"], table.columns["identity"], table.columns.get("camera"), where)


def from_labels(
    names: Sequence[str],
    identities: Sequence[Any],
    cameras: Sequence[Any] | None = None,
    options: IdentityOptions | None = None,
    *,
    sha256: Any = None,
) -> TrainingSet:
    """A training set from identities: texts or numbers [N], compared as text.

    names: [N] paths below the root of the photographs; cameras: [N], needed for `other_camera`; sha256: [N]
    of the files, None = of the names. Positives are in the order of the list. A photograph that is alone with
    its identity is a negative of all others. Splits are drawn by identity. Raises BadIdentities, BadEntry,
    NothingToTrainOn.
    """
    options, names = options or IdentityOptions(), [str(name) for name in names]
    cluster = _numbered(identities, names, "identities")
    camera = None if cameras is None else _numbered(cameras, names, "cameras")
    if options.other_camera and camera is None:
        raise BadIdentities("other_camera needs to know the cameras; add a column camera, or leave it out")
    digests = known_truth.digests_of(names, sha256)
    first, second = _pairs_within(cluster)
    positive = np.ones(first.size, dtype=bool)
    if options.other_camera and camera is not None:
        positive = camera[first] != camera[second]
    split = splits.split_clusters(
        cluster,
        digests,
        options.seed,
        has_model=np.isin(np.arange(cluster.max(initial=-1) + 1), cluster[first[positive]]),
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
    )[cluster]
    count = len(names)
    none = np.full(count, -1, dtype=np.int64)
    images = Images(np.array(names, dtype=object), digests, cluster, none, split, none >= 0)
    rows = [known_truth.grouped(first[at], second[at], count) for at in (positive, ~positive)]
    nothing = known_truth.grouped(first[:0], second[:0], count)
    return known_truth.assemble(TrainingSet, images, rows[0], nothing, rows[1], {"source": "identities"})


def from_csv(
    path: Path | str, photo_root: Path | str | None = None, options: IdentityOptions | None = None
) -> TrainingSet:
    """`from_labels` of a csv file; with photo_root the photographs are there and their bytes digested.

    Raises BadText with the line, and what from_labels and from_rows raise.
    """
    rows = read_labels(path)
    if photo_root is None:
        return from_labels(rows.names, rows.identities, rows.cameras, options)
    return from_rows(rows, photo_digests(rows.names, photo_root, rows.where), options)


def from_rows(rows: Identities, sha256: Sequence[str], options: IdentityOptions | None = None) -> TrainingSet:
    """`from_labels` of the rows of a file whose photographs' digests [N] are known.

    Rows that are one photograph become one, the first. Raises Contradiction where they give it two identities
    or two cameras.
    """
    first = first_with(sha256)
    columns = {"identities": rows.identities, **({"cameras": rows.cameras} if rows.cameras else {})}
    for row in np.flatnonzero(first != np.arange(first.size)).tolist():
        for what, values in columns.items():
            one, other = values[int(first[row])], values[row]
            if one != other:
                why = f"of the {what} {one!r} and {other!r}"
                raise twin_error(rows.names, rows.where, int(first[row]), row, why)
    kept = np.flatnonzero(first == np.arange(first.size)).tolist()
    names, identities, digests = (
        [column[row] for row in kept] for column in (rows.names, rows.identities, sha256)
    )
    cameras = None if rows.cameras is None else [rows.cameras[row] for row in kept]
    chosen = from_labels(names, identities, cameras, options, sha256=digests)
    return known_truth.noted(chosen, twin_notes(rows.names, first))


def _numbered(values: Sequence[Any], names: Sequence[str], what: str) -> NDArray[np.int64]:
    """[N] texts as numbers, in the order in which they first come."""
    if len(values) != len(names):
        raise BadIdentities(f"{len(values)} {what} for {len(names)} names; give one for each")
    known: dict[str, int] = {}
    return np.array([known.setdefault(str(value), len(known)) for value in values], dtype=np.int64)


def _pairs_within(cluster: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ordered pairs of different photographs of one cluster, by first, then second."""
    order = np.argsort(cluster, kind="stable")
    sizes = np.bincount(cluster)
    size = sizes[cluster]
    starts = (np.cumsum(sizes) - sizes)[cluster]
    first = np.repeat(np.arange(cluster.size), size)
    within = np.arange(first.size) - np.repeat(np.cumsum(size) - size, size)
    second = order[starts[first] + within]
    other = first != second
    return first[other], second[other]
