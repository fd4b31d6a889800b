"""Rules of features, matches, descriptors, whitenings, rankings and search indexes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.hdf5_sources import blocks
from storage.relations import Columns, Rule, Unsound, first, never_rises, pairs_once, rises

_SLACK = 1e-2  # of a length: descriptors may have been kept in half precision


def unit_descriptors(columns: Columns) -> Iterator[tuple[str, str]]:
    """Global descriptors have length 1."""
    for _, path in columns.items("{photo}/global_descriptor"):
        try:
            length = float(np.linalg.norm(columns.once(path)))
        except Unsound:
            continue
        if abs(length - 1) > _SLACK:
            yield path, f"has length {length:.4g}; descriptors are L2-normalised"


def unit_rows(columns: Columns) -> Iterator[tuple[str, str]]:
    """The descriptors of a search index have length 1; read in slices."""
    path = "descriptors"
    if path in columns.broken or path not in columns or (columns.max_rows or np.inf) < columns.rows_of(path):
        return
    for start, block in blocks(columns.source, path):
        length = np.linalg.norm(block, axis=1)
        at = first(np.abs(length - 1) > _SLACK)
        if at is not None:
            yield path, f"has length {length[at]:.4g} at [{start + at}]; descriptors are L2-normalised"
            return


def keypoints_inside(columns: Columns) -> Iterator[tuple[str, str]]:
    """Keypoints lie on their photograph, up to a pixel."""
    for (photo,), path in columns.items("{photo}/keypoints"):
        try:
            xy, size = columns.once(path), columns.once(f"{photo}/image_size")
        except Unsound:
            continue
        at = first(((xy < -1.5) | (xy > size + 0.5)).any(axis=1))
        if at is not None:
            where = ", ".join(f"{each:.1f}" for each in xy[at])
            yield path, f"has ({where}) at [{at}], outside of {size[0]} x {size[1]} pixels"


def matched_pairs(columns: Columns) -> Iterator[tuple[str, str]]:
    """A pair that has matches was verified, with as many as its attempt says."""
    names = ("attempts/first", "attempts/second")
    one, other = (_texts(columns[name]) for name in names)
    told: dict[tuple[str, ...], int] = {
        (a, b): int(inliers) for a, b, inliers in zip(one, other, columns["attempts/inliers"], strict=True)
    }
    items = dict(columns.items("{first}/{second}/matches0"))
    for pair, path in items.items():
        if not told.get(pair):
            yield path, "belongs to a pair that attempts does not list as verified"
    for pair, path in items.items():
        try:
            yield from _matches(columns, pair, path, told.get(pair))
        except Unsound:
            continue


def _matches(
    columns: Columns, pair: tuple[str, ...], path: str, inliers: int | None
) -> Iterator[tuple[str, str]]:
    found = columns.once(path)
    chosen = np.sort(found[found >= 0])
    if pair[0] >= pair[1]:
        yield path, "belongs to a pair whose second photograph does not come after the first"
    at = first(chosen[1:] == chosen[:-1])
    if at is not None:
        yield path, f"names keypoint {chosen[at]} of the second photograph twice; a match is one to one"
    if inliers and len(chosen) != inliers:
        yield path, f"holds {len(chosen)} matches, but attempts/inliers says {inliers}"


def _texts(values: NDArray[Any]) -> list[str]:
    return [each.decode("ascii", "replace") for each in values.tolist()]


def rankings(columns: Columns) -> Iterator[tuple[str, str]]:
    """No ranking lists an image twice; scores fall along it."""
    for (name,), path in columns.items("ranks/{ranking}"):
        try:
            yield from _ranking(path, columns.once(path), f"scores/{name}", columns.once(f"scores/{name}"))
        except Unsound:
            continue


def _ranking(
    path: str, ranks: NDArray[Any], of_scores: str, scores: NDArray[Any] | None
) -> Iterator[tuple[str, str]]:
    ordered = np.sort(ranks, axis=1)
    at = first(np.any((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0), axis=1))
    if at is not None:
        yield path, f"lists an image twice in row {at}"
    at = first(np.any((ranks[:, 1:] >= 0) & (ranks[:, :-1] < 0), axis=1))
    if at is not None:
        yield path, f"has an image after -1 (none) in row {at}"
    if scores is None:
        return
    at = first(np.any((scores[:, 1:] > scores[:, :-1] + 1e-5) & (ranks[:, 1:] >= 0), axis=1))
    if at is not None:
        yield of_scores, f"rises in row {at}; the best comes first"


def configurations(columns: Columns) -> Iterator[tuple[str, str]]:
    """A mean is the mean of its average precisions; an interval begins before it ends."""
    at = "configurations"
    means = columns[f"{at}/map"]
    low, high = columns[f"{at}/map_low"], columns[f"{at}/map_high"]
    row = first(low > high)
    if row is not None:
        yield f"{at}/map_low", f"has {low[row]:g} at [{row}], above {at}/map_high, {high[row]:g}"
    for row, name in enumerate(columns[f"{at}/name"].tolist()):
        path = f"average_precisions/{name}"
        if path not in columns or path in columns.broken:
            continue
        counted = columns[path][~np.isnan(columns[path])]
        mean = float(counted.mean()) if len(counted) else np.nan
        if not np.isclose(means[row], mean, atol=1e-5, equal_nan=True):
            yield f"{at}/map", f"has {means[row]:g} at [{row}], but the mean of {path} is {mean:g}"
            return


def official_ranks(columns: Columns) -> Iterator[tuple[str, str]]:
    """Ids are of the database or of a listed distractor."""
    ranks, position = columns["ranks"], columns["distractors/position"]
    size = columns.rows_of("database/name")
    at = first(position < size)
    if at is not None:
        yield (
            "distractors/position",
            f"has {position[at]} at [{at}]; ids below {size} are the database's, distractors come after them",
        )
    wrong = (ranks >= size) & ~np.isin(ranks, position)
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        yield (
            "ranks",
            f"has the dangling index {ranks[row, column]} at [{row}, {column}]; it must be -1 (none), below "
            f"{size}, or in distractors/position",
        )
    scores = columns["scores"] if "scores" in columns else None  # noqa: SIM401 (no mapping)
    yield from _ranking("ranks", ranks, "scores", scores)


def counted_queries(columns: Columns) -> Iterator[tuple[str, str]]:
    """No more queries count than there are."""
    told, there = columns["rows/num_queries"], columns.rows_of("queries/name")
    at = first(told > there)
    if at is not None:
        yield "rows/num_queries", f"has {told[at]} at [{at}], but there are {there} queries"


RULES: dict[str, tuple[Rule, ...]] = {
    "features": (keypoints_inside,),
    "descriptors": (unit_descriptors,),
    "pairs": (pairs_once("pairs"),),
    "matches": (pairs_once("attempts"), matched_pairs),
    "whitening": (never_rises("eigenvalues"),),
    "evaluation": (rankings, configurations, rises("precision_at/k"), rises("recall_at/k")),
    "benchmark": (official_ranks, counted_queries),
    "search_index": (unit_rows, rises("recall/depth")),
}
