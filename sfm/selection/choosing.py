"""From a scene to a training set.

Split, queries, candidates, positives, guarded negatives, geometry benchmark.

Positives come from the same 3D model, negatives from another cluster of the same split.
Source: Radenovic, Tolias, Chum, TPAMI 2018, section 4.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.selection import guards, labels
from sfm.selection.guards import GuardOptions, Verdicts
from sfm.selection.model_views import ModelView
from sfm.selection.queries import PAPER_FRACTION, Sampler, draw_queries
from sfm.selection.strategies import m1_pool, m2, m3
from sfm.training_set import splits
from sfm.training_set.splits import SPLIT_NAMES, TRAIN, PreviousSplits
from sfm.training_set.tables import Candidates, Negatives
from sfm.training_set.training_set import TrainingSet
from storage.keys.options import ContentPath, Options
from storage.schemas.table import Ragged
from storage.schemas.training_set import Images, Positives, Queries

if TYPE_CHECKING:
    from sfm.scene.scene import Scene


_log = logging.getLogger(__name__)


class NoModels(ValueError):
    """A scene without a single 3D model teaches nothing."""


class NoQueries(ValueError):
    """No photograph of train has a positive."""


class SelectionOptions(Options):
    """The paper's constants; the fraction of queries rises by itself on small collections."""

    pool_k: int = Field(default=100, ge=1, description="images of the model with the nearest camera centres")
    min_overlap: float = Field(default=0.2, ge=0, le=1, description="m3: shared points / points of the query")
    max_scale_change: float = Field(
        default=1.5, ge=1, description="m3: median ratio of scales over shared points"
    )
    query_fraction: Literal["auto"] | float = Field(
        default="auto",
        description="share of a model's images that are queries; auto = 0.10, more where train gets few",
    )
    min_queries_per_model: int = Field(
        default=1, ge=0, description="queries per model, where positives allow"
    )
    max_queries_per_model: int = Field(
        default=30, ge=1, description="queries per model; not where auto raises the fraction"
    )
    min_train_queries: int = Field(
        default=2000, ge=1, description="queries of train below which auto raises the fraction"
    )
    val_fraction: float = Field(
        default=0.10, ge=0, lt=1, description="share of the clusters that choose epochs"
    )
    test_fraction: float = Field(
        default=0.20, ge=0, lt=1, description="share of the clusters that only measure"
    )
    near_duplicate_overlap: float = Field(
        default=0.9, ge=0, le=1, description="with the next one: never m2 beside another"
    )
    near_duplicate_scale_change: float = Field(
        default=1.1, ge=1, description="ratio of scales of a near duplicate, at most"
    )
    max_benchmark_queries_per_model: int = Field(
        default=100, ge=1, description="queries of the benchmark per model"
    )
    matched_inliers: int = Field(
        default=10,
        ge=8,
        description="raw inliers from which a pair counts as matched, with or without a model",
    )
    guards: GuardOptions = Field(default=GuardOptions(), description="checks of singletons as negatives")
    previous: ContentPath | None = Field(
        default=None, description="training_set.h5 whose splits existing clusters keep"
    )


def select(
    scene: Scene, options: SelectionOptions | None = None, seed: int = 0, verdicts: Verdicts | None = None
) -> TrainingSet:
    """Choose what a network is trained and measured on.

    scene: all arrays of scene.h5 (`Scene.from_h5(path, for_selection=True)` is enough); seed: of the split;
    verdicts: of `guards.verdicts` after the proposed pairs were matched, None = from the scene's own
    attempts. Raises NoModels, NoQueries.
    """
    options = options or SelectionOptions()
    if scene.models.cluster.size == 0:
        raise NoModels(
            "the scene has no 3D model: add photographs that overlap, or lower the mapping's thresholds"
        )
    cluster_splits = assign_splits(scene, options, seed)
    table = verdicts or guards.verdicts(scene, cluster_splits, options=options.guards)
    samplers = [Sampler(ModelView.of(scene, model), options) for model in range(scene.models.cluster.size)]
    fraction = draw_queries(samplers, cluster_splits[scene.models.cluster], options)
    raised = options.query_fraction == "auto" and fraction > PAPER_FRACTION
    accepted, image_of = accepted_photographs(scene)
    images = _images(scene, accepted, cluster_splits)
    queries, candidates = _queries_and_candidates(samplers, image_of, images)
    _require_train_queries(queries, images)
    views, most = [sampler.view for sampler in samplers], options.max_benchmark_queries_per_model
    junk = guards.benchmark_junk(scene, cluster_splits, table)
    benchmarks = {
        SPLIT_NAMES[split]: labels.label(scene, views, cluster_splits, split, junk, image_of, most)
        for split in (splits.VAL, splits.TEST)
    }
    result = TrainingSet(
        images,
        queries,
        candidates,
        Positives(m1_pool(candidates, options.pool_k), m2(candidates, options), m3(candidates, options)),
        Negatives(image_of[table.photo], table.cluster, table.max_inliers, table.allowed),
        benchmarks,
        _summary(images, queries, samplers, fraction, cluster_splits, raised),
    )
    _log.info("selected %s", {key: result.summary[key] for key in ("queries", "query_fraction", "warnings")})
    return result


def accepted_photographs(scene: Scene) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Photographs [I] that are images of a training set, and of every photograph [N] its image; -1 = none."""
    accepted = np.flatnonzero(scene.photos.cluster >= 0)
    image_of = np.full(scene.photos.cluster.size, -1, dtype=np.int64)
    image_of[accepted] = np.arange(accepted.size)
    return accepted, image_of


def assign_splits(scene: Scene, options: SelectionOptions, seed: int) -> NDArray[np.int8]:
    """[C] the split of every cluster of a scene: `guards.proposals` needs it before `select` does."""
    count = int(scene.photos.cluster.max(initial=-1)) + 1
    previous = None
    if options.previous is not None:
        earlier = TrainingSet.from_h5(options.previous).images
        previous = PreviousSplits(earlier.sha256, earlier.cluster, earlier.split)
    return splits.split_clusters(
        scene.photos.cluster,
        scene.photos.sha256,
        seed,
        has_model=np.isin(np.arange(count), scene.models.cluster),
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
        previous=previous,
    )


def _images(scene: Scene, accepted: NDArray[np.int64], cluster_splits: NDArray[np.int8]) -> Images:
    photos = scene.photos
    model = photos.model[accepted]
    return Images(
        photos.name[accepted],
        photos.sha256[accepted],
        photos.cluster[accepted],
        model,
        cluster_splits[photos.cluster[accepted]],
        model >= 0,
    )


def _queries_and_candidates(
    samplers: list[Sampler], image_of: NDArray[np.int64], images: Images
) -> tuple[Queries, Candidates]:
    """All queries by image, with their candidates stacked."""
    found = [
        (int(image_of[s.view.photo[query]]), image_of[s.view.photo[row.image]], row)
        for s in samplers
        for query, row in s.rows.items()
    ]
    found.sort(key=lambda each: each[0])
    query = np.array([image for image, _, _ in found], dtype=np.int64)
    pools = Ragged.from_rows([pool for _, pool, _ in found])
    rows = [row for _, _, row in found]
    candidates = Candidates(
        pools.indptr,
        pools.image,
        np.concatenate([np.empty(0, np.int64), *(row.shared_points for row in rows)]),
        np.concatenate([np.empty(0, np.float32), *(row.overlap for row in rows)]),
        np.concatenate([np.empty(0, np.float32), *(row.scale_change for row in rows)]),
        Ragged.from_rows([np.arange(row.image.size) for row in rows]).image,
    )
    return Queries(query, images.split[query]), candidates


def _require_train_queries(queries: Queries, images: Images) -> None:
    if np.any(queries.split == TRAIN):
        return
    count = int(np.sum(images.registered & (images.split == TRAIN)))
    raise NoQueries(
        f"none of the {count} registered photographs of train has a positive; add photographs of the same "
        "places, or lower selection.min_overlap or raise selection.max_scale_change"
    )


def _summary(
    images: Images,
    queries: Queries,
    samplers: list[Sampler],
    fraction: float,
    cluster_splits: NDArray[np.int8],
    raised: bool,
) -> dict[str, Any]:
    """Counts and sentences for people: how many queries, why the other photographs are none."""
    registered = int(images.registered.sum())
    refused = sum(sampler.refused for sampler in samplers)
    blind = sum(int((sampler.view.points_seen == 0).sum()) for sampler in samplers)
    warnings = []
    if raised:
        warnings.append(f"queries: {fraction:.0%} of each model instead of 10 %, for enough of them in train")
    train = int((cluster_splits == TRAIN).sum())
    if train < 6:
        warnings.append(f"train has {train} clusters: 5 negatives from other clusters are not possible")
    return {
        "queries": splits.counts(queries.split),
        "clusters": splits.counts(cluster_splits),
        "query_fraction": fraction,
        "not_queries": {
            "not registered in a 3D model": int(images.registered.size - registered),
            "sees no 3D point": blind,
            "no positive: no near image with enough overlap at a similar scale": refused,
            "its model has enough queries": registered - blind - refused - int(queries.image.size),
        },
        "warnings": warnings,
    }
