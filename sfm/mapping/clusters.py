"""Clusters: connected components of the graph of verified pairs. A photograph without any is its own.

A pair that alone joins two groups must be surer than others (`sfm.mapping.bridges`). A cluster that is too
large for one mapper is mapped in parts (`sfm.mapping.partition`) and stays one cluster: they show one place.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.mapping import partition
from sfm.mapping.bridges import weak_bridges
from sfm.mapping.cluster_files import Cluster, CutBridge
from sfm.mapping.components import component_labels
from storage.keys.options import Options
from storage.keys.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="clusters",
    version=2,
    kind="file",
    suffix=".json",
    packages=("networkx", "numpy", "scipy"),
    code=__name__,
)


class ClusterOptions(Options):
    """What makes photographs one cluster."""

    min_inliers: int = Field(15, ge=1, description="inliers of a pair that joins two photographs")
    bridge_inliers: int = Field(
        18, ge=0, description="inliers of a pair that alone joins two groups of photographs; 0 = as any pair"
    )
    bridge_third_inliers: int = Field(
        12,
        ge=1,
        description="raw inliers with a third photograph that let such a pair join them with fewer; a third "
        "photograph is verified with one of the two and has so many with the other",
    )
    bridge_min_side: int = Field(
        3, ge=2, description="photographs of each group, at least, for the pair to be in doubt"
    )
    max_cluster_size: int = Field(
        500,  # as in COLMAP's hierarchical mapper
        ge=10,
        description="photographs of a cluster that are mapped together; more are mapped in parts",
    )


class UnknownPhotograph(ValueError):
    """A pair names a photograph that is not in the collection."""


def find_clusters(
    shas: Sequence[str],
    attempts: Sequence[tuple[str, str]],
    inliers: NDArray[np.int64],
    options: ClusterOptions,
    out: Path,
) -> list[Cluster]:
    """Write the clusters of N photographs to `out` as JSON, numbered by their smallest sha256.

    attempts: pairs matched, inliers: [A] raw inliers of each. The file also tells which pairs were cut as
    false bridges. Raises UnknownPhotograph.
    """
    ordered = sorted(set(shas))
    tried, counts = _sorted_pairs(ordered, attempts, inliers, options.min_inliers)
    joins = counts >= options.min_inliers
    edges, weights = tried[joins], counts[joins]
    cut = weak_bridges(
        edges, weights, tried, counts, len(ordered),
        enough=options.bridge_inliers, third=options.bridge_third_inliers, least=options.bridge_min_side,
    )  # fmt: skip
    kept = np.delete(edges, cut, axis=0)
    labels = component_labels(kept, len(ordered))
    clusters = _collect(ordered, labels, kept, np.delete(weights, cut), options.max_cluster_size)
    bridges = _cut_bridges(ordered, labels, edges[cut], weights[cut])
    rows = [_row(each) for each in clusters]
    told = [{"reason": "bridge", **asdict(each)} for each in bridges]
    out.write_text(json.dumps({"clusters": rows, "cut": told}, indent=1) + "\n")
    _log(clusters, bridges, len(ordered))
    return clusters


def _sorted_pairs(
    ordered: list[str], attempts: Sequence[tuple[str, str]], inliers: NDArray[np.int64], least: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[A, 2] positions of the pairs tried, smaller first, sorted, and [A] their inliers.

    A pair below `least` inliers that names a stranger is left out, another raises UnknownPhotograph.
    """
    position = {sha: index for index, sha in enumerate(ordered)}
    rows = []
    for pair, count in zip(attempts, inliers.tolist(), strict=True):
        strangers = [sha for sha in pair if sha not in position]
        if not strangers:
            rows.append((*sorted(position[sha] for sha in pair), count))
        elif count >= least:
            raise UnknownPhotograph(
                f"pair {min(pair)}-{max(pair)}: {strangers[0]} is not in the collection; match again"
            )
    table = np.array(sorted(rows), np.int64).reshape(-1, 3)
    return table[:, :2], table[:, 2]


def _collect(
    ordered: list[str],
    labels: NDArray[np.int64],
    edges: NDArray[np.int64],
    weights: NDArray[np.int64],
    largest: int,
) -> list[Cluster]:
    """The clusters by label [N]: edges [K, 2] sorted, weights [K] their inliers."""
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    order = np.argsort(labels[edges[:, 0]], kind="stable")
    starts = np.searchsorted(labels[edges[order, 0]], np.arange(len(members) + 1))
    clusters = []
    for number, nodes in enumerate(members if len(ordered) else ()):
        rows = order[starts[number] : starts[number + 1]]
        parts: list[NDArray[np.int64]] = []
        if nodes.size > largest:
            parts = partition.split(np.searchsorted(nodes, edges[rows]), weights[rows], nodes.size, largest)
        pairs = tuple((ordered[a], ordered[b]) for a, b in edges[rows].tolist())
        named = tuple(_names(ordered, nodes[part]) for part in parts)
        clusters.append(Cluster(_names(ordered, nodes), pairs, named))
    return clusters


def _names(ordered: list[str], nodes: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(ordered[node] for node in nodes.tolist())


def _cut_bridges(
    ordered: list[str], labels: NDArray[np.int64], edges: NDArray[np.int64], inliers: NDArray[np.int64]
) -> list[CutBridge]:
    sizes = np.bincount(labels)
    return [
        CutBridge((ordered[a], ordered[b]), count, (int(sizes[labels[a]]), int(sizes[labels[b]])))
        for (a, b), count in zip(edges.tolist(), inliers.tolist(), strict=True)
    ]


def _row(cluster: Cluster) -> dict[str, Any]:
    row: dict[str, Any] = {"photographs": cluster.photographs, "pairs": cluster.pairs}
    return {**row, "parts": cluster.parts} if cluster.parts else row


def _log(clusters: list[Cluster], bridges: list[CutBridge], count: int) -> None:
    large = sum(len(each.photographs) >= 3 for each in clusters)
    logger.info("%d clusters of %d photographs, %d of 3 or more", len(clusters), count, large)
    for each in bridges:
        logger.info(
            "%s-%s (%d inliers) alone would join clusters of %d and %d photographs: not joined",
            each.pair[0][:12], each.pair[1][:12], each.inliers, *each.photographs,
        )  # fmt: skip
    for cluster in clusters:
        if cluster.parts:
            sizes = ", ".join(str(len(part)) for part in cluster.parts)
            logger.info("cluster %s is mapped in parts of %s photographs", cluster.name[:12], sizes)
