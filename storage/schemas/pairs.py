"""Pairs of photographs that are to be matched."""

from __future__ import annotations

from storage.schemas.layout import Dataset, Layout
from storage.schemas.photographs import SHA
from storage.schemas.rules import pairs_once

PAIRS = Layout(
    name="pairs",
    version=1,
    description="Pairs of photographs, proposed or verified; each pair once.",
    groups={"photos": "the photographs that the pairs point into", "pairs": "one row per pair"},
    datasets=(
        Dataset("photos/sha256", ("N",), "S64", SHA, unique=True),
        Dataset(
            "pairs/first", ("K",), "int64", "position of one photograph", index="N", below="pairs/second"
        ),
        Dataset(
            "pairs/second", ("K",), "int64", "position of the other photograph, larger than first", index="N"
        ),
        Dataset(
            "pairs/inliers", ("K",), "int64", "matches that agree with the geometry", optional=True, minimum=0
        ),
        Dataset("pairs/source", ("K",), "str", "what proposed the pair, sources joined by +", optional=True),
    ),
    rules=(pairs_once("pairs"),),
)


LAYOUTS = (PAIRS,)
