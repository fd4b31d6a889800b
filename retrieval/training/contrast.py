"""Has a training set anything to contrast with? Asked before the training, which cannot do without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.verdicts import EXCLUDED
from retrieval.training.tuples import TRAIN, negative_pool, negative_supply
from storage.hdf5.open import open_artifact

_NEEDED = (
    "images/cluster", "images/split", "queries/image", "queries/split",
    "negatives/image", "negatives/cluster", "negatives/allowed",
)  # fmt: skip


class OnePlace(ValueError):
    """A training set without a single negative."""


def require_contrast(training_set: Path) -> None:
    """Raises OnePlace where no query of train can have a negative, whatever the options of the training."""
    with open_artifact(training_set, "training_set") as file:
        listed = (EXCLUDED, "negatives/excluded/image") if EXCLUDED in file else ()
        arrays = {name: file[name][()] for name in (*_NEEDED, *listed)}
    queries = arrays["queries/image"][arrays["queries/split"] == TRAIN].astype(np.int64)
    supply = negative_supply(arrays, queries, negative_pool(arrays, TRAIN)).photographs
    if len(queries) and supply.max() == 0:
        raise OnePlace(_one_place(arrays["images/cluster"], arrays["images/split"]))


def _one_place(cluster: NDArray[Any], split: NDArray[Any]) -> str:
    sizes = np.unique(cluster, return_counts=True)[1]
    found = f"{len(sizes)} clusters were found" if len(sizes) > 1 else "1 cluster was found"
    if alone := int((sizes == 1).sum()):
        found += f" ({alone} of a single photograph)"
    if held_back := len(np.unique(cluster[split != TRAIN])):
        found += f", {held_back} of them for val and test"
    return (
        f"{found}: one place only, as far as is known of the photographs in train, and nothing to contrast "
        "it with; add unrelated photographs, of other places"
    )
