"""Layout of an official benchmark's result."""

from __future__ import annotations

from storage.schemas import Dataset, Layout

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
        Dataset("rows/value", ("C",), "float64", "nan = no query counts", nan=True, minimum=0, maximum=1),
        Dataset("rows/num_queries", ("C",), "int64", "queries that count", minimum=0),
        Dataset("queries/name", ("Q",), "str", "name of the query"),
        Dataset("database/name", ("D",), "str", "name of the database image; its position is its id"),
        Dataset("distractors/position", ("X",), "int64", "id, D or more", minimum=0, unique=True),
        Dataset("distractors/name", ("X",), "str", "name of the distractor"),
        Dataset("ranks", ("Q", "K"), "int64", "ids, best first; -1 = none", minimum=0, none=True),
        Dataset("scores", ("Q", "K"), "float32", "similarity of query and image", optional=True),
        Dataset(
            "per_query/{measure}",
            ("Q",),
            "float64",
            "nan = the query does not count",
            nan=True,
            minimum=0,
            maximum=1,
        ),
    ),
)

LAYOUTS = (BENCHMARK,)
