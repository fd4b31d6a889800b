"""Guards between clusters: two clusters may show one place although no pair of theirs was verified.

A symmetric temple falls into two clusters that matching never joined. Clusters whose photographs share more
raw inliers than chance gives are therefore no negatives of each other, and junk in the benchmark.
Photographs without any verified pair are guarded more strictly, see `sfm.selection.guards`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.schemas.table import Ragged

if TYPE_CHECKING:
    from sfm.scene.scene import Scene
    from sfm.scene.tables import Pairs

MOST_MEMBERS = 30
"""Photographs of a cluster that look for others; larger clusters send every n-th by sha256."""

Indices = NDArray[np.int64]


def nearest_pairs(
    scene: Scene,
    descriptors: NDArray[np.float32],
    splits: NDArray[np.int8],
    *,
    num_clusters: int,
    num_pairs: int,
) -> Indices:
    """[K, 2] the `num_pairs` nearest photographs of every cluster with a model and each of the `num_clusters`
    larger clusters of its split that are nearest to it.

    descriptors: [N, D] L2-normalised, aligned with scene.photos; splits: [C]. Memory: 30 photographs times
    the sampled ones of a split.
    """
    size = sizes(scene, len(splits))
    sampled = _sampled(scene, size)
    found = [np.empty((0, 2), dtype=np.int64)]
    for cluster in np.unique(scene.models.cluster).tolist():
        own = scene.photos.cluster[sampled] == cluster
        others = sampled[~own & (splits[scene.photos.cluster[sampled]] == splits[cluster])]
        if others.size:
            mine = sampled[own]
            similarity = descriptors[mine] @ descriptors[others].T
            found.append(
                _best(similarity, mine, others, scene.photos.cluster[others], num_clusters, num_pairs)
            )
    return np.concatenate(found)


def all_attempts(scene: Scene, matched: Pairs | None) -> tuple[Indices, Indices]:
    """[A, 2] photographs and [A] raw inliers of the scene's attempts and of those made since."""
    tables = [scene.attempts] if matched is None else [scene.attempts, matched]
    ends = np.concatenate([np.stack([table.first, table.second], axis=1) for table in tables])
    return ends, np.concatenate([table.inliers for table in tables])


def agreeing(
    scene: Scene, matched: Pairs | None, splits: NDArray[np.int8], least: int
) -> tuple[Indices, Indices]:
    """Pairs of accepted photographs of one split with at least `least` raw inliers, within clusters and
    between them.

    -> [K, 2] photographs, smaller first, in order, and [K] the most raw inliers.
    """
    ends, inliers = all_attempts(scene, matched)
    cluster = scene.photos.cluster[ends]
    keep = (inliers >= least) & (cluster >= 0).all(axis=1)
    keep &= splits[cluster[:, 0]] == splits[cluster[:, 1]]
    return _most(np.sort(ends[keep], axis=1), inliers[keep])


def may_match(scene: Scene, matched: Pairs | None, guard_inliers: int) -> tuple[Indices, Indices]:
    """Clusters of two and more photographs that share at least `guard_inliers` raw inliers in some pair.

    -> [K, 2] clusters, smaller first, and [K] the most raw inliers.
    """
    ends, inliers = all_attempts(scene, matched)
    clusters = np.sort(scene.photos.cluster[ends], axis=1)
    size = sizes(scene, int(scene.photos.cluster.max(initial=-1)) + 1)
    accepted = clusters[:, 0] >= 0
    keep = accepted & (clusters[:, 0] != clusters[:, 1]) & (inliers >= guard_inliers)
    keep &= (size[clusters] > 1).all(axis=1)
    return _most(clusters[keep], inliers[keep])


def _most(pairs: Indices, inliers: Indices) -> tuple[Indices, Indices]:
    """Different pairs [K, 2] in order, and the most inliers of each [K]."""
    different, row = np.unique(pairs, axis=0, return_inverse=True)
    most = np.zeros(len(different), dtype=np.int64)
    np.maximum.at(most, row.reshape(-1), inliers)
    return different, most


def barred(
    scene: Scene, splits: NDArray[np.int8], matched: Pairs | None, guard_inliers: int
) -> tuple[Indices, Indices, Indices]:
    """(photographs, query clusters, raw inliers) [V] of clusters that may match."""
    pairs, most = may_match(scene, matched, guard_inliers)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    asked = np.isin(both[:, 0], scene.models.cluster) & (splits[both[:, 0]] == splits[both[:, 1]])
    cluster, other = both[asked].T
    members = Ragged.from_rows([np.flatnonzero(scene.photos.cluster == each) for each in other.tolist()])
    counts = np.diff(members.indptr)
    return members.image, np.repeat(cluster, counts), np.repeat(np.tile(most, 2)[asked], counts)


def sizes(scene: Scene, num_clusters: int) -> Indices:
    """[C] photographs of each cluster."""
    return np.bincount(scene.photos.cluster[scene.photos.cluster >= 0], minlength=num_clusters)


def _sampled(scene: Scene, size: Indices) -> Indices:
    """Photographs of clusters of two and more, at most MOST_MEMBERS of each, by cluster and sha256."""
    accepted = np.flatnonzero(scene.photos.cluster >= 0)
    accepted = accepted[size[scene.photos.cluster[accepted]] > 1]
    order = accepted[np.lexsort((scene.photos.sha256[accepted], scene.photos.cluster[accepted]))]
    cluster = scene.photos.cluster[order]
    place = np.arange(order.size) - np.searchsorted(cluster, cluster)
    stride = -(-size[cluster] // MOST_MEMBERS)
    return order[place % stride == 0]


def _best(
    similarity: NDArray[np.float32],
    mine: Indices,
    others: Indices,
    cluster: Indices,
    num_clusters: int,
    num_pairs: int,
) -> Indices:
    """[K, 2] the most similar (mine, other) of each of the nearest clusters; others by cluster."""
    starts = np.flatnonzero(np.diff(cluster, prepend=-2))
    stops = np.append(starts[1:], cluster.size)
    nearest = np.argsort(-np.maximum.reduceat(similarity.max(axis=0), starts), kind="stable")[:num_clusters]
    found = []
    for group in nearest.tolist():
        columns = np.arange(starts[group], stops[group])
        block = similarity[:, columns]
        order = np.argsort(-block, axis=None, kind="stable")[:num_pairs]
        row, column = np.unravel_index(order, block.shape)
        found.append(np.stack([mine[row], others[columns[column]]], axis=1))
    return np.concatenate(found)
