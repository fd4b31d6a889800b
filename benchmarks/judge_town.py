"""Judge a scene against the true cameras of a rendered town.

    python -m benchmarks.judge_town TRUTH.h5 SCENE.h5

Every model is aligned to its building by the similarity that fits the camera centres best (least squares).
Position errors are shares of the extent (the diagonal of the box around a building's cameras and points);
rotation errors are in degrees. Exit code 1 if a model mixes buildings, a building has no model of its own or
more than one, or a median is over 1 % or 0.5 degrees.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sfm.scene.scene import Scene
from town.town import Town

MOST_POSITION, MOST_ROTATION_DEG = 0.01, 0.5
Floats = NDArray[np.float64]


def main(truth_file: Path, scene_file: Path) -> int:
    truth, scene = Town.load(truth_file), Scene.from_h5(scene_file)
    row_of = {name: row for row, name in enumerate(truth.names)}
    models_of: dict[int, list[int]] = {}
    positions, rotations, mixed = [], [], 0
    for model in range(len(scene.models.cluster)):
        cameras = np.flatnonzero(scene.cameras.model == model)
        rows = np.array([row_of[str(scene.photos.name[p])] for p in scene.cameras.photo[cameras]])
        buildings = set(truth.building[rows].tolist())
        mixed += len(buildings) > 1
        building = int(np.bincount(truth.building[rows] + 1).argmax()) - 1
        models_of.setdefault(building, []).append(rows.size)
        position, rotation = errors(
            truth.cam_from_world[rows], scene.cameras.center_in_world[cameras],
            scene.cameras.cam_from_world[cameras][:, :, :3], truth.extent(building),
        )  # fmt: skip
        positions.append(position)
        rotations.append(rotation)
        print(
            f"model {model}: building {building}, {rows.size} photographs, position error "
            f"{100 * np.median(position):.3f} %, rotation error {np.median(rotation):.3f} degrees (medians)"
        )
    counts = [len(models_of.get(building, [])) for building in range(int(truth.building.max()) + 1)]
    middle, turn = float(np.median(np.concatenate(positions))), float(np.median(np.concatenate(rotations)))
    print(f"models per building {counts}, models that mix buildings {mixed}")
    print(f"median over all cameras: {100 * middle:.3f} % of the extent, {turn:.3f} degrees")
    alone = mixed == 0 and set(counts) == {1} and -1 not in models_of
    return 0 if alone and middle < MOST_POSITION and turn < MOST_ROTATION_DEG else 1


def errors(cam_from_world: Floats, centers: Floats, rotation: Floats, size: float) -> tuple[Floats, Floats]:
    """Position errors [n] in shares of `size` and rotation errors [n] in degrees, after alignment.

    cam_from_world: true [n, 3, 4]; centers [n, 3] and rotation [n, 3, 3] (camera from world) as estimated.
    """
    true = _centers(cam_from_world)
    a, b = centers - centers.mean(axis=0), true - true.mean(axis=0)
    turn, _ = Rotation.align_vectors(b, a)
    turned = turn.apply(a)
    scale = (turned * b).sum() / (a**2).sum()
    position = np.linalg.norm(scale * turned - b, axis=1) / size
    expected = cam_from_world[:, :, :3] @ turn.as_matrix()
    between = Rotation.from_matrix(expected @ np.swapaxes(rotation, 1, 2))
    return position, np.degrees(between.magnitude())


def _centers(cam_from_world: Floats) -> Floats:
    found: Floats = -np.einsum("nji,nj->ni", cam_from_world[:, :, :3], cam_from_world[:, :, 3])
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Judge a scene against the truth of a town.")
    parser.add_argument("truth", type=Path)
    parser.add_argument("scene", type=Path)
    asked = parser.parse_args()
    sys.exit(main(asked.truth, asked.scene))
