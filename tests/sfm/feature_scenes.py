"""Places made of points with descriptors: features as if photographed, with known cameras."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.hdf5.file import ItemWriter

WIDTH, HEIGHT, FOCAL = 640, 480, 600.0


@dataclass(frozen=True)
class Place:
    """Photographs of one place: their digests, projection centres [V, 3] and the features of each."""

    shas: list[str]
    centers: NDArray[np.float64]
    groups: dict[str, dict[str, NDArray]]


def sha_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def make_place(name: str, views: int, points: int = 150, *, focal_prior_px: float = FOCAL) -> Place:
    """`views` cameras on an arc around a cloud of `points`, each point with a descriptor of its own."""
    rng = np.random.default_rng(list(sha_of(name).encode()))
    xyz = rng.uniform(-1.0, 1.0, (points, 3))
    descriptors = _sift_like(rng, points)
    shas, centers, groups = [], [], {}
    for view in range(views):
        angle = np.deg2rad(8.0 * view)
        center = 5.0 * np.array([np.sin(angle), 0.1 * np.sin(view), -np.cos(angle)])
        xy = _project(xyz, center) + rng.normal(0, 0.2, (points, 2))
        noise = rng.integers(-2, 3, descriptors.shape)
        own = _sift_like(rng, 30)
        sha = sha_of(f"{name}-{view}")
        order = rng.permutation(points + 30)
        columns = np.concatenate([np.clip(descriptors.astype(int) + noise, 0, 255).astype(np.uint8), own])
        keypoints = np.concatenate([xy, rng.uniform(20, 460, (30, 2))])
        groups[sha] = {
            "keypoints": (keypoints[order] - 0.5).astype(np.float32),
            "descriptors": np.ascontiguousarray(columns[order].T),
            "scores": np.ones(points + 30, np.float32),
            "image_size": np.array([WIDTH, HEIGHT]),
            "focal_prior_px": np.float64(focal_prior_px),
        }
        shas.append(sha)
        centers.append(center)
    return Place(shas, np.stack(centers), groups)


def write_places(path: Path, *places: Place) -> dict[str, Path]:
    """Write a features file; returns sha256 -> file."""
    groups = {sha: group for place in places for sha, group in place.groups.items()}
    with ItemWriter(path, "features", stage="features", options={}, inputs=[]) as writer:
        for sha in sorted(groups):
            writer.add(sha, **groups[sha])
    return dict.fromkeys(groups, path)


def write_working(folder: Path, shas: list[str]) -> dict[str, Path]:
    """Grey working copies for photographs that exist as features only."""
    folder.mkdir()
    for sha in shas:
        Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 150)).save(folder / f"{sha}.jpg")
    return dict.fromkeys(shas, folder)


def all_pairs(shas: list[str]) -> list[tuple[str, str]]:
    ordered = sorted(shas)
    return [(a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 :]]


def _sift_like(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """Descriptors of length 512 like COLMAP's, far from each other."""
    raw = rng.exponential(1.0, (count, 128))
    return np.clip(np.round(512 * np.sqrt(raw / raw.sum(1, keepdims=True))), 0, 255).astype(np.uint8)


def _project(xyz: NDArray[np.float64], center: NDArray[np.float64]) -> NDArray[np.float64]:
    forward = -center / np.linalg.norm(center)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    camera = (xyz - center) @ np.stack([right, np.cross(forward, right), forward]).T
    return FOCAL * camera[:, :2] / camera[:, 2:] + [WIDTH / 2, HEIGHT / 2]
