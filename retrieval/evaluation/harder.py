"""The harder rows of an evaluation: every configuration whose queries were described altered, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.geometry import GeometryBenchmark, Split
from retrieval.benchmarks.harder import AmongAll
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
    among = {split: AmongAll.of(arrays, GeometryBenchmark.from_arrays(arrays, split)) for split in SPLITS}
    precisions = {
        split: [values for each in asked for values in _precisions(among[split], split, each)]
        for split in SPLITS
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


def _precisions(among: AmongAll, split: Split, configuration: Configuration) -> list[Precisions]:
    """[Q] of every change."""
    transform, altered = configuration.transform, configuration.altered

    def compared(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        return descriptors if transform is None else transform.apply(descriptors)

    asked = {change: compared(altered[split, change]) for change in CHANGES if (split, change) in altered}
    database = compared(configuration.descriptors) if asked else configuration.descriptors
    found = {change: among.precisions(queries, database) for change, queries in asked.items()}
    none = np.full(len(among.standing.queries), np.nan)
    return [np.minimum(found.get(change, none), 1.0) for change in CHANGES]
