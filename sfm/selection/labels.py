"""The geometry benchmark.

3D models of held-back clusters as labels, so that a retrieval can be measured without a person.

Query: a registered photograph of the split. Database: all photographs of the split. easy: overlap >= 0.2 at
a scale change <= 1.5. hard: not easy, 15 shared points or more. junk: the query, near duplicates (overlap
>= 0.9 at a scale change <= 1.1), the rest of the cluster, singletons that no verdict clears. All else is
negative. The labels depend on no descriptor under evaluation; the thresholds are constants of the layout's
version 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sfm.scene import geometry
from sfm.selection.model_views import ModelView
from sfm.selection.strategies import alike
from storage.schemas.table import Ragged
from storage.schemas.training_set import Benchmark

if TYPE_CHECKING:
    from sfm.scene.scene import Scene

EASY_OVERLAP, EASY_SCALE_CHANGE = 0.2, 1.5
HARD_SHARED_POINTS = 15
DUPLICATE_OVERLAP, DUPLICATE_SCALE_CHANGE = 0.9, 1.1


def label(
    scene: Scene,
    views: Sequence[ModelView],
    splits: NDArray[np.int8],
    split: int,
    uncleared: Mapping[int, NDArray[np.int64]],
    image_of: NDArray[np.int64],
    max_queries_per_model: int = 100,
) -> Benchmark:
    """Labels of one split (1 val, 2 test).

    views: one per model; splits: [C] of the clusters; uncleared: cluster -> singleton photographs that are
    junk for its queries; image_of: [N] photograph -> image. A query has at least one easy or hard image;
    larger models than `max_queries_per_model` give that many, spread by co-visibility.
    """
    photos = scene.photos
    accepted = np.flatnonzero(photos.cluster >= 0)
    database = image_of[accepted[splits[photos.cluster[accepted]] == split]]
    rows: list[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
    for model in np.flatnonzero(splits[scene.models.cluster] == split).tolist():
        cluster = int(scene.models.cluster[model])
        members = image_of[np.flatnonzero(photos.cluster == cluster)]
        doubtful = image_of[uncleared.get(cluster, np.empty(0, dtype=np.int64))]
        for query, easy, hard in _answers(views[model], max_queries_per_model):
            easy, hard = (np.sort(image_of[views[model].photo[found]]) for found in (easy, hard))
            rest = members[~np.isin(members, np.concatenate([easy, hard]))]
            rows.append((int(image_of[views[model].photo[query]]), easy, hard, np.union1d(rest, doubtful)))
    rows.sort(key=lambda row: row[0])
    return Benchmark(
        np.array([row[0] for row in rows], dtype=np.int64),
        np.sort(database),
        Ragged.from_rows([easy for _, easy, _, _ in rows]),
        Ragged.from_rows([hard for _, _, hard, _ in rows]),
        Ragged.from_rows([junk for _, _, _, junk in rows]),
    )


def _answers(view: ModelView, most: int) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """(query, easy, hard) as images of the view, for every query that has an answer."""
    queries = _queries(view, most)
    shared = geometry.shared_points(view.visibility, queries)
    row = np.repeat(np.arange(queries.size), np.diff(shared.indptr))
    other = shared.indices != queries[row]
    row, image, count = row[other], shared.indices[other].astype(np.int64), shared.data[other]
    overlap = (count / view.points_seen[queries[row]]).astype(np.float32)
    near = np.flatnonzero(overlap >= np.float32(EASY_OVERLAP))
    change = np.full(count.size, np.nan, dtype=np.float32)
    change[near] = geometry.scale_change(
        view.visibility, view.depth, view.focal_px, queries[row[near]], image[near]
    )
    twin = alike(overlap, change, DUPLICATE_OVERLAP, DUPLICATE_SCALE_CHANGE)
    easy = alike(overlap, change, EASY_OVERLAP, EASY_SCALE_CHANGE) & ~twin
    hard = ~easy & ~twin & (count >= HARD_SHARED_POINTS)
    answered = np.unique(row[easy | hard])
    return [(int(queries[q]), image[easy & (row == q)], image[hard & (row == q)]) for q in answered.tolist()]


def _queries(view: ModelView, most: int) -> NDArray[np.int64]:
    seeing = np.flatnonzero(view.points_seen > 0)
    if seeing.size <= most:
        return seeing
    chosen = []
    for image, _, accept in islice(view.spread(), most):
        accept()
        chosen.append(image)
    view.release()
    return np.sort(np.array(chosen, dtype=np.int64))
