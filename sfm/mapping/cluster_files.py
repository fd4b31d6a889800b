"""Clusters as they are written: who reads them does not depend on how they are found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cluster:
    """Photographs (sorted sha256) and the verified pairs among them (smaller sha256 first, sorted).

    parts: what they are mapped in where they are too many for one mapper; none = all together.
    """

    photographs: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    parts: tuple[tuple[str, ...], ...] = ()

    @property
    def name(self) -> str:
        """The cluster's identity in a growing collection: its smallest sha256."""
        return self.photographs[0]

    def units(self) -> list[Cluster]:
        """What one mapper works on: the cluster itself, or each part with the pairs inside it."""
        if not self.parts:
            return [self]
        part_of = {sha: number for number, part in enumerate(self.parts) for sha in part}
        pairs: list[list[tuple[str, str]]] = [[] for _ in self.parts]
        for first, second in self.pairs:
            if part_of[first] == part_of[second]:
                pairs[part_of[first]].append((first, second))
        return [Cluster(part, tuple(inside)) for part, inside in zip(self.parts, pairs, strict=True)]


@dataclass(frozen=True)
class CutBridge:
    """A verified pair that was not enough to join two clusters, and how many photographs these have."""

    pair: tuple[str, str]
    inliers: int
    photographs: tuple[int, int]


def read_clusters(path: Path) -> list[Cluster]:
    """The clusters that `sfm.mapping.clusters.find_clusters` wrote."""
    return [
        Cluster(
            tuple(row["photographs"]),
            tuple((a, b) for a, b in row["pairs"]),
            tuple(tuple(part) for part in row.get("parts", ())),
        )
        for row in json.loads(path.read_text())["clusters"]
    ]
