"""A network, or somebody's ranks, on an official benchmark."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from storage.schemas.layout import SHARE, Dataset, Layout
from storage.schemas.rules import Columns, first, ranking


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
    yield from ranking("ranks", ranks, "scores", scores)


def counted_queries(columns: Columns) -> Iterator[tuple[str, str]]:
    """No more queries count than there are."""
    told, there = columns["rows/num_queries"], columns.rows_of("queries/name")
    at = first(told > there)
    if at is not None:
        yield "rows/num_queries", f"has {told[at]} at [{at}], but there are {there} queries"


BENCHMARK = Layout(
    name="benchmark",
    version=1,
    description="One network, or somebody's ranks, on one official benchmark.",
    groups={
        "rows": "one row per number of the benchmark's table",
        "queries": "one row per query",
        "database": "one row per image of the benchmark's own database",
        "distractors": "images beyond that database which stand in the stored ranks",
        "per_query": "what the numbers are means of, one dataset per measure",
    },
    attributes={
        "benchmark": "name",
        "network": "name of the network, empty for somebody's ranks",
        "whitening": "name of the whitening, raw for none",
        "distractors": "how many images were added to the database",
        "notes": "which variant of the protocol was measured",
        "measures": "JSON: names of the datasets of per_query, the main one first",
    },
    datasets=(
        Dataset("rows/protocol", ("C",), "str", "such as easy, medium, hard; empty where there is one"),
        Dataset("rows/metric", ("C",), "str", "such as mAP, mP@10, recall@1"),
        Dataset("rows/value", ("C",), "float64", "nan = no query counts", **SHARE),
        Dataset("rows/num_queries", ("C",), "int64", "queries that count", minimum=0),
        Dataset("queries/name", ("Q",), "str", "name of the query"),
        Dataset("database/name", ("D",), "str", "name of the database image; its position is its id"),
        Dataset("distractors/position", ("X",), "int64", "id, D or more", minimum=0, unique=True),
        Dataset("distractors/name", ("X",), "str", "name of the distractor"),
        Dataset("ranks", ("Q", "K"), "int64", "ids, best first; -1 = none", minimum=0, none=True),
        Dataset("scores", ("Q", "K"), "float32", "similarity of query and image", optional=True),
        Dataset("per_query/{measure}", ("Q",), "float64", "nan = the query does not count", **SHARE),
    ),
    rules=(
        official_ranks,
        counted_queries,
    ),
)


LAYOUTS = (BENCHMARK,)
