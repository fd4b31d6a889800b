"""The harder rows of an evaluation: every configuration whose queries were described altered, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.geometry import Split
from retrieval.benchmarks.harder import harder_precisions
from retrieval.describe.harder_queries import CHANGES

if TYPE_CHECKING:
    from retrieval.evaluation.evaluate import Configuration

Precisions = NDArray[np.float64]
SPLITS: tuple[Split, ...] = ("val", "test")


def harder_arrays(arrays: Mapping[str, Any], configurations: Sequence[Configuration]) -> dict[str, Any]:
    """The group `harder` of evaluation.h5, {} where no configuration has altered queries.

    arrays: of training_set.h5 by path. Rows are configurations times CHANGES.
    """
    asked = [each for each in configurations if each.altered]
    if not asked:
        return {}
    rows = [(each, change) for each in asked for change in CHANGES]
    precisions = {
        split: [values for each in asked for values in _precisions(arrays, split, each)] for split in SPLITS
    }
    result: dict[str, Any] = {
        "harder/network": [each.network for each, _ in rows],
        "harder/whitening": [each.whitening for each, _ in rows],
        "harder/scales": [each.scales for each, _ in rows],
        "harder/change": [change for _, change in rows],
    }
    for split in SPLITS:
        queries = np.asarray(arrays[f"benchmark/{split}/queries"])
        result[f"harder/{split}/query"] = list(np.asarray(arrays["images/name"])[queries])
        result[f"harder/{split}/cluster"] = np.asarray(arrays["images/cluster"])[queries]
        result[f"harder/{split}/average_precision"] = np.array(precisions[split]).reshape(
            len(rows), len(queries)
        )
    return result


def _precisions(arrays: Mapping[str, Any], split: Split, configuration: Configuration) -> list[Precisions]:
    """[Q] of every change."""
    transform, altered = configuration.transform, configuration.altered

    def compared(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        return descriptors if transform is None else transform.apply(descriptors)

    queries = {change: compared(altered[split, change]) for change in CHANGES if (split, change) in altered}
    found = harder_precisions(arrays, split, queries, compared(configuration.descriptors)) if queries else {}
    none = np.full(len(arrays[f"benchmark/{split}/queries"]), np.nan)
    return [np.minimum(found.get(change, none), 1.0) for change in CHANGES]
