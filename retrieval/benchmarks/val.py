"""What chooses by val: the AP of its queries, among which photographs, and the mean over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from retrieval.benchmarks.clusters import of_clusters
from retrieval.benchmarks.geometry import GeometryBenchmark, mean_over_clusters, score
from retrieval.benchmarks.harder import AmongAll

Database = Annotated[
    Literal["val", "all"],
    Field(
        description="photographs among which val queries have to find theirs where something is chosen by "
        "them: those of val, or of train too, which a val that is full asks for"
    ),
]
Mean = Annotated[
    Literal["queries", "clusters"],
    Field(
        description="mAP of val where something is chosen by it: mean over queries, or over clusters of the "
        "mean of theirs, where one large model would decide alone"
    ),
]
Queries = Annotated[
    Literal["models", "clusters"],
    Field(
        description="queries of val where something is chosen by them: registered photographs, which ask for "
        "what shares 3D points with them, or all photographs that matching put into clusters, which ask for "
        "the rest of theirs: more clusters, and harder, where few places have models"
    ),
]
Rows = Callable[[NDArray[np.int64]], NDArray[np.float32]]
VAL = 1


def mean_over(mean: Mean, values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """Of the finite values [V], nan without one; clusters [V]."""
    if mean == "clusters":
        return mean_over_clusters(values, clusters)
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


@dataclass(frozen=True, eq=False)
class Val:
    """The queries of val, by which an epoch, a ridge and a whitening are chosen. Test is never read."""

    benchmark: GeometryBenchmark
    among_all: AmongAll | None
    mean: Mean

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, Any],
        database: Database = "val",
        mean: Mean = "queries",
        queries: Queries = "models",
    ) -> Val:
        """arrays: training_set.h5 by path. Raises InvalidBenchmark."""
        by_models = queries == "models"
        benchmark = GeometryBenchmark.from_arrays(arrays, "val") if by_models else of_clusters(arrays, VAL)
        among_all = AmongAll.of(arrays, benchmark, without_test=True) if database == "all" else None
        return cls(benchmark, among_all, mean)

    @property
    def images(self) -> NDArray[np.int64]:
        """Images whose descriptors it needs, ascending."""
        if self.among_all is not None:
            return self.among_all.images
        return np.sort(self.benchmark.database)

    def precisions(self, rows: Rows) -> NDArray[np.float64]:
        """Medium AP [V]; nan = no positive. rows(images [K]) -> their descriptors [K, D]."""
        queries = rows(self.benchmark.queries)
        if self.among_all is not None:
            return self.among_all.precisions(queries, rows(self.images))
        database = rows(self.benchmark.database)
        return score(self.benchmark, queries, database, ks=()).medium.average_precisions

    def mean_of(self, precisions: NDArray[np.float64]) -> float:
        """What is compared, 0..1; nan where no query counts."""
        return mean_over(self.mean, precisions, self.benchmark.clusters)
