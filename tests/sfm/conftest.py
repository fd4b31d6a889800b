"""Scenes for tests: cameras on a circle around a wall of points, several places, singletons between them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from sfm.scene import building
from sfm.scene.colmap_model import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from sfm.scene.scene import Scene
from sfm.scene.tables import Pairs
from storage.schemas.scene import Photos


def sha_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).hexdigest().encode()


def scene_of(
    places: Mapping[str, Mapping[str, Sequence[int]]],
    *,
    singletons: Sequence[str] = (),
    unregistered: Mapping[str, str] | None = None,
    rejected: Sequence[str] = (),
    depth: Mapping[str, float] | None = None,
    position: Mapping[str, float] | None = None,
    pairs: Sequence[tuple[str, str, int]] = (),
    attempts: Sequence[tuple[str, str, int]] = (),
) -> Scene:
    """places: place -> photograph -> points that it sees.

    One cluster and one model per place, then the singletons.

    Points lie at z = 0; every camera looks along z from -depth (default 10), at x = position (default its
    number). unregistered: photograph -> place whose cluster it belongs to.
    """
    depth, position = depth or {}, position or {}
    cluster_of: dict[str, int] = {}
    for number, photos in enumerate(places.values()):
        cluster_of |= dict.fromkeys(photos, number)
    cluster_of |= {name: list(places).index(place) for name, place in (unregistered or {}).items()}
    cluster_of |= {name: len(places) + number for number, name in enumerate(singletons)}
    names = sorted([*cluster_of, *rejected])
    index = {name: number for number, name in enumerate(names)}
    parts = [
        building.Part(number, _model(photos, depth, position), index)
        for number, photos in enumerate(places.values())
    ]
    parts = [
        part._replace(photo_of={i.name: index[i.name] for i in part.model.images.values()}) for part in parts
    ]
    sha256 = np.array([sha_of(name) for name in names], dtype="S64")
    built = building.tables_of_models(parts, sha256)
    count = len(names)
    whole = np.full(count, 100, dtype=np.int64)
    photos = Photos(
        name=np.array(names, dtype=object),
        sha256=sha256,
        width=whole,
        height=whole,
        orientation=np.ones(count, dtype=np.int64),
        working_width=whole,
        working_height=whole,
        status=np.array(["ok" if name in cluster_of else "rejected" for name in names], dtype=object),
        reason=np.array(["" if name in cluster_of else "not an image" for name in names], dtype=object),
        alias_of=np.full(count, -1, dtype=np.int64),
        focal_prior_px=np.full(count, np.nan),
        cluster=np.array([cluster_of.get(name, -1) for name in names], dtype=np.int64),
        model=building.model_of_photos(built, count),
    )
    tables = [_pairs(index, table) for table in (pairs, attempts)]
    return Scene(photos, built.models, built.cameras, built.visibility, built.points, *tables)


def _pairs(index: Mapping[str, int], table: Sequence[tuple[str, str, int]]) -> Pairs:
    return Pairs.sorted(
        [index[a] for a, _, _ in table], [index[b] for _, b, _ in table], [n for _, _, n in table]
    )


def _model(
    photos: Mapping[str, Sequence[int]], depth: Mapping[str, float], position: Mapping[str, float]
) -> ColmapModel:
    ids = np.unique(np.concatenate([np.asarray(points, dtype=np.int64) for points in photos.values()]))
    xyz = np.stack([ids * 0.1, np.zeros(ids.size), np.zeros(ids.size)], axis=1).astype(np.float64)
    images = {}
    for number, (name, points) in enumerate(photos.items(), start=1):
        center = np.array([position.get(name, float(number)), 0.0, -depth.get(name, 10.0)])
        seen = np.asarray(points, dtype=np.int64)
        images[number] = ColmapImage(
            np.array([1.0, 0, 0, 0]), -center, number, name, np.full((seen.size, 2), 50.5), seen
        )
    cameras = {n: ColmapCamera("SIMPLE_PINHOLE", 100, 100, np.array([80.0, 50, 50])) for n in images}
    points = ColmapPoints(ids, xyz, np.full((ids.size, 3), 128, dtype=np.uint8), np.full(ids.size, 0.5))
    return ColmapModel(cameras, images, points)


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Scene]:
    return scene_of


def wall(count: int, *, prefix: str, step: int = 10, width: int = 40) -> dict[str, list[int]]:
    """Photographs along a wall of points: neighbours share 3/4 of what they see, the ends nothing."""
    return {f"{prefix}{n:02d}.jpg": list(range(n * step, n * step + width)) for n in range(count)}


@pytest.fixture(scope="session")
def many_places() -> Callable[..., Scene]:
    """A scene of `places` walls with `views` photographs each and `alone` singletons."""

    def make(places: int = 12, views: int = 8, alone: int = 6, **more: Any) -> Scene:
        walls = {f"place{p}": wall(views, prefix=f"p{p:02d}_") for p in range(places)}
        return scene_of(walls, singletons=[f"alone{n}.jpg" for n in range(alone)], **more)

    return make
