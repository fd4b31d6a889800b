"""The record of a training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from storage.schemas.layout import SHARE, Dataset, Layout
from storage.schemas.rules import Columns, first, rises


def epochs(columns: Columns) -> Iterator[tuple[str, str]]:
    """What is told of an epoch belongs to one that was trained."""
    known = columns["epochs/epoch"]
    for path in ("best_epoch", "mined/epoch"):
        at = first(~np.isin(columns[path], known))
        if at is not None:
            yield path, f"has {columns[path][at]}, which epochs/epoch does not list"


def tuples(columns: Columns) -> Iterator[tuple[str, str]]:
    """Query, positives and negatives of a tuple are different images."""
    query, positive, chosen = (columns[f"mined/{name}"] for name in ("query", "positive", "negatives"))
    at = first(query == positive)
    if at is not None:
        yield "mined/positive", f"has {positive[at]} at [{at}], the query itself"
    others = positive[:, None]
    if "mined/further_positives" in columns:
        further = columns["mined/further_positives"]
        others = np.concatenate([others, further], axis=1)
        at = first((further == query[:, None]).any(axis=1))
        if at is not None:
            yield "mined/further_positives", f"holds the query of its tuple at [{at}]"
    at = first(
        (chosen == query[:, None]).any(axis=1) | (chosen[:, :, None] == others[:, None]).any(axis=(1, 2))
    )
    if at is not None:
        yield "mined/negatives", f"holds the query or a positive of its tuple at [{at}]"
    ordered = np.sort(chosen, axis=1)
    at = first(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1))
    if at is not None:
        yield "mined/negatives", f"holds an image twice at [{at}]"


TRAINING = Layout(
    name="training",
    version=2,
    description="What happened in a training, epoch by epoch.",
    groups={
        "epochs": "one row per epoch",
        "mined": "one row per tuple and epoch: which hard negatives were mined",
        "checks": "negatives as near as the query's positives: what matching them with its cluster found",
        "may_match": "clusters that turned out to show one place: no negatives of each other since",
        "descriptor_shift": "how far the training moved each photograph's descriptor",
        "blends": "the kept epoch mixed with the network before training, measured on val",
        "warnings": "what the training could not do as asked",
    },
    attributes={"seconds_*": "duration of each part, per epoch"},
    datasets=(
        Dataset(
            "epochs/epoch",
            ("E",),
            "int64",
            "number of the epoch, from 1 (0 = before training)",
            minimum=0,
            unique=True,
        ),
        Dataset("epochs/loss_train", ("E",), "float64", "mean loss of the training tuples", nan=True),
        Dataset(
            "epochs/loss_val", ("E",), "float64", "mean loss of the validation tuples; nan = none", nan=True
        ),
        Dataset("epochs/map_val", ("E",), "float64", "mAP on val, by training.val_mean; nan = none", **SHARE),
        Dataset(
            "epochs/val_average_precision",
            ("E", "Q"),
            "float64",
            "AP of each query of the val benchmark; nan = none",
            optional=True,
            **SHARE,
        ),
        Dataset("epochs/learning_rate", ("E",), "float64", "learning rate of the backbone", minimum=0),
        Dataset(
            "epochs/gem_p",
            ("E",),
            "float64",
            "exponent of GeM (mean where per channel); nan = other pooling",
            nan=True,
        ),
        Dataset(
            "epochs/mean_negative_distance",
            ("E",),
            "float64",
            "query to mined negatives; nan = none",
            nan=True,
            minimum=0,
        ),
        Dataset("mined/epoch", ("T",), "int64", "epoch of the tuple", minimum=0),
        Dataset("mined/query", ("T",), "int64", "image of the training set", minimum=0),
        Dataset("mined/positive", ("T",), "int64", "image of the training set", minimum=0),
        Dataset(
            "mined/further_positives",
            ("T", "H"),
            "int64",
            "more images that are positives of the tuple",
            minimum=0,
            optional=True,
        ),
        Dataset(
            "mined/negatives",
            ("T", "J"),
            "int64",
            "images of the training set, hardest first; -1 = none",
            minimum=0,
            none=True,
        ),
        Dataset("checks/epoch", ("V",), "int64", "epoch of the check, 0 = before training", minimum=0),
        Dataset("checks/image", ("V",), "int64", "the negative, image of the training set", minimum=0),
        Dataset("checks/cluster", ("V",), "int64", "cluster of the query", minimum=0),
        Dataset("checks/max_inliers", ("V",), "int64", "most inliers with one of its photographs", minimum=0),
        Dataset("may_match/first", ("M",), "int64", "cluster of the training set", minimum=0),
        Dataset("may_match/second", ("M",), "int64", "cluster of the training set", minimum=0),
        Dataset("may_match/inliers", ("M",), "int64", "most inliers between the two", minimum=0),
        Dataset("best_epoch", (), "int64", "epoch whose network is kept", minimum=0),
        Dataset(
            "descriptor_shift/image", ("S",), "int64", "image of the training set", minimum=0, unique=True
        ),
        Dataset(
            "descriptor_shift/cosine_distance",
            ("S",),
            "float32",
            "before against after training",
            minimum=-1e-3,
            maximum=2.001,
        ),
        Dataset(
            "blends/share",
            ("B",),
            "float64",
            "of the weights before training",
            minimum=0,
            maximum=1,
            optional=True,
        ),
        Dataset(
            "blends/map_val",
            ("B",),
            "float64",
            "mAP on the val benchmark; nan = none",
            optional=True,
            **SHARE,
        ),
        Dataset(
            "blends/kept", (), "float64", "share of the kept network", minimum=0, maximum=1, optional=True
        ),
        Dataset("warnings/text", ("W",), "str", "one sentence each", optional=True),
    ),
    rules=(
        rises("epochs/epoch"),
        epochs,
        tuples,
    ),
)


_FIRST = TRAINING.before(1, "epochs/val_average_precision", "mined/further_positives", "blends")
LAYOUTS = (replace(TRAINING, previous=(_FIRST,)),)
