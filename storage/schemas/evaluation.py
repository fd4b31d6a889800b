"""Every configuration on the geometry benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from storage.schemas.layout import SHARE, Dataset, ItemsListed, Layout
from storage.schemas.rules import Columns, Unsound, first, ranking, rises

_CHANGES = "detail (cropped), half, quarter (smaller), dark (late light)"


def _configurations() -> tuple[Dataset, ...]:
    texts = {
        "network": "which network, such as off-the-shelf or fine-tuned",
        "whitening": "raw, pcaw or lw",
        "scales": "scales of the images, such as 1 or 1+0.7071+0.5",
        "protocol": "which positives and junk, such as easy, medium, hard",
        "ranking": "the item of ranks and scores that it was computed from",
    }
    numbers = {
        "map": "mean of the average precisions over queries; nan = no query has a positive",
        "map_low": "lower end of the 95 % bootstrap interval over clusters; nan = none",
        "map_high": "upper end of the interval; nan = none",
        "map_clusters": "mean over clusters of the mean over their queries; nan = none",
    }
    at = "configurations"
    return (
        Dataset(f"{at}/name", ("C",), "str", "unique name of the row, without slashes", unique=True),
        *(Dataset(f"{at}/{name}", ("C",), "str", meaning) for name, meaning in texts.items()),
        Dataset(
            f"{at}/expansion", ("C",), "str", "query expansion or re-ranking; empty = none", optional=True
        ),
        *(Dataset(f"{at}/{name}", ("C",), "float64", text, **SHARE) for name, text in numbers.items()),
    )


def rankings(columns: Columns) -> Iterator[tuple[str, str]]:
    """No ranking lists an image twice; scores fall along it."""
    for (name,), path in columns.items("ranks/{ranking}"):
        try:
            yield from ranking(path, columns.once(path), f"scores/{name}", columns.once(f"scores/{name}"))
        except Unsound:
            continue


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


def harder(columns: Columns) -> Iterator[tuple[str, str]]:
    """A configuration has one harder row of each change."""
    names = ("network", "whitening", "scales", "change")
    if "harder/change" not in columns:
        return
    rows = list(zip(*(columns[f"harder/{name}"].tolist() for name in names), strict=True))
    for at, row in enumerate(rows):
        if row in rows[:at]:
            yield "harder/change", f"has {row[-1]!r} at [{at}], a second time for {', '.join(row[:-1])}"
            return


def _harder(split: str, tag: str) -> tuple[Dataset, ...]:
    at, size = f"harder/{split}", f"Q_{tag}"
    return (
        Dataset(
            f"{at}/query", (size,), "str", "name of the query's image, before it is altered", optional=True
        ),
        Dataset(f"{at}/cluster", (size,), "int64", "cluster of the query", optional=True, minimum=0),
        Dataset(
            f"{at}/average_precision",
            ("H", size),
            "float64",
            "medium AP of the altered query among all photographs; nan = it has no positive",
            optional=True,
            **SHARE,
        ),
    )


def verdict(columns: Columns) -> Iterator[tuple[str, str]]:
    """What is less careful is used only where it gains for sure."""
    if "verdict/chosen" not in columns:
        return
    chosen, low = int(columns["verdict/chosen"].flat[0]), columns["verdict/gain_low"]
    if chosen >= len(low) or (chosen and not low[chosen] > 0):
        yield "verdict/chosen", f"has {chosen}, a candidate whose gain is not above zero in verdict/gain_low"


def _verdict() -> tuple[Dataset, ...]:
    texts = {
        "candidate": "as it was, only whiten, fine-tuned",
        "network": "as in configurations",
        "whitening": "the one that its judges choose for it",
        "against": "the candidate that its gain is over; empty = none",
    }
    numbers = {
        "estimate": "mean over clusters of val of AP, standing and harder rows, cross-fitted; nan = none",
        "gain": "of that over the other candidate, mean over clusters; nan = none",
        "gain_low": "lower end of its interval over clusters; nan = none",
        "gain_high": "upper end of the interval; nan = none",
    }
    at = "verdict"
    return (
        *(Dataset(f"{at}/{name}", ("K",), "str", text, optional=True) for name, text in texts.items()),
        *(
            Dataset(f"{at}/{n}", ("K",), "float64", text, optional=True, nan=True)
            for n, text in numbers.items()
        ),
        Dataset(f"{at}/chosen", (), "int64", "the candidate that is used", optional=True, values=(0, 1, 2)),
        Dataset(f"{at}/sentence", ("Y",), "str", "why, in a sentence", optional=True),
    )


EVALUATION = Layout(
    name="evaluation",
    version=2,
    description="One benchmark, measured for configurations of network, whitening, scales and protocol.",
    groups={
        "configurations": "one row per configuration",
        "queries": "one row per query",
        "database": "one row per database image",
        "ranks": "one ranking per network, whitening and scales; x belongs to configurations/ranking == x",
        "scores": "scores of the rankings",
        "average_precisions": "one per configuration, named by configurations/name",
        "precision_at": "mean precision of the first k",
        "recall_at": "share of queries with a positive among the first k",
        "harder": "altered queries against all photographs: one row per configuration and change",
        "harder/val": "queries of val",
        "harder/test": "queries of test",
        "verdict": "what is used, decided on val: candidates from the most careful one on",
    },
    attributes={"benchmark": "name", "pair_sources": "JSON: what proposed the pairs behind the labels"},
    listed=(
        ItemsListed("configuration", "configurations/name"),
        ItemsListed("ranking", "configurations/ranking"),
    ),
    datasets=(
        *_configurations(),
        Dataset("queries/name", ("Q",), "str", "name of the query's image"),
        Dataset(
            "queries/cluster", ("Q",), "int64", "cluster of the query", optional=True, minimum=0, none=True
        ),
        Dataset("database/name", ("D",), "str", "name of the database image", unique=True),
        Dataset("ranks/{ranking}", ("Q", "k"), "int64", "positions in database, best first", index="D"),
        Dataset("scores/{ranking}", ("Q", "k"), "float32", "similarity of query and database image"),
        Dataset(
            "average_precisions/{configuration}",
            ("Q",),
            "float64",
            "nan = the query has no positive",
            **SHARE,
        ),
        Dataset("precision_at/k", ("T",), "int64", "how many are counted", optional=True, minimum=1),
        Dataset("precision_at/value", ("C", "T"), "float64", "mean over queries", optional=True, **SHARE),
        Dataset("recall_at/k", ("U",), "int64", "how many are counted", optional=True, minimum=1),
        Dataset("recall_at/value", ("C", "U"), "float64", "mean over queries", optional=True, **SHARE),
        Dataset("harder/network", ("H",), "str", "as in configurations", optional=True),
        Dataset("harder/whitening", ("H",), "str", "as in configurations", optional=True),
        Dataset("harder/scales", ("H",), "str", "as in configurations", optional=True),
        Dataset("harder/change", ("H",), "str", "what is done to the queries: " + _CHANGES, optional=True),
        *_harder("val", "VAL"),
        *_harder("test", "TEST"),
        *_verdict(),
    ),
    rules=(
        rankings,
        configurations,
        rises("precision_at/k"),
        rises("recall_at/k"),
        harder,
        verdict,
    ),
)


LAYOUTS = (replace(EVALUATION, previous=(EVALUATION.before(1, "harder", "verdict"),)),)
