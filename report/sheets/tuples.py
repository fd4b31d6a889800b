"""A contact sheet of training tuples: what a query, its positives and its hardest negatives look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from report.sheets.contact_sheet import BLACK, GREEN, RED, ContactSheet
from retrieval.learning.mining import hard_negatives
from retrieval.training.positives import positive_choices
from retrieval.training.tuples import TRAIN, forbidden, negative_pool, negative_supply

Indices = NDArray[np.int64]
Load = Callable[[int], NDArray[np.uint8]]
SHOWN_POSITIVES, SHOWN_NEGATIVES = 3, 5
_COLOURS = {"query": BLACK, "negative": RED} | dict.fromkeys(("positive", "m1", "m2", "m3"), GREEN)


class NothingToShow(ValueError):
    """A training set without a query to show."""


@dataclass(frozen=True)
class Tile:
    """One photograph of a sheet: the column that it stands in, its image, what is known of it."""

    column: str
    image: int
    caption: str


def tuple_rows(
    arrays: Mapping[str, Any], descriptors: NDArray[np.float32] | None = None, count: int = 12
) -> list[list[Tile]]:
    """One row of tiles per query of train: query, m1's pool, m2, m3, hardest negatives.

    arrays: training_set.h5 by path; descriptors: [N, D] L2-normalised of its images: m1's pool is then the
    nearest first, and the negatives are those that mining would choose from the whole split, at most one of
    a cluster; None = the nearest cameras first, no negatives. The queries are of as many clusters as there
    are, evenly spaced. Raises NothingToShow.
    """
    rows = _spread(arrays, count)
    queries = np.asarray(arrays["queries/image"], dtype=np.int64)[rows]
    columns = {name: positive_choices(arrays, rows, name) for name in ("m1", "m2", "m3")}
    if descriptors is not None:
        pools = zip(columns["m1"], queries, strict=True)
        columns["m1"] = [
            pool[np.argsort(-(descriptors[pool] @ descriptors[query]), kind="stable")]
            for pool, query in pools
        ]
    negatives = _negatives(arrays, queries, descriptors)
    found = []
    for place, (row, query) in enumerate(zip(rows.tolist(), queries.tolist(), strict=True)):
        cluster = int(np.asarray(arrays["images/cluster"])[query])
        tiles = [Tile("query", query, f"cluster {cluster}")]
        for name, choices in columns.items():
            shown = [image for image in choices[place][:SHOWN_POSITIVES].tolist() if image >= 0]
            tiles += [Tile(name, image, _shared(arrays, row, image)) for image in shown]
        for image in negatives[place].tolist():
            assert descriptors is not None
            other = int(np.asarray(arrays["images/cluster"])[image])
            similarity = float(descriptors[query] @ descriptors[image])
            tiles.append(Tile("negative", image, f"cluster {other}, similarity {similarity:.2f}"))
        found.append(tiles)
    return found


def mined_rows(
    arrays: Mapping[str, Any], mined: Mapping[str, Any], epoch: int, count: int = 8
) -> list[list[Tile]]:
    """One row of tiles per tuple of an epoch: query, the positive that it had, its hard negatives.

    arrays: training_set.h5, mined: training.h5, by path. Evenly spaced tuples. Raises NothingToShow.
    """
    rows = np.flatnonzero(np.asarray(mined["mined/epoch"]) == epoch)
    if not rows.size:
        raise NothingToShow(f"epoch {epoch}: no tuples were mined in it")
    clusters, found = np.asarray(arrays["images/cluster"], dtype=np.int64), []
    for row in rows[np.unique(np.linspace(0, rows.size - 1, min(count, rows.size)).round().astype(int))]:
        query, positive = int(mined["mined/query"][row]), int(mined["mined/positive"][row])
        tiles = [Tile("query", query, f"cluster {clusters[query]}"), Tile("positive", positive, "")]
        negatives = np.asarray(mined["mined/negatives"][row])
        tiles += [Tile("negative", int(n), f"cluster {clusters[n]}") for n in negatives[negatives >= 0]]
        found.append(tiles)
    return found


def paint_sheet(rows: Sequence[Sequence[Tile]], load: Load) -> ContactSheet:
    """The sheet. load(image) -> [H, W, 3] uint8."""
    columns = _columns(rows)
    sheet = ContactSheet(len(rows), len(columns))
    for place, column in enumerate(columns):
        if place == 0 or columns[place - 1] != column:
            sheet.head(_TITLES[column], _COLOURS[column], place)
    for line, tiles in enumerate(rows):
        for tile, place in _placed(tiles, columns):
            sheet.tile(line, place, load(tile.image), _COLOURS[tile.column], tile.caption)
    return sheet


_TITLES = {
    "query": "query",
    "m1": "m1: of its pool",
    "m2": "m2: most shared",
    "m3": "m3: to draw from",
    "positive": "positive",
    "negative": "hardest negatives",
}


def _spread(arrays: Mapping[str, Any], count: int) -> Indices:
    """Rows of train queries with a positive: evenly spaced clusters, of each the first, then the second."""
    indptr = np.asarray(arrays["positives/m1_pool/indptr"])
    train = np.flatnonzero((np.asarray(arrays["queries/split"]) == TRAIN) & (np.diff(indptr) > 0))
    if train.size == 0 or count < 1:
        raise NothingToShow("no query of train has a positive; there is no tuple to show")
    cluster = np.asarray(arrays["images/cluster"])[np.asarray(arrays["queries/image"])[train]]
    order = np.argsort(cluster, kind="stable")
    turn = np.empty(train.size, dtype=np.int64)
    turn[order] = np.arange(train.size) - np.searchsorted(cluster[order], cluster[order])
    first = train[turn == 0]
    if first.size >= count:
        return first[np.linspace(0, first.size - 1, count).round().astype(np.int64)]
    return np.sort(train[np.lexsort((train, turn))][:count])


def _negatives(
    arrays: Mapping[str, Any], queries: Indices, descriptors: NDArray[np.float32] | None
) -> list[Indices]:
    if descriptors is None:
        return [np.empty(0, dtype=np.int64)] * len(queries)
    pool = negative_pool(arrays, TRAIN)
    cluster = np.asarray(arrays["images/cluster"], dtype=np.int64)
    counts = np.minimum(negative_supply(arrays, queries, pool).clusters, SHOWN_NEGATIVES)
    found = []
    for query, count in zip(queries.reshape(-1, 1), counts.tolist(), strict=True):
        barred = forbidden(arrays, query, pool)
        clusters = cluster[query], cluster[pool]
        mined = hard_negatives(descriptors[query], descriptors[pool], *clusters, count, forbidden=barred)
        found.append(pool[mined[0]])
    return found


def _shared(arrays: Mapping[str, Any], row: int, image: int) -> str:
    """What the candidates tell of a positive of a row of the queries; empty where nothing is known."""
    indptr = np.asarray(arrays["candidates/indptr"])
    mine = np.arange(indptr[row], indptr[row + 1])
    at = mine[np.asarray(arrays["candidates/image"])[mine] == image]
    if at.size == 0:
        return ""
    overlap = float(np.asarray(arrays["candidates/overlap"])[at[0]])
    change = float(np.asarray(arrays["candidates/scale_change"])[at[0]])
    return f"overlap {overlap:.2f}" + ("" if np.isnan(change) else f", scale {change:.2f}")


def _columns(rows: Sequence[Sequence[Tile]]) -> list[str]:
    """The columns of a sheet: of each name as many as the row with most of them needs."""
    return [
        name
        for name in _TITLES
        for _ in range(max(sum(tile.column == name for tile in tiles) for tiles in rows))
    ]


def _placed(tiles: Sequence[Tile], columns: Sequence[str]) -> list[tuple[Tile, int]]:
    used: dict[str, int] = {}
    placed = []
    for tile in tiles:
        place = columns.index(tile.column) + used.get(tile.column, 0)
        used[tile.column] = used.get(tile.column, 0) + 1
        placed.append((tile, place))
    return placed
