"""The geometry benchmark: held-back 3D models are the labels of a collection that has none.

Photographs of a split are its database; easy and hard positives come from shared 3D points and scale change
(`sfm`), the rest of a query's cluster is junk. Scored as the revisited protocol, Easy / Medium / Hard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.landmarks import EASY, HARD, JUNK, ProtocolResult, RevisitedResult, score_revisited

Split = Literal["val", "test"]
PROTOCOLS = ("easy", "medium", "hard")
Reorder = Callable[[int, NDArray[np.float32], NDArray[np.int64]], tuple[Any, Any]]
"""(query, similarities falling, their positions) -> scores and positions in another order."""
MOST_FOLDS = 5
SCORES_PER_BLOCK = 8_000_000
"""Scores held at once (32 MB of float32, twice that while they are ordered)."""


class InvalidBenchmark(ValueError):
    """The arrays are no geometry benchmark, or the descriptors do not belong to it."""


@dataclass(frozen=True)
class GeometryBenchmark:
    """Queries, database and labels of one split.

    queries [Q], database [N]: indices into the training set's images; clusters: [Q] of the queries;
    indptr, positions, roles: CSR over queries of the labelled database positions (ascending) and their role
    bits; num_easy, num_hard: [Q].
    """

    num_images: int
    queries: NDArray[np.int64]
    database: NDArray[np.int64]
    clusters: NDArray[np.int64]
    indptr: NDArray[np.int64]
    positions: NDArray[np.int64]
    roles: NDArray[np.uint8]
    num_easy: NDArray[np.int64]
    num_hard: NDArray[np.int64]

    @property
    def query_positions(self) -> NDArray[np.int64]:
        """[Q] position of each query's own photograph in the database."""
        order = np.argsort(self.database, kind="stable")
        return order[np.searchsorted(self.database, self.queries, sorter=order)]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], split: Split | Literal["clusters"]) -> GeometryBenchmark:
        """From the arrays of `training_set.h5` by path. Raises InvalidBenchmark when they disagree."""
        base = f"benchmark/{split}"
        queries, database = (_indices(arrays, f"{base}/{name}") for name in ("queries", "database"))
        image_clusters = _indices(arrays, "images/cluster")
        position_of = np.full(len(image_clusters), -1, dtype=np.int64)
        position_of[database] = np.arange(len(database))
        labels = {bit: _csr(arrays, f"{base}/{name}", len(queries)) for bit, name in _ROLES.items()}
        roles = np.zeros(len(database), dtype=np.uint8)
        rows: list[tuple[NDArray[np.int64], NDArray[np.uint8]]] = []
        for q, query in enumerate(queries):
            own = int(position_of[query])
            members = {bit: position_of[image[ptr[q] : ptr[q + 1]]] for bit, (ptr, image) in labels.items()}
            _check_members(members, split, int(query), own)
            for bit, found in members.items():
                roles[found] |= np.uint8(bit)
            roles[own] |= np.uint8(JUNK)
            positions = np.flatnonzero(roles)
            rows.append((positions, roles[positions]))
            roles[positions] = 0
        return cls(
            num_images=len(image_clusters),
            queries=queries,
            database=database,
            clusters=image_clusters[queries],
            indptr=np.cumsum([0, *(len(positions) for positions, _ in rows)], dtype=np.int64),
            positions=np.concatenate([positions for positions, _ in rows] or [np.empty(0, np.int64)]),
            roles=np.concatenate([roles for _, roles in rows] or [np.empty(0, np.uint8)]),
            num_easy=labels[EASY][0][1:] - labels[EASY][0][:-1],
            num_hard=labels[HARD][0][1:] - labels[HARD][0][:-1],
        )


@dataclass(frozen=True)
class GeometryResult(RevisitedResult):
    """Easy, Medium and Hard over the queries of one split, with the cluster of each query.

    ranks, scores: [Q, K] the best of each query's whole list, the query and other junk included (positions in
    the split's database); K = 0 unless asked for.
    """

    clusters: NDArray[np.int64]
    ranks: NDArray[np.int64]
    scores: NDArray[np.float32]

    @property
    def mean_average_precision(self) -> float:
        """Medium mAP over queries, 0..1 (nan without a counted query): what val chooses by."""
        return self.medium.mean_average_precision

    def protocol(self, name: str) -> ProtocolResult:
        return vars(self)[name]  # type: ignore[no-any-return]

    def mean_over_clusters(self, name: str = "medium") -> float:
        """Mean over clusters of the mean AP of the cluster's counted queries; nan if none counts."""
        return mean_over_clusters(self.protocol(name).average_precisions, self.clusters)


def means_of_clusters(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> NDArray[np.float64]:
    """[C] mean of each cluster's finite values; values [Q], clusters [Q]. Without a finite one a cluster is
    left out."""
    known = np.isfinite(values)
    _, member, sizes = np.unique(clusters[known], return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(member, weights=values[known]) / sizes)


def mean_over_clusters(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """Mean over clusters of the mean of their finite values; nan without one."""
    means = means_of_clusters(values, clusters)
    return float(means.mean()) if means.size else float("nan")


def folds(clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """[Q] the fold of each query, MOST_FOLDS of them or as many as there are clusters: clusters in turn."""
    found, member = np.unique(clusters, return_inverse=True)
    return np.asarray(member % min(MOST_FOLDS, found.size), dtype=np.int64)


def geometry_map(
    descriptors: NDArray[np.float32], training_set: Mapping[str, Any], split: Split = "val"
) -> GeometryResult:
    """Score one network's descriptors on the geometry benchmark of a split.

    descriptors: [N, D], row i belongs to image i of training_set.h5 (rows outside the split are never read);
    training_set: its arrays by path. Larger inner product = nearer. Raises InvalidBenchmark.
    """
    benchmark = GeometryBenchmark.from_arrays(training_set, split)
    if len(descriptors) != benchmark.num_images:
        raise InvalidBenchmark(
            f"{len(descriptors)} descriptors for {benchmark.num_images} images of the training set; "
            "extract one row per image, in its order"
        )
    return score(benchmark, descriptors[benchmark.queries], descriptors[benchmark.database])


def score(
    benchmark: GeometryBenchmark,
    queries: NDArray[np.float32],
    database: NDArray[np.float32],
    *,
    depth: int = 0,
    ks: tuple[int, ...] = (1, 5, 10),
    reorder: Reorder | None = None,
) -> GeometryResult:
    """The same from descriptors of the queries [Q, D] and of the database [N, D]; keeps the best `depth`.

    reorder: what is done to each whole list [N] before it counts. Ties go to the lower database position.
    Peak memory: the two arrays and SCORES_PER_BLOCK scores twice.
    """
    depth = min(depth, len(database))
    ranks = np.empty((len(queries), depth), dtype=np.int64)
    scores = np.empty((len(queries), depth), dtype=np.float32)

    def listed() -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        step = max(1, SCORES_PER_BLOCK // max(1, len(database)))
        for start in range(0, len(queries), step):
            block = queries[start : start + step] @ database.T
            if not np.isfinite(block).all():
                raise InvalidBenchmark("descriptors hold nan or infinite values; check the network's output")
            for q, row in enumerate(block, start):
                order = np.argsort(-row, kind="stable")
                values = row[order]
                if reorder is not None:
                    values, order = reorder(q, values, order)
                ranks[q], scores[q] = order[:depth], values[:depth]
                place = np.empty(len(order), dtype=np.int64)
                place[order] = np.arange(len(order))
                labelled = slice(benchmark.indptr[q], benchmark.indptr[q + 1])
                positions = place[benchmark.positions[labelled]]
                ascending = np.argsort(positions)
                yield positions[ascending], benchmark.roles[labelled][ascending]

    found = score_revisited(listed(), benchmark.num_easy, benchmark.num_hard, ks)
    return GeometryResult(found.easy, found.medium, found.hard, benchmark.clusters, ranks, scores)


_ROLES = {EASY: "easy", HARD: "hard", JUNK: "junk"}


def _indices(arrays: Mapping[str, Any], path: str) -> NDArray[np.int64]:
    if path not in arrays:
        raise InvalidBenchmark(f"the training set has no '{path}'; rebuild it with the stage select")
    return np.asarray(arrays[path], dtype=np.int64)


def _csr(arrays: Mapping[str, Any], base: str, num_rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    indptr, image = _indices(arrays, f"{base}/indptr"), _indices(arrays, f"{base}/image")
    if len(indptr) != num_rows + 1 or indptr[-1] != len(image):
        raise InvalidBenchmark(
            f"'{base}': {len(indptr)} offsets ending at {indptr[-1:]}, "
            f"for {num_rows} queries and {len(image)} entries"
        )
    return indptr, image


def _check_members(members: Mapping[int, NDArray[np.int64]], split: str, query: int, own: int) -> None:
    if own < 0 or any((found < 0).any() for found in members.values()):
        raise InvalidBenchmark(
            f"{split} query {query}: it or one of its labels is outside the split's database"
        )
    if any((members[bit] == own).any() for bit in (EASY, HARD)):
        raise InvalidBenchmark(f"{split} query {query} is its own positive")
