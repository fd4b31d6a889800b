"""Matches of pairs of photographs, in hloc's layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.schemas.layout import Dataset, Layout
from storage.schemas.photographs import SHA
from storage.schemas.rules import Columns, Unsound, first, pairs_once


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


MATCHES = Layout(
    name="matches",
    version=1,
    description="Matches in hloc's layout: one group per verified pair; and every pair that was tried.",
    groups={
        "{first}": "verified pairs of one photograph",
        "{first}/{second}": "matches of one pair that agree with its two-view geometry",
        "attempts": "one row per pair that was matched, verified or not",
    },
    datasets=(
        Dataset("attempts/first", ("A",), "S64", f"one photograph: {SHA}", below="attempts/second"),
        Dataset("attempts/second", ("A",), "S64", "the other photograph, its sha256 after the first's"),
        Dataset(
            "attempts/inliers", ("A",), "int64", "matches that agree with the geometry; 0 = none", minimum=0
        ),
        Dataset(
            "{first}/{second}/matches0",
            ("n",),
            "int32",
            "per keypoint of first the keypoint of second, -1 = none",
            none=True,
            minimum=0,
        ),
        Dataset(
            "{first}/{second}/matching_scores0",
            ("n",),
            ("float32", "float16"),
            "score of the match, 0 = none",
        ),
        Dataset(
            "{first}/{second}/configuration",
            (),
            "int64",
            "COLMAP's two-view configuration",
            optional=True,
            minimum=0,
        ),
        Dataset("{first}/{second}/fundamental", (3, 3), "float64", "fundamental matrix", optional=True),
        Dataset("{first}/{second}/essential", (3, 3), "float64", "essential matrix", optional=True),
        Dataset("{first}/{second}/homography", (3, 3), "float64", "homography", optional=True),
    ),
    rules=(
        pairs_once("attempts"),
        matched_pairs,
    ),
)


LAYOUTS = (MATCHES,)
