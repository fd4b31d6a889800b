"""The training set: splits, overlaps of positives, tuples as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from report.page.markup import Safe, bars, details, section, table, tag
from report.page.material import Material, Section
from report.sheets.tuples import NothingToShow, Tile, tuple_rows

TUPLES = 10
_MARKS = {
    "query": "query",
    "m1": "✓ m1",
    "m2": "✓ m2",
    "m3": "✓ m3",
    "positive": "✓ positive",
    "negative": "✗ negative",
}
_KINDS = {"query": "query", "negative": "wrong"}


def selection_section(material: Material) -> Safe | None:
    """What was selected, as numbers and as pictures."""
    path = material.path("training_set")
    if path is None:
        return None
    from report.tables.selection import report
    from sfm.training_set.training_set import TrainingSet

    found = report(TrainingSet.from_h5(path))
    header = (
        "split", "photographs", "in a model", "clusters", "alone", "models", "queries", "benchmark queries",
    )  # fmt: skip
    rows = [
        (r.name, r.photographs, r.registered, r.clusters, r.alone, r.models, r.queries, r.benchmark_queries)
        for r in found.splits
    ]
    charts = [bars(each.title, _labels(each.edges), each.counts.tolist()) for each in found.histograms]
    notes = [tag("p", f"Note: {text}", class_="note") for text in found.warnings]
    reasons = [(why, count) for why, count in found.reasons.items() if count]
    if reasons:
        notes.append(details("photographs that are no queries", table(("reason", "photographs"), reasons)))
    return section(
        "selection",
        "Training pairs",
        table(header, rows),
        *notes,
        tag("div", *charts, class_="side"),
        *_tuples(material),
    )


def contact_sheet(material: Material, rows: Sequence[Sequence[Tile]]) -> Safe:
    """Rows of tiles with what each photograph is, in words, colour and a sign."""
    shas = material.image_shas
    lines = [
        tag(
            "div",
            *(
                material.pictures.show(
                    shas[tile.image], tile.caption, _KINDS.get(tile.column, "right"), _MARKS[tile.column]
                )
                for tile in tiles
            ),
            class_="row",
            tabindex="0",
        )
        for tiles in rows
    ]
    return tag("div", *lines, class_="sheet")


def _tuples(material: Material) -> list[Safe]:
    try:
        rows = tuple_rows(material.training_set, material.descriptors, TUPLES)
    except NothingToShow as error:
        return [tag("p", error, class_="note")]
    words = "Tuples: a query, its positives by three strategies, the negatives that are most like it."
    if material.descriptors is None:
        words += " The descriptors are no longer in the store: without negatives."
    return [tag("h3", "Tuples"), tag("p", words), contact_sheet(material, rows)]


def _labels(edges: Any) -> list[str]:
    return [
        f"{low:.3g} or more" if np.isinf(high) else f"{low:.3g}–{high:.3g}" for low, high in pairwise(edges)
    ]


SECTIONS = (Section("selection", "pairs", place=4, make=selection_section, turn=3),)
