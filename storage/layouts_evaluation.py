"""Layouts of what a trained network is used for: whitening, evaluation."""

from __future__ import annotations

from storage.schemas import Dataset, ItemsListed, Layout

WHITENING = Layout(
    name="whitening",
    version=1,
    description="A linear map of descriptors: (x - mean) @ projection.T, then L2.",
    groups={"shrinkage_grid": "shrinkages tried on val"},
    attributes={"method": "lw or pcaw", "shrinkage": "the one chosen"},
    datasets=(
        Dataset("mean", ("D",), ("float64", "float32"), "subtracted first"),
        Dataset(
            "projection",
            ("O", "D"),
            ("float64", "float32"),
            "rows = output dimensions, by decreasing eigenvalue",
        ),
        Dataset(
            "eigenvalues",
            ("O",),
            ("float64", "float32"),
            "of the output dimensions, decreasing",
            optional=True,
        ),
        Dataset(
            "shrinkage_grid/value",
            ("G",),
            "float64",
            "shrinkage: S + value trace(S)/D I",
            optional=True,
            minimum=0,
        ),
        Dataset(
            "shrinkage_grid/map_val",
            ("G",),
            "float64",
            "mAP on val; nan = not measured",
            optional=True,
            nan=True,
            minimum=0,
            maximum=1,
        ),
    ),
)


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
        Dataset(f"{at}/expansion", ("C",), "str", "query expansion; empty = none", optional=True),
        *(
            Dataset(f"{at}/{name}", ("C",), "float64", text, nan=True, minimum=0, maximum=1)
            for name, text in numbers.items()
        ),
    )


EVALUATION = Layout(
    name="evaluation",
    version=1,
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
            nan=True,
            minimum=0,
            maximum=1,
        ),
        Dataset("precision_at/k", ("T",), "int64", "how many are counted", optional=True, minimum=1),
        Dataset(
            "precision_at/value",
            ("C", "T"),
            "float64",
            "mean over queries",
            optional=True,
            nan=True,
            minimum=0,
            maximum=1,
        ),
        Dataset("recall_at/k", ("U",), "int64", "how many are counted", optional=True, minimum=1),
        Dataset(
            "recall_at/value",
            ("C", "U"),
            "float64",
            "mean over queries",
            optional=True,
            nan=True,
            minimum=0,
            maximum=1,
        ),
    ),
)

LAYOUTS = (WHITENING, EVALUATION)
