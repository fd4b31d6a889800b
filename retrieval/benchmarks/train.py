"""The geometry benchmark of train, from a training set's candidates: judges for what train does not teach.

Labels as of val and test (`sfm.selection.labels`), as far as the candidates of a query go; the rest of its
cluster is junk. A training set without candidates, such as a list, has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.geometry import GeometryBenchmark
from storage.schemas.training_set import (
    DUPLICATE_OVERLAP,
    DUPLICATE_SCALE_CHANGE,
    EASY_OVERLAP,
    EASY_SCALE_CHANGE,
    HARD_SHARED_POINTS,
)

Images = NDArray[np.int64]


def of_train(arrays: Mapping[str, Any]) -> GeometryBenchmark:
    """Queries, database and labels of train; arrays: of training_set.h5 by path."""
    split, cluster = np.asarray(arrays["images/split"]), np.asarray(arrays["images/cluster"])
    query, sizes = np.asarray(arrays["queries/image"]), np.diff(arrays["candidates/indptr"])
    row, image = np.repeat(np.arange(len(query)), sizes), np.asarray(arrays["candidates/image"])
    overlap, change = (np.asarray(arrays[f"candidates/{name}"]) for name in ("overlap", "scale_change"))
    twin = (overlap >= np.float32(DUPLICATE_OVERLAP)) & (change <= np.float32(DUPLICATE_SCALE_CHANGE))
    easy = (overlap >= np.float32(EASY_OVERLAP)) & (change <= np.float32(EASY_SCALE_CHANGE)) & ~twin
    hard = (np.asarray(arrays["candidates/shared_points"]) >= HARD_SHARED_POINTS) & ~easy & ~twin
    database = np.flatnonzero(split == 0)
    answered = np.bincount(row[easy | hard], minlength=len(query)) > 0
    kept = np.flatnonzero((np.asarray(arrays["queries/split"]) == 0) & answered)
    labels: dict[str, list[Images]] = {"easy": [], "hard": [], "junk": []}
    for each in kept.tolist():
        mine = row == each
        right = [np.unique(image[mine & label]) for label in (easy, hard)]
        members = database[cluster[database] == cluster[query[each]]]
        rest = np.setdiff1d(members, np.concatenate(right))
        for name, images in zip(labels, (*right, rest), strict=True):
            labels[name].append(images)
    made: dict[str, Any] = {"images/cluster": cluster}
    made |= {"benchmark/train/queries": query[kept], "benchmark/train/database": database}
    for name, rows in labels.items():
        made[f"benchmark/train/{name}/indptr"] = np.cumsum([0, *map(len, rows)])
        made[f"benchmark/train/{name}/image"] = np.concatenate([np.empty(0, np.int64), *rows])
    return GeometryBenchmark.from_arrays(made, "train")
