"""Clusters: connected components of the graph of verified pairs. A photograph without any is its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from storage.options import Options
from storage.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="clusters",
    version=1,
    kind="file",
    suffix=".json",
    packages=("numpy", "scipy"),
    modules=("sfm.clusters",),
)


class ClusterOptions(Options):
    """What makes photographs one cluster."""

    min_inliers: int = Field(15, ge=1, description="inliers of a pair that joins two photographs")


class UnknownPhotograph(ValueError):
    """A pair names a photograph that is not in the collection."""


@dataclass(frozen=True)
class Cluster:
    """Photographs (sorted sha256) and the verified pairs among them (smaller sha256 first, sorted)."""

    photographs: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The cluster's identity in a growing collection: its smallest sha256."""
        return self.photographs[0]


def find_clusters(
    shas: Sequence[str],
    attempts: Sequence[tuple[str, str]],
    inliers: NDArray[np.int64],
    options: ClusterOptions,
    out: Path,
) -> list[Cluster]:
    """Write the clusters of N photographs to `out` as JSON, numbered by their smallest sha256.

    attempts: pairs matched, inliers: [A] raw inliers of each. Raises UnknownPhotograph.
    """
    ordered = sorted(set(shas))
    position = {sha: index for index, sha in enumerate(ordered)}
    verified = sorted(
        (min(pair), max(pair))
        for pair, count in zip(attempts, inliers.tolist(), strict=True)
        if count >= options.min_inliers
    )
    for pair in verified:
        for sha in pair:
            if sha not in position:
                raise UnknownPhotograph(
                    f"pair {pair[0]}-{pair[1]}: {sha} is not in the collection; match again"
                )
    edges = np.array([(position[a], position[b]) for a, b in verified], np.int64).reshape(-1, 2)
    labels = component_labels(edges, len(ordered))
    clusters = _collect(ordered, labels, verified, position)
    rows = [{"photographs": each.photographs, "pairs": each.pairs} for each in clusters]
    out.write_text(json.dumps({"clusters": rows}, indent=1) + "\n")
    large = sum(len(each.photographs) >= 3 for each in clusters)
    logger.info("%d clusters of %d photographs, %d of 3 or more", len(clusters), len(ordered), large)
    return clusters


def read_clusters(path: Path) -> list[Cluster]:
    """The clusters that `find_clusters` wrote."""
    rows = json.loads(path.read_text())["clusters"]
    return [Cluster(tuple(row["photographs"]), tuple((a, b) for a, b in row["pairs"])) for row in rows]


def component_labels(edges: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Connected component of each of `count` nodes: edges [K, 2] -> [count], by their smallest node."""
    graph = csr_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    raw = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(raw, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def _collect(
    ordered: list[str], labels: NDArray[np.int64], verified: list[tuple[str, str]], position: dict[str, int]
) -> list[Cluster]:
    members: list[list[str]] = [[] for _ in range(int(labels.max(initial=-1)) + 1)]
    for sha, label in zip(ordered, labels.tolist(), strict=True):
        members[label].append(sha)
    pairs: list[list[tuple[str, str]]] = [[] for _ in members]
    for pair in verified:
        pairs[labels[position[pair[0]]]].append(pair)
    return [Cluster(tuple(m), tuple(p)) for m, p in zip(members, pairs, strict=True)]
