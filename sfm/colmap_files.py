"""COLMAP's model files as plain arrays: read and written with numpy, without COLMAP.

A model folder holds `cameras`, `images` and `points3D`, each as .bin or .txt; `rigs` and `frames`, which
newer versions put beside them, repeat what the images say. Text: `sfm.colmap_text`. Source of the formats:
https://colmap.github.io/format.html
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# name: (id, number of parameters, number of focal lengths, which come first)
CAMERA_MODELS: dict[str, tuple[int, int, int]] = {
    "SIMPLE_PINHOLE": (0, 3, 1),
    "PINHOLE": (1, 4, 2),
    "SIMPLE_RADIAL": (2, 4, 1),
    "RADIAL": (3, 5, 1),
    "OPENCV": (4, 8, 2),
    "OPENCV_FISHEYE": (5, 8, 2),
    "FULL_OPENCV": (6, 12, 2),
    "FOV": (7, 5, 2),
    "SIMPLE_RADIAL_FISHEYE": (8, 4, 1),
    "RADIAL_FISHEYE": (9, 5, 1),
    "THIN_PRISM_FISHEYE": (10, 12, 2),
    "RAD_TAN_THIN_PRISM_FISHEYE": (11, 16, 2),
    "SIMPLE_DIVISION": (12, 4, 1),
    "DIVISION": (13, 5, 2),
    "SIMPLE_FISHEYE": (14, 3, 1),
    "FISHEYE": (15, 4, 2),
    "EUCM": (16, 6, 2),
}
NO_POINT = -1
_MOST_SIDE_PX = 1 << 20


class BadModel(ValueError):
    """A folder that is no COLMAP model, or one whose files are damaged or disagree."""


@dataclass(frozen=True, eq=False)
class ColmapCamera:
    """Intrinsics: model name, size in px, parameters in COLMAP's order."""

    model: str
    width: int
    height: int
    params: NDArray[np.float64]

    @property
    def focal_px(self) -> float:
        """Mean of the one or two focal lengths."""
        return float(self.params[: CAMERA_MODELS[self.model][2]].mean())


@dataclass(frozen=True, eq=False)
class ColmapImage:
    """A registered image: world-to-camera pose, camera id, name.

    Keypoints xy [K, 2] px and their 3D point ids [K], -1 = none.
    """

    quaternion: NDArray[np.float64]  # w, x, y, z
    translation: NDArray[np.float64]
    camera: int
    name: str
    xy_px: NDArray[np.float64]
    point: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ColmapPoints:
    """3D points by rising id.

    Id [P], xyz [P, 3] float64, rgb [P, 3] uint8, error_px [P] float64 (-1 = unknown).
    """

    id: NDArray[np.int64]
    xyz: NDArray[np.float64]
    rgb: NDArray[np.uint8]
    error_px: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """One reconstruction: cameras and images by id, points as arrays."""

    cameras: dict[int, ColmapCamera]
    images: dict[int, ColmapImage]
    points: ColmapPoints


def read_model(folder: Path) -> ColmapModel:
    """Read a model folder, binary files first, else text.

    Raises BadModel that names the file and what is wrong.
    """
    from sfm import colmap_text  # which makes the classes of this module

    folder = Path(folder)
    for suffix, readers in ((".bin", _BINARY_READERS), (".txt", colmap_text.READERS)):
        paths = [folder / f"{name}{suffix}" for name in ("cameras", "images", "points3D")]
        if all(path.is_file() for path in paths):
            parts = [_parse(reader, path) for reader, path in zip(readers, paths, strict=True)]
            return _checked(ColmapModel(*parts), folder)
    raise BadModel(
        f"{folder}: no COLMAP model; a folder with cameras, images and points3D as .bin or .txt is needed "
        "(for several models give each numbered folder)"
    )


def write_model(folder: Path, model: ColmapModel) -> None:
    """Write cameras.bin, images.bin and points3D.bin. Tracks follow from the images' points."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.bin").write_bytes(_cameras_bytes(model.cameras))
    (folder / "images.bin").write_bytes(_images_bytes(model.images))
    (folder / "points3D.bin").write_bytes(_points_bytes(model))


def rotation_matrices(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R, 4] (w, x, y, z), any length but 0 -> [R, 3, 3] rotations."""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def quaternions_of(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R, 3, 3] rotations -> [R, 4] unit quaternions (w, x, y, z), w >= 0.

    The largest of 4 q_i q_j rows: stable everywhere.
    """
    m = np.moveaxis(np.asarray(rotations, dtype=np.float64), 0, -1)
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    products = np.empty((4, 4, m.shape[-1]))  # 4 q_i q_j
    products[0, 0] = 1 + trace
    for axis in range(3):
        products[axis + 1, axis + 1] = 1 + 2 * m[axis, axis] - trace
        after, before = (axis + 1) % 3, (axis + 2) % 3
        products[0, axis + 1] = products[axis + 1, 0] = m[before, after] - m[after, before]
        products[after + 1, before + 1] = products[before + 1, after + 1] = (
            m[after, before] + m[before, after]
        )
    largest = np.argmax(products[range(4), range(4)], axis=0)
    chosen = products[largest, :, np.arange(m.shape[-1])]
    unit = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    return np.where(unit[:, :1] < 0, -unit, unit)


def _parse(reader: Callable[[Path], Any], path: Path) -> Any:
    try:
        return reader(path)
    except (struct.error, LookupError, ValueError, OverflowError, TypeError, MemoryError) as error:
        if isinstance(error, BadModel):
            raise
        raise BadModel(
            f"{path}: damaged or not of COLMAP's format ({error}); export the model again"
        ) from error


def _checked(model: ColmapModel, folder: Path) -> ColmapModel:
    _check_numbers(model, folder)
    known = model.points.id
    if np.any(np.diff(known) == 0):
        raise BadModel(f"{folder}: a 3D point id occurs twice; export the model again")
    for image in model.images.values():
        if image.camera not in model.cameras:
            raise BadModel(
                f"{folder}: image {image.name!r} has camera {image.camera}, which the cameras do not list"
            )
        wanted = image.point[image.point != NO_POINT]
        if not np.isin(wanted, known).all():
            missing = wanted[~np.isin(wanted, known)][0]
            raise BadModel(
                f"{folder}: image {image.name!r} sees 3D point {missing}, which the points do not list"
            )
    return model


def _check_numbers(model: ColmapModel, folder: Path) -> None:
    """Sizes that a picture can have, poses and points that are somewhere."""
    for number, camera in model.cameras.items():
        if not all(1 <= side <= _MOST_SIDE_PX for side in (camera.width, camera.height)):
            raise BadModel(f"{folder}: camera {number} is of {camera.width} x {camera.height} px")
        if not np.isfinite(camera.params).all():
            raise BadModel(f"{folder}: camera {number} has parameters that are not finite")
    for number, image in model.images.items():
        numbers = (image.quaternion, image.translation, image.xy_px)
        if not all(np.isfinite(each).all() for each in numbers) or not image.quaternion.any():
            raise BadModel(
                f"{folder}: image {number} has a pose or keypoints that are not finite, or no turn"
            )
    if not np.isfinite(model.points.xyz).all() or (model.points.id < 0).any():
        raise BadModel(f"{folder}: a 3D point is not finite, or its id is too large; export the model again")


def camera_of(name: str, width: int, height: int, params: NDArray[np.float64]) -> ColmapCamera:
    """A camera of a known model with as many parameters as it has. Raises BadModel."""
    if name not in CAMERA_MODELS:
        raise BadModel(f"camera model {name!r} is not known; known: {', '.join(CAMERA_MODELS)}")
    if params.size != CAMERA_MODELS[name][1]:
        raise BadModel(
            f"camera model {name} has {CAMERA_MODELS[name][1]} parameters, the file gives {params.size}"
        )
    return ColmapCamera(name, width, height, params)


def _cameras_bin(path: Path) -> dict[int, ColmapCamera]:
    content, position, cameras = path.read_bytes(), 8, {}
    names = {number: (name, count) for name, (number, count, _) in CAMERA_MODELS.items()}
    for _ in range(struct.unpack_from("<Q", content)[0]):
        camera, model, width, height = struct.unpack_from("<IiQQ", content, position)
        if model not in names:
            raise BadModel(f"{path}: camera {camera} has model number {model}, which is not known")
        name, count = names[model]
        params = np.frombuffer(content, "<f8", count, position + 24).astype(np.float64)
        if camera in cameras:
            raise BadModel(f"{path}: camera {camera} occurs twice; export the model again")
        cameras[camera] = camera_of(name, width, height, params)
        position += 24 + 8 * count
    return cameras


_KEYPOINT = np.dtype([("xy", "<f8", 2), ("point", "<i8")])


def _images_bin(path: Path) -> dict[int, ColmapImage]:
    content, position, images = path.read_bytes(), 8, {}
    for _ in range(struct.unpack_from("<Q", content)[0]):
        number, *pose, camera = struct.unpack_from("<I7dI", content, position)
        end = content.index(b"\0", position + 64)
        name = content[position + 64 : end].decode()
        (count,) = struct.unpack_from("<Q", content, end + 1)
        keypoints = np.frombuffer(content, _KEYPOINT, count, end + 9)
        pose_array = np.array(pose)
        if number in images:
            raise BadModel(f"{path}: image {number} occurs twice; export the model again")
        images[number] = ColmapImage(
            pose_array[:4], pose_array[4:], camera, name, keypoints["xy"].copy(), keypoints["point"].copy()
        )
        position = end + 9 + 24 * count
    return images


_POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")])


def _points_bin(path: Path) -> ColmapPoints:
    content = path.read_bytes()
    count = struct.unpack_from("<Q", content)[0]
    if 8 + count * _POINT.itemsize > len(content):
        raise BadModel(f"{path}: {count} points announced, the file ends before; export the model again")
    starts = np.empty(count, dtype=np.int64)
    length, position = struct.Struct("<Q"), 8
    for index in range(count):  # records have no fixed size: only the length of each track is looked at here
        starts[index] = position
        position += 51 + 8 * length.unpack_from(content, position + 43)[0]
    if position > len(content):
        raise BadModel(f"{path}: the file ends inside a track; export the model again")
    octets = np.frombuffer(content, np.uint8)[starts[:, None] + np.arange(_POINT.itemsize)]
    records = octets.reshape(-1).view(_POINT)
    return points_of(records["id"], records["xyz"], records["rgb"], records["error"])


def points_of(ids: NDArray, xyz: NDArray, rgb: NDArray, error: NDArray) -> ColmapPoints:
    """Points sorted by id; a negative error is unknown."""
    order = np.argsort(ids, kind="stable")
    found = np.ascontiguousarray(error[order], dtype=np.float64)
    return ColmapPoints(
        ids[order].astype(np.int64),
        np.ascontiguousarray(xyz[order]),
        np.ascontiguousarray(rgb[order]),
        np.where(found < 0, -1.0, found),
    )


_BINARY_READERS = (_cameras_bin, _images_bin, _points_bin)


def _cameras_bytes(cameras: dict[int, ColmapCamera]) -> bytes:
    parts = [struct.pack("<Q", len(cameras))]
    for number, camera in sorted(cameras.items()):
        head = struct.pack("<IiQQ", number, CAMERA_MODELS[camera.model][0], camera.width, camera.height)
        parts += [head, camera.params.astype("<f8").tobytes()]
    return b"".join(parts)


def _images_bytes(images: dict[int, ColmapImage]) -> bytes:
    parts = [struct.pack("<Q", len(images))]
    for number, image in sorted(images.items()):
        keypoints = np.zeros(len(image.point), dtype=_KEYPOINT)
        keypoints["xy"], keypoints["point"] = image.xy_px, image.point
        pose = struct.pack("<I7dI", number, *image.quaternion, *image.translation, image.camera)
        parts += [pose, image.name.encode() + b"\0", struct.pack("<Q", len(keypoints)), keypoints.tobytes()]
    return b"".join(parts)


def _points_bytes(model: ColmapModel) -> bytes:
    """Points with their tracks, gathered by one sort of all observations by (point, image)."""
    numbers = sorted(model.images)
    point = np.concatenate([model.images[number].point for number in numbers] or [np.empty(0, np.int64)])
    sizes = [len(model.images[number].point) for number in numbers]
    image = np.repeat(np.array(numbers, dtype=np.int64), sizes)
    place = np.concatenate([np.arange(size) for size in sizes] or [np.empty(0, np.int64)])
    seen = np.flatnonzero(point != NO_POINT)
    seen = seen[np.argsort(point[seen], kind="stable")]
    tracks = np.stack([image[seen], place[seen]], axis=1).astype("<u4").tobytes()
    points = model.points
    bounds = 8 * np.stack(
        [np.searchsorted(point[seen], points.id, side) for side in ("left", "right")], axis=1
    )
    records = np.zeros(points.id.size, dtype=_POINT)
    records["id"], records["xyz"], records["rgb"] = points.id, points.xyz, points.rgb
    records["error"], records["track"] = points.error_px, (bounds[:, 1] - bounds[:, 0]) // 8
    heads, size = records.tobytes(), _POINT.itemsize
    parts = [struct.pack("<Q", points.id.size)]
    for index, (start, stop) in enumerate(bounds.tolist()):
        parts += [heads[index * size : index * size + size], tracks[start:stop]]
    return b"".join(parts)
