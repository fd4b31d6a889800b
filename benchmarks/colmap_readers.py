"""COLMAP's model files read by this project and by pycolmap in a process of its own: equal, and how fast.

    python -m benchmarks.colmap_readers [MODELS] [--images 2000] [--points 200000] [--turns 3]

MODELS: a folder with COLMAP models somewhere below it; without it a synthetic model alone is read, as binary
and as text. What pycolmap reads is brought into the arrays that the project works with, in the child, and
sent to the parent, since importing pycolmap replaces signal handlers. Prints JSON: whether all arrays are
equal, the median seconds of each, their ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sfm.scene.colmap import read_model, write_model
from sfm.scene.colmap_model import ColmapCamera, ColmapImage, ColmapModel, points_of
from storage.children.child import run_child


def by_pycolmap(folder: str) -> dict[str, Any]:
    """In a child: a model as plain arrays."""
    import pycolmap

    model = pycolmap.Reconstruction(folder)
    cameras = {
        number: (camera.model.name, camera.width, camera.height, np.array(camera.params))
        for number, camera in model.cameras.items()
    }
    images = {}
    for number, image in model.images.items():
        pose = image.cam_from_world()
        turn = np.array(pose.rotation.quat)  # x y z w
        xy = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
        seen = np.array([int(p.point3D_id) if p.has_point3D() else -1 for p in image.points2D], np.int64)
        images[number] = (
            image.name,
            image.camera_id,
            turn[[3, 0, 1, 2]],
            np.array(pose.translation),
            xy,
            seen,
        )
    ids = np.array(list(model.points3D), np.int64)
    points = list(model.points3D.values())
    xyz = np.array([point.xyz for point in points]).reshape(-1, 3)
    rgb = np.array([point.color for point in points], np.uint8).reshape(-1, 3)
    error = np.array([point.error for point in points])
    return {"cameras": cameras, "images": images, "points": (ids, xyz, rgb, error)}


def synthetic(images: int, points: int) -> ColmapModel:
    """A model in which every image sees 500 points."""
    random = np.random.default_rng(0)
    ids = np.arange(1, points + 1)
    cloud = points_of(
        ids, random.normal(size=(points, 3)), random.integers(0, 256, (points, 3)).astype(np.uint8),
        random.random(points),
    )  # fmt: skip
    made = {}
    for number in range(1, images + 1):
        turn = random.normal(size=4)
        seen = random.choice(ids, min(500, points), replace=False)
        xy = random.random((seen.size, 2)) * 600
        unit = turn / np.linalg.norm(turn)
        made[number] = ColmapImage(unit, random.normal(size=3), 1, f"{number:06d}.jpg", xy, seen)
    return ColmapModel(
        {1: ColmapCamera("SIMPLE_RADIAL", 640, 480, np.array([600.0, 320, 240, 0]))}, made, cloud
    )


def differences(ours: ColmapModel, theirs: dict[str, Any]) -> list[str]:
    """Names of what is not equal: ids, names and numbers exactly, a quaternion up to rounding and sign."""
    wrong = []
    for number, camera in ours.cameras.items():
        name, width, height, params = theirs["cameras"][number]
        if (camera.model, camera.width, camera.height) != (name, width, height):
            wrong.append(f"camera {number}")
        if not np.array_equal(camera.params, params):
            wrong.append(f"parameters of camera {number}")
    for number, image in ours.images.items():
        name, camera_id, turn, shift, xy, seen = theirs["images"][number]
        same = image.name == name and image.camera == camera_id and np.array_equal(image.point, seen)
        same &= np.array_equal(image.xy_px, xy) and np.array_equal(image.translation, shift)
        if not same or min(np.abs(image.quaternion - s * turn).max() for s in (1, -1)) > 1e-12:
            wrong.append(f"image {number}")
    ids, xyz, rgb, error = theirs["points"]
    order = np.argsort(ids)
    pairs: tuple[tuple[Any, Any], ...] = (
        (ours.points.id, ids),
        (ours.points.xyz, xyz),
        (ours.points.rgb, rgb),
        (ours.points.error_px, error),
    )
    wrong += [
        f"column {at} of the points" for at, (a, b) in enumerate(pairs) if not np.array_equal(a, b[order])
    ]
    return wrong


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    found = action()
    return time.monotonic() - began, found


def measured(folder: Path, turns: int) -> dict[str, Any]:
    """Both readers in turn."""
    times: dict[str, list[float]] = {"ours": [], "pycolmap": [], "pycolmap in the child alone": []}
    wrong: list[str] = []
    for _ in range(turns):
        took, ours = seconds(lambda: read_model(folder))
        times["ours"].append(took)
        took, (inside, theirs) = seconds(
            lambda: run_child(
                "benchmarks.colmap_readers:timed", str(folder), label="pycolmap", total_limit_s=600
            )
        )
        times["pycolmap"].append(took)
        times["pycolmap in the child alone"].append(inside)
        wrong = differences(ours, theirs)
    medians = {name: round(statistics.median(each), 4) for name, each in times.items()}
    ratio = round(medians["pycolmap in the child alone"] / medians["ours"], 2)
    return {"images": len(ours.images), "equal": not wrong, "wrong": wrong[:3], **medians, "ratio": ratio}


def timed(folder: str) -> tuple[float, dict[str, Any]]:
    """In a child that has imported pycolmap: seconds, and the model."""
    import pycolmap  # noqa: F401

    return seconds(lambda: by_pycolmap(folder))


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("models", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        binary, text = Path(place) / "binary", Path(place) / "text"
        for folder in (binary, text):
            folder.mkdir()
        write_model(binary, synthetic(asked.images, asked.points))
        run_child(
            "benchmarks.colmap_readers:as_text", str(binary), str(text), label="text", total_limit_s=600
        )
        found["synthetic, binary"] = measured(binary, asked.turns)
        found["synthetic, text"] = measured(text, asked.turns)
    if asked.models is not None:
        folders = sorted(path.parent for path in asked.models.rglob("images.bin"))
        each = [measured(folder, 1) for folder in folders]
        found["models"] = {
            "models": len(each),
            "equal": all(one["equal"] for one in each),
            "ours": round(sum(one["ours"] for one in each), 4),
            "pycolmap in the child alone": round(sum(one["pycolmap in the child alone"] for one in each), 4),
        }
    json.dump(found, sys.stdout, indent=1)
    print()


def as_text(source: str, target: str) -> None:
    """In a child: COLMAP's own text of a model."""
    import pycolmap

    pycolmap.Reconstruction(source).write_text(target)


if __name__ == "__main__":
    main()
