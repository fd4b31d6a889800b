"""Guards of negatives.

Before a photograph without verified pairs stands for "another place", it is matched once more.

Such a photograph is a cluster of its own (a singleton). Descriptor neighbours may simply have missed the
landmark that it shows; so it is matched against the query clusters that look most like it, and in val and
test against every model. Only a singleton with a verdict `allowed` may be a negative of a cluster's
queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.selection import cluster_guards
from sfm.training_set.splits import TRAIN
from storage.keys.options import Options

if TYPE_CHECKING:
    from sfm.scene.scene import Scene
    from sfm.scene.tables import Pairs

_BLOCK_SIMILARITIES = 8_000_000


class BadDescriptors(ValueError):
    """Descriptors that are not aligned with the photographs."""


class GuardOptions(Options):
    """How thoroughly photographs are matched before they may be negatives."""

    guard_clusters: int = Field(
        default=10, ge=1, description="query clusters, nearest by descriptor, per singleton"
    )
    guard_photographs: int = Field(
        default=3, ge=1, description="photographs of such a cluster that it is matched to"
    )
    guard_inliers: int = Field(
        default=8, ge=1, description="raw inliers from which the singleton may show the cluster"
    )


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Verdicts [V] on (singleton photograph, query cluster), sorted; photo counts over scene.photos."""

    photo: NDArray[np.int64]
    cluster: NDArray[np.int64]
    max_inliers: NDArray[np.int64]
    allowed: NDArray[np.bool_]


def singletons(scene: Scene) -> NDArray[np.int64]:
    """[S] accepted photographs without a verified pair: the only one of their cluster."""
    accepted = np.flatnonzero(scene.photos.cluster >= 0)
    size = np.bincount(scene.photos.cluster[accepted])
    return accepted[size[scene.photos.cluster[accepted]] == 1]


def well_connected(scene: Scene, model: int, count: int = 3) -> NDArray[np.int64]:
    """Photographs of a model with most verified pairs inside it, then most points, then smallest sha256."""
    rows = np.flatnonzero(scene.cameras.model == model)
    photo = scene.cameras.photo[rows]
    inside = np.isin(scene.pairs.first, photo) & np.isin(scene.pairs.second, photo)
    ends = np.concatenate([scene.pairs.first[inside], scene.pairs.second[inside]])
    degree = np.bincount(ends, minlength=scene.photos.cluster.size)[photo]
    points = np.diff(scene.visibility.indptr)[rows]
    return photo[np.lexsort((scene.photos.sha256[photo], -points, -degree))][:count]


def proposals(
    scene: Scene,
    descriptors: NDArray[np.float32],
    splits: NDArray[np.int8],
    options: GuardOptions | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of photographs still to match before `verdicts` can say something.

    descriptors: [N, D] L2-normalised, aligned with scene.photos (rows of photographs that are not ok are
    ignored); splits: [C] of the clusters -> first, second [K] photographs, first < second, sorted, none of
    them matched before. Memory: a block of singletons times all registered photographs of a split. Raises
    BadDescriptors.
    """
    options = options or GuardOptions()
    if len(descriptors) != scene.photos.cluster.size:
        raise BadDescriptors(
            f"{len(descriptors)} descriptors for {scene.photos.cluster.size} photographs; "
            "give one row per photograph"
        )
    alone = singletons(scene)
    wanted = [np.empty((0, 2), dtype=np.int64)]
    for split in np.unique(splits):
        mine = alone[splits[scene.photos.cluster[alone]] == split]
        wanted.append(
            _nearest_of_clusters(scene, descriptors, mine, _query_photos(scene, splits, split), options)
        )
        if split != TRAIN:
            connected = _connected(scene, splits[scene.models.cluster] == split, options.guard_photographs)
            wanted.append(np.stack([np.repeat(mine, connected.size), np.tile(connected, mine.size)], axis=1))
    return unmatched(scene, np.concatenate(wanted))


def unmatched(scene: Scene, pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs [K, 2] of photographs in any order -> first < second, sorted, each once; no matched ones."""
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    matched = np.isin(
        _key(scene, pairs[:, 0], pairs[:, 1]), _key(scene, scene.attempts.first, scene.attempts.second)
    )
    return pairs[~matched, 0], pairs[~matched, 1]


def verdicts(
    scene: Scene,
    splits: NDArray[np.int8],
    matched: Pairs | None = None,
    options: GuardOptions | None = None,
) -> Verdicts:
    """What is known about every (singleton, query cluster of its split) that was matched at all, and the
    photographs of larger clusters that may show the query cluster's place (never allowed).

    matched: the proposals with their raw inliers, beside scene.attempts. `allowed` = fewer raw inliers than
    the guard's with every photograph of the cluster that it was matched to, and matched to enough of them:
    three (or all), in val and test three well-connected ones of every model of the cluster.
    """
    options = options or GuardOptions()
    photo, other, inliers = _singleton_matches(scene, matched)
    cluster = scene.photos.cluster[other]
    here = np.isin(cluster, scene.models.cluster) & (splits[cluster] == splits[scene.photos.cluster[photo]])
    photo, other, cluster, inliers = photo[here], other[here], cluster[here], inliers[here]
    pair, row = np.unique(np.stack([photo, cluster], axis=1), axis=0, return_inverse=True)
    most = np.zeros(len(pair), dtype=np.int64)
    np.maximum.at(most, row.reshape(-1), inliers)
    _, once = np.unique(_key(scene, photo, other), return_index=True)
    tried = np.bincount(row.reshape(-1)[once], minlength=len(pair))
    size = cluster_guards.sizes(scene, len(splits))
    thorough = tried >= np.minimum(options.guard_photographs, size[pair[:, 1]])
    held_back = np.flatnonzero(splits[pair[:, 1]] != TRAIN)
    met = _met_every_model(scene, pair[held_back], _key(scene, photo, other), options.guard_photographs)
    thorough[held_back] &= met
    bars = cluster_guards.barred(scene, splits, matched, options.guard_inliers)
    photo, cluster = np.append(pair[:, 0], bars[0]), np.append(pair[:, 1], bars[1])
    allowed = np.append(thorough & (most < options.guard_inliers), np.zeros(bars[0].size, dtype=bool))
    order = np.lexsort((cluster, photo))
    return Verdicts(photo[order], cluster[order], np.append(most, bars[2])[order], allowed[order])


def benchmark_junk(scene: Scene, splits: NDArray[np.int8], table: Verdicts) -> dict[int, NDArray[np.int64]]:
    """Query cluster of val and test -> singletons of its split that no verdict clears, and clusters that may
    match.

    Neither right nor wrong answers.
    """
    alone = singletons(scene)
    clusters = np.unique(scene.models.cluster)
    cleared = _key(scene, table.photo[table.allowed], table.cluster[table.allowed])
    result = {}
    for cluster in clusters[splits[clusters] != TRAIN].tolist():
        mine = alone[splits[scene.photos.cluster[alone]] == splits[cluster]]
        doubtful = mine[~np.isin(_key(scene, mine, np.full(mine.size, cluster)), cleared)]
        refused = table.photo[(table.cluster == cluster) & ~table.allowed]
        result[cluster] = np.union1d(doubtful, refused)
    return result


def _key(scene: Scene, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    return first * np.int64(scene.photos.cluster.size + 1) + second


def _query_photos(scene: Scene, splits: NDArray[np.int8], split: int) -> NDArray[np.int64]:
    """Accepted photographs of the clusters of a split that have a model, by cluster."""
    clusters = np.unique(scene.models.cluster)
    member = np.flatnonzero(np.isin(scene.photos.cluster, clusters[splits[clusters] == split]))
    return member[np.argsort(scene.photos.cluster[member], kind="stable")]


def _connected(scene: Scene, models: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """The `well_connected` photographs of some models, sorted."""
    rows = [well_connected(scene, model, count) for model in np.flatnonzero(models).tolist()]
    return np.unique(np.concatenate([np.empty(0, np.int64), *rows]))


def _nearest_of_clusters(
    scene: Scene,
    descriptors: NDArray[np.float32],
    alone: NDArray[np.int64],
    members: NDArray[np.int64],
    options: GuardOptions,
) -> NDArray[np.int64]:
    """[K, 2] every singleton with the nearest photographs of the clusters nearest to it."""
    if alone.size == 0 or members.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    starts = np.flatnonzero(np.diff(scene.photos.cluster[members], prepend=-2))
    sizes = np.diff(np.append(starts, members.size))
    keep = min(options.guard_clusters, starts.size)
    step = max(1, _BLOCK_SIMILARITIES // members.size)
    found = []
    for first in range(0, alone.size, step):
        block = alone[first : first + step]
        similarity = descriptors[block] @ descriptors[members].T
        best = np.maximum.reduceat(similarity, starts, axis=1)
        chosen = np.argsort(-best, axis=1, kind="stable")[:, :keep].reshape(-1)
        row = np.repeat(np.arange(block.size), keep)
        task = np.repeat(np.arange(chosen.size), sizes[chosen])
        within = np.arange(task.size) - np.repeat(np.cumsum(sizes[chosen]) - sizes[chosen], sizes[chosen])
        column = starts[chosen][task] + within
        order = np.lexsort((column, -similarity[row[task], column], task))
        place = np.arange(task.size) - np.searchsorted(task, task)
        near = order[place < options.guard_photographs]
        found.append(np.stack([block[row[task[near]]], members[column[near]]], axis=1))
    return np.concatenate(found)


def _singleton_matches(
    scene: Scene, matched: Pairs | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Every match of a singleton: the singleton, the other photograph (accepted), raw inliers."""
    ends, inliers = cluster_guards.all_attempts(scene, matched)
    one, other = np.concatenate([ends, ends[:, ::-1]]).T
    alone = np.zeros(scene.photos.cluster.size, dtype=bool)
    alone[singletons(scene)] = True
    keep = alone[one] & (scene.photos.cluster[other] >= 0)
    return one[keep], other[keep], np.tile(inliers, 2)[keep]


def _met_every_model(
    scene: Scene, pairs: NDArray[np.int64], met: NDArray[np.int64], count: int
) -> NDArray[np.bool_]:
    """[V] whether the singleton was matched to the well-connected photographs of every model."""
    result = np.ones(len(pairs), dtype=bool)
    for cluster in np.unique(pairs[:, 1]).tolist():
        photos = _connected(scene, scene.models.cluster == cluster, count)
        rows = np.flatnonzero(pairs[:, 1] == cluster)
        keys = _key(scene, np.repeat(pairs[rows, 0], photos.size), np.tile(photos, rows.size))
        result[rows] = np.isin(keys, met).reshape(rows.size, photos.size).all(axis=1)
    return result
