"""Descriptors in place of photographs: they cost no pass of the network, and get no gradient.

Sources: Wang et al., Cross-Batch Memory for Embedding Learning, CVPR 2020 (Memory); Wu et al., Unsupervised
Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018 (Standing).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.describe.describe import DescriptorTable
from retrieval.training.positives import Indices, partners
from retrieval.training.tuples import forbidden
from storage.schemas.table import Ragged

EMPTY = DescriptorTable(np.empty(0, dtype=np.int64), np.empty((0, 0), dtype=np.float32))


class Memory:
    """Further negatives of a tuple: the newest descriptor of each of the last `size` photographs that a
    training described.

    arrays: training_set.h5 by path, with the verdicts found so far; queries [Q]: images that may be asked
    about. images [M] and rows [M, D], the oldest first, are its whole state.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: dict[int, NDArray[np.float32]] = {}
        self._clusters = np.empty(0, dtype=np.int64)
        self._barred: dict[int, NDArray[np.int64]] = {}

    @property
    def images(self) -> NDArray[np.int64]:
        return np.array(list(self._rows), dtype=np.int64)

    @property
    def rows(self) -> NDArray[np.float32]:
        return np.stack(list(self._rows.values())) if self._rows else np.empty((0, 0), dtype=np.float32)

    def restore(self, images: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Hold these instead."""
        self._rows = dict(zip(images.tolist(), rows, strict=True))

    def know(self, arrays: Mapping[str, Any], queries: NDArray[np.int64]) -> None:
        """What is no negative of the queries [Q], by the training set and the verdicts in it."""
        self._clusters = np.asarray(arrays["images/cluster"], dtype=np.int64)
        self._barred = _barred(arrays, queries, np.arange(len(self._clusters)))

    def add(self, tuples: NDArray[np.int64], described: list[NDArray[np.float32]]) -> None:
        """Take the descriptors [L, D] of tuples [T, L]; what is too old goes."""
        for images, rows in zip(tuples.tolist(), described, strict=True):
            for image, row in zip(images, rows, strict=True):
                self._rows.pop(image, None)
                self._rows[image] = row
        for image in list(self._rows)[: max(0, len(self._rows) - self._size)]:
            del self._rows[image]

    def negatives_of(self, images: NDArray[np.int64], anchors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Further negatives [K, D] of a tuple [1 + P + n]; anchors: its query and positives [1 + P, D].

        Left out: the tuple's own photographs, the query's cluster, what is barred, and what lies as near as
        one of the positives, since nobody has matched it.
        """
        if not self._rows:
            return anchors[:0]
        query, held, rows = int(images[0]), self.images, self.rows
        wrong = (self._clusters[held] == self._clusters[query]) | np.isin(held, images)
        wrong |= np.isin(held, self._barred[query])
        wrong |= rows @ anchors[0] >= (anchors[1:] @ anchors[0]).min()
        return rows[~wrong]


class Standing:
    """All that a query is compared with: the descriptors of the last mining, or a teacher's, of one network,
    so that a query cannot leave its negatives behind by moving away from what is older.

    The table is its whole state, a teacher's is none. know(arrays, tuples [T, 1 + P + n], pool [M]) before
    `others` is asked about these tuples. Photographs that are no query of the training set, or their own
    positive, are never compared with those that they, or their cluster, were matched with or may match.
    """

    def __init__(self, teacher: DescriptorTable | None = None) -> None:
        self.teacher = teacher
        self.table = teacher or EMPTY
        self._pool = self._clusters = np.empty(0, dtype=np.int64)
        self._barred: dict[int, Indices] = {}

    def forget(self) -> None:
        """An epoch is over: the next mining gives another table, and no checkpoint has to hold this one."""
        self.table = self.teacher or EMPTY

    def know(self, arrays: Mapping[str, Any], tuples: Indices, pool: Indices) -> None:
        """What is no negative of whom, by the training set and the verdicts in it."""
        self._pool, self._clusters = pool, np.asarray(arrays["images/cluster"], dtype=np.int64)
        beside = (tuples[:, 1] == tuples[:, 0]) | ~np.isin(tuples[:, 0], arrays["queries/image"])
        self._barred = _barred(arrays, np.unique(tuples[~beside, 0]), pool)
        refused = ~np.asarray(arrays["negatives/allowed"], dtype=bool)
        images, clusters = (np.asarray(arrays[f"negatives/{name}"])[refused] for name in ("image", "cluster"))
        known = partners(arrays)
        for image in tuples[beside, 0].tolist():
            like = images[clusters == self._clusters[image]]
            near = np.append(clusters[images == image], self._clusters[known.row(image)])
            self._barred[image] = np.flatnonzero(np.isin(pool, like) | np.isin(self._clusters[pool], near))

    def others(self, images: Indices, positives: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Descriptors of the positives [P, D] of a tuple [1 + P + n], and of all its negatives [K, D]: the
        pool without the query's cluster and without what is barred."""
        query = int(images[0])
        usable = self._clusters[self._pool] != self._clusters[query]
        usable[self._barred[query]] = False
        return self.table[images[1 : 1 + positives]], self.table[self._pool[usable]]


def _barred(arrays: Mapping[str, Any], queries: Indices, pool: Indices) -> dict[int, Indices]:
    """Query -> positions in the pool of what is never its negative."""
    found = forbidden(arrays, queries, pool)
    rows = Ragged(found.indptr.astype(np.int64), found.indices.astype(np.int64))
    return {query: rows.row(place) for place, query in enumerate(queries.tolist())}
