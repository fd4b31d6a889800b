"""Judge a training set against the true geometry of a rendered town.

    python -m benchmarks.judge_selection TRUTH.h5 TRAINING_SET.h5 [TRAINING.h5]

A positive is right where it shows the query's building and shares true surface points with it; a negative is
wrong where it shows the query's building: all negatives that mining may choose from are looked at, and with
TRAINING.h5 those that it chose. For m2 also: how many of the true shared points of the best photograph of the
pool it has. Then the same for a selection from the true geometry itself, where every m2 must be the true
maximum. Exit code 1 where a positive or negative is wrong, or such an m2 is not the maximum.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic_city import photographs
from retrieval.training.tuples import forbidden, negative_pool
from sfm.scene.scene import Scene
from sfm.scene.tables import Pairs
from sfm.selection.choosing import SelectionOptions, select
from sfm.selection.strategies import near_duplicates
from sfm.training_set.training_set import TrainingSet
from storage.hdf5 import file as hdf5
from storage.schemas.scene import Cameras, Models, Points, Visibility
from town.town import Town

Indices = NDArray[np.int64]


def main(truth_file: Path, set_file: Path, training_file: Path | None = None) -> int:
    truth, chosen = Town.load(truth_file), TrainingSet.from_h5(set_file)
    wrong = judge(truth, chosen)
    share = m2_share(truth, chosen)
    print(
        f"m2 is the true maximum of its pool for {np.mean(share == 1):.1%} of {share.size} queries, has "
        f"{np.median(share):.1%} of its points in the median, {share.min(initial=1):.1%} at least"
    )
    if training_file is not None:
        mined = hdf5.read(training_file, "training", ["mined/query", "mined/negatives"])
        building = buildings(truth, chosen)
        own = building[mined["mined/query"]][:, None] == building[mined["mined/negatives"]]
        print(f"mined negatives of the query's building: {int(own.sum())} of {own.size}")
        wrong += int(own.sum())
    print("selected from the true geometry:")
    ideal = select(true_scene(truth), SelectionOptions())
    share = m2_share(truth, ideal)
    print(f"m2 is the true maximum of its pool for {np.mean(share == 1):.1%} of {share.size} queries")
    return 1 if wrong + judge(truth, ideal) + int((share < 1).sum()) else 0


def judge(truth: Town, chosen: TrainingSet) -> int:
    """Print and count what is wrong with positives and possible negatives."""
    building, row = buildings(truth, chosen), rows(truth, chosen)
    query = chosen.queries.image
    pool, m2, m3 = chosen.positives.m1_pool, chosen.positives.m2, chosen.positives.m3
    pairs = {
        "m1 pool": (np.repeat(query, np.diff(pool.indptr)), pool.image),
        "m2": (query[m2 >= 0], m2[m2 >= 0]),
        "m3": (np.repeat(query, np.diff(m3.indptr)), m3.image),
    }  # fmt: skip
    wrong = 0
    for name, (first, second) in pairs.items():
        good = (building[first] == building[second]) & (building[first] >= 0)
        if name != "m1 pool":  # the nearest cameras need not see the same wall
            good &= shared(truth, row[first], row[second]) > 0
        print(f"{name}: precision {good.mean():.2%} of {good.size} pairs")
        wrong += int((~good).sum())
    for split in np.unique(chosen.queries.split).tolist():
        queries, arrays = query[chosen.queries.split == split], chosen.arrays()
        images = negative_pool(arrays, split)
        barred = forbidden(arrays, queries, images).toarray()
        cluster = chosen.images.cluster
        free = ~barred & (cluster[queries][:, None] != cluster[images])
        own = free & (building[queries][:, None] == building[images])
        print(
            f"split {split}: possible negatives of the query's building {int(own.sum())} of {int(free.sum())}"
        )
        wrong += int(own.sum())
    return wrong


def m2_share(truth: Town, chosen: TrainingSet) -> NDArray[np.float64]:
    """[.] true shared points of m2 / of the best of its pool, but for near duplicates, which m2 passes."""
    row, options = rows(truth, chosen), SelectionOptions()
    candidates, found = chosen.candidates, []
    twins = near_duplicates(candidates.overlap, candidates.scale_change, options)
    for place, (query, best) in enumerate(
        zip(chosen.queries.image.tolist(), chosen.positives.m2.tolist(), strict=True)
    ):
        if best < 0:
            continue
        pool = slice(*candidates.indptr[place : place + 2])
        images = candidates.image[pool][~twins[pool] | (candidates.image[pool] == best)]
        points = shared(truth, np.full(images.size, row[query]), row[images])
        found.append(float(points[images == best][0] / points.max()))
    return np.array(found)


def shared(truth: Town, first: Indices, second: Indices) -> Indices:
    """True surface points that both photographs see, [K]."""
    seen = truth.visible_points.astype(np.int32)
    return np.asarray(seen[first].multiply(seen[second]).sum(axis=1)).reshape(-1)


def rows(truth: Town, chosen: TrainingSet) -> Indices:
    """[N] row in the truth of each image."""
    row_of = {name: row for row, name in enumerate(truth.names)}
    return np.array([row_of[str(name)] for name in chosen.images.name], dtype=np.int64)


def buildings(truth: Town, chosen: TrainingSet) -> Indices:
    """[N] building of each image; every distractor is a place of its own."""
    row = rows(truth, chosen)
    return np.where(truth.building[row] < 0, -1 - row, truth.building[row])


def true_scene(truth: Town) -> Scene:
    """The scene that a perfect reconstruction would give: a model per building, distractors alone."""
    count = int(truth.building.max()) + 1
    cluster = truth.building.astype(np.int64).copy()
    alone = np.flatnonzero(cluster < 0)
    cluster[alone] = count + np.arange(alone.size)
    photos = photographs(list(truth.names), cluster, truth.building.astype(np.int64))
    photo = np.flatnonzero(truth.building >= 0)
    photo = photo[np.argsort(truth.building[photo], kind="stable")]
    seen = truth.depths[photo]
    focal = truth.focal_px[photo]
    size = truth.image_size[photo]
    cameras = Cameras(
        photo, truth.building[photo], truth.center_in_world[photo], truth.cam_from_world[photo], focal,
        np.array(["SIMPLE_PINHOLE"] * photo.size, dtype=object), np.arange(photo.size + 1) * 3,
        np.column_stack([focal, size / 2]).reshape(-1),
    )  # fmt: skip
    total = int(seen.nnz)
    visibility = Visibility(
        seen.indptr.astype(np.int64), seen.indices.astype(np.int64), np.zeros((total, 2)),
        np.zeros(total, np.int64), seen.data.astype(np.float32),
    )  # fmt: skip
    points = Points(
        truth.points, np.zeros((len(truth.points), 3), np.uint8), np.zeros(len(truth.points)),
        truth.point_building.astype(np.int64),
    )  # fmt: skip
    sizes = np.bincount(truth.building[photo], minlength=count)
    models = Models(
        np.arange(count), sizes, np.bincount(truth.point_building, minlength=count), np.zeros(count)
    )
    pairs = _matched(truth, alone)
    return Scene(photos, models, cameras, visibility, points, Pairs.none(), pairs)


def _matched(truth: Town, alone: Indices) -> Pairs:
    """Every distractor was matched with every photograph, without an inlier."""
    known = np.flatnonzero(truth.building >= 0)
    first, second = np.repeat(alone, known.size), np.tile(known, alone.size)
    return Pairs.sorted(first, second, np.zeros(first.size, dtype=np.int64))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Judge a training set against the truth of a town.")
    parser.add_argument("truth", type=Path)
    parser.add_argument("training_set", type=Path)
    parser.add_argument("training", type=Path, nargs="?")
    asked = parser.parse_args()
    sys.exit(main(asked.truth, asked.training_set, asked.training))
