"""The geometry benchmark made harder: altered queries against all photographs of a training set.

Easy and hard images of a query are those of the benchmark. Junk is what is junk there, the rest of the
query's cluster, and whatever no verdict allows as a negative of the cluster: images of clusters that may
match it, and photographs that are alone and were not looked at. All else is wrong, whatever its split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.geometry import GeometryBenchmark, score
from retrieval.benchmarks.landmarks import JUNK
from retrieval.benchmarks.verdicts import forbidden_positions

TEST = 2


@dataclass(frozen=True, eq=False)
class AmongAll:
    """The queries of a split among more images than those of the split.

    images: the database, ascending; junk: of each cluster of the queries, the positions in it that are junk
    for all of them.
    """

    standing: GeometryBenchmark
    images: NDArray[np.int64]
    junk: Mapping[int, NDArray[np.int64]]

    @classmethod
    def of(
        cls, arrays: Mapping[str, Any], standing: GeometryBenchmark, *, without_test: bool = False
    ) -> AmongAll:
        """arrays: of training_set.h5 by path; all its images are the database, or all but those of test."""
        images = np.arange(standing.num_images)
        if without_test:
            images = np.flatnonzero(np.asarray(arrays["images/split"]) != TEST)
        of_image = np.asarray(arrays["images/cluster"])[images]
        junk = {
            cluster: np.union1d(
                np.flatnonzero(of_image == cluster), forbidden_positions(arrays, cluster, images)
            )
            for cluster in np.unique(standing.clusters).tolist()
        }
        return cls(standing, images, junk)

    def only(self, clusters: NDArray[np.int64]) -> AmongAll:
        """The same, with nan for the queries of all other clusters."""
        return replace(self, junk={each: self.junk[each] for each in self.junk if each in clusters})

    def precisions(self, queries: NDArray[np.float32], database: NDArray[np.float32]) -> NDArray[np.float64]:
        """Medium AP [Q]; nan = the query has neither easy nor hard images.

        queries: [Q, D], altered or as they are; database: [N, D], of images. One cluster at a time: memory of
        its queries times the images that are junk for them. Raises InvalidBenchmark.
        """
        found = np.full(len(self.standing.queries), np.nan)
        for cluster in self.junk:
            rows = np.flatnonzero(self.standing.clusters == cluster)
            asked = score(self.benchmark(rows, cluster), queries[rows], database, ks=())
            found[rows] = asked.medium.average_precisions
        return found

    def benchmark(self, rows: NDArray[np.int64], cluster: int) -> GeometryBenchmark:
        """The benchmark of some queries (rows) of one cluster."""
        standing = self.standing
        common = np.zeros(len(self.images), dtype=np.uint8)
        common[self.junk[cluster]] = JUNK
        positions, roles = [], []
        for row in rows.tolist():
            own = common.copy()
            labelled = slice(standing.indptr[row], standing.indptr[row + 1])
            labelled_images = standing.database[standing.positions[labelled]]
            own[np.searchsorted(self.images, labelled_images)] = standing.roles[labelled]
            positions.append(np.flatnonzero(own))
            roles.append(own[positions[-1]])
        return replace(
            standing,
            queries=standing.queries[rows],
            database=self.images,
            clusters=standing.clusters[rows],
            indptr=np.cumsum([0, *map(len, positions)], dtype=np.int64),
            positions=np.concatenate(positions),
            roles=np.concatenate(roles),
            num_easy=standing.num_easy[rows],
            num_hard=standing.num_hard[rows],
        )
