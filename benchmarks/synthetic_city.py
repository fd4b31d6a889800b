"""A scene of the size and shape of the original training data, without a single photograph.

Models: sizes from 25 to 11,042 by a power law, 713 models and 163,671 photographs at full size. Cameras
stand along a street; a 3D point is seen by neighbours of one place. Track lengths l >= 2 follow P(l) ~
l^-2.2 up to the size of the model (heavy-tailed), exactly: a track of length l is one observation in each of
l parts of a stretch of min(3 l, size) neighbours. There are as many points as give the asked number of
observations per photograph in the mean.

    python -m benchmarks.synthetic_city OUT.h5 [--share 1.0] [--observations-per-photo 640]
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfm.scene.scene import Scene
from sfm.scene.tables import Pairs
from storage.schemas.scene import Cameras, Models, Photos, Points, Visibility

MODELS, PHOTOS, SMALLEST, LARGEST = 713, 163_671, 25, 11_042
TRACK_EXPONENT = 2.2
PER_PHOTO = 640.0


def model_sizes(share: float = 1.0) -> NDArray[np.int64]:
    """Photographs per model, largest first.

    A power law through the original's ends, with its total (times share).
    """
    count = max(3, round(MODELS * share))
    largest = max(SMALLEST + 1, round(LARGEST * share))
    total = round(PHOTOS * share)
    position = np.linspace(0, 1, count)
    low, high = 0.05, 30.0
    for _ in range(60):
        power = (low + high) / 2
        sizes = SMALLEST * (largest / SMALLEST) ** ((1 - position) ** power)
        low, high = (power, high) if sizes.sum() > total else (low, power)
    result = np.maximum(SMALLEST, np.round(sizes)).astype(np.int64)
    missing = total - int(result.sum())  # of rounding: one each for models in the middle
    result[1 : 1 + abs(missing)] += np.sign(missing)
    return result


def tracks(
    size: int, per_photo: float, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """(photo, point) of every observation of one model, by photo and point, none twice; number of points."""
    lengths = np.arange(2, size + 1)
    law = lengths.astype(np.float64) ** -TRACK_EXPONENT
    law /= law.sum()
    points = max(1, round(size * per_photo / float(lengths @ law)))
    length = lengths[np.searchsorted(np.cumsum(law), rng.random(points)).clip(max=lengths.size - 1)]
    point = np.repeat(np.arange(points, dtype=np.int32), length)
    reach = np.minimum(size, 3 * length)
    start = (rng.random(points) * (size - reach + 1)).astype(np.int64)
    first = np.cumsum(length) - length
    part = np.arange(point.size) - np.repeat(first, length)
    width = np.repeat(reach, length)
    count = np.repeat(length, length)
    low, high = part * width // count, (part + 1) * width // count
    step = (rng.random(point.size) * (high - low)).astype(np.int64)
    photo = (np.repeat(start, length) + low + step).astype(np.int32)
    order = np.argsort(photo.astype(np.int64) * points + point)
    return photo[order], point[order], points


def city(share: float = 1.0, per_photo: float = PER_PHOTO, seed: int = 0) -> Scene:
    """The scene, share of the original's models and photographs."""
    rng = np.random.default_rng(seed)
    sizes = model_sizes(share)
    seen, num_points, centers, depths = [], [], [], []
    offset = 0
    counts = []
    for size in sizes.tolist():
        photo, point, made = tracks(size, per_photo, rng)
        counts.append(np.bincount(photo, minlength=size))
        seen.append(point.astype(np.int64) + offset)
        depths.append(rng.uniform(5, 15, photo.size).astype(np.float32))
        centers.append(np.stack([np.arange(size), rng.normal(size=size), rng.normal(size=size)], axis=1))
        num_points.append(made)
        offset += made
    total = int(sizes.sum())
    names = [f"{number:06d}.jpg" for number in range(total)]
    model = np.repeat(np.arange(sizes.size), sizes)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    photos = photographs(names, model, model)
    center = np.concatenate(centers)
    pose = np.concatenate([np.broadcast_to(np.eye(3), (total, 3, 3)), -center[:, :, None]], axis=2)
    cameras = Cameras(
        np.arange(total), model, center, pose, np.full(total, 800.0),
        np.array(["SIMPLE_PINHOLE"] * total, dtype=object), np.arange(total + 1) * 3,
        np.tile([800.0, 512.0, 384.0], total),
    )  # fmt: skip
    empty = np.zeros((indptr[-1], 2))
    visibility = Visibility(
        indptr, np.concatenate(seen), empty, np.zeros(indptr[-1], np.int64), np.concatenate(depths)
    )
    points = Points(
        np.zeros((offset, 3)), np.zeros((offset, 3), np.uint8), np.zeros(offset),
        np.repeat(np.arange(sizes.size), num_points),
    )  # fmt: skip
    models = Models(np.arange(sizes.size), sizes, np.array(num_points), np.zeros(sizes.size))
    return Scene(photos, models, cameras, visibility, points, Pairs.none(), Pairs.none())


def photographs(names: list[str], cluster: NDArray[np.int64], model: NDArray[np.int64]) -> Photos:
    """Accepted photographs of these clusters and models (-1 = none); their digests are of the names."""
    count = len(names)
    size = np.full(count, 1024, dtype=np.int64)
    return Photos(
        name=np.array(names, dtype=object),
        sha256=np.array([hashlib.sha256(name.encode()).hexdigest() for name in names], dtype="S64"),
        width=size,
        height=size,
        orientation=np.ones(count, dtype=np.int64),
        working_width=size,
        working_height=size,
        status=np.array(["ok"] * count, dtype=object),
        reason=np.array([""] * count, dtype=object),
        alias_of=np.full(count, -1, dtype=np.int64),
        focal_prior_px=np.full(count, np.nan),
        cluster=cluster,
        model=model,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the original's models and photographs")
    parser.add_argument("--observations-per-photo", type=float, default=PER_PHOTO)
    arguments = parser.parse_args()
    scene = city(arguments.share, arguments.observations_per_photo)
    scene.to_h5(arguments.out)
    photos, observations = scene.cameras.photo.size, scene.visibility.point.size
    print(f"{photos:,} photographs, {observations:,} observations -> {arguments.out}")


if __name__ == "__main__":
    main()
