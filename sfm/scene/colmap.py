"""COLMAP's model files as plain arrays: read and written with numpy, without COLMAP.

A model folder holds `cameras`, `images` and `points3D`, each as .bin or .txt; `rigs` and `frames`, which
newer versions put beside them, repeat what the images say. Text: `sfm.scene.colmap_text`. Source of the
formats: https://colmap.github.io/format.html
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sfm.scene.colmap_model import (
    _MOST_SIDE_PX,
    CAMERA_MODELS,
    NO_POINT,
    BadModel,
    ColmapCamera,
    ColmapImage,
    ColmapModel,
    ColmapPoints,
    camera_of,
    points_of,
)

# name: (id, number of parameters, number of focal lengths, which come first)


def read_model(folder: Path) -> ColmapModel:
    """Read a model folder, binary files first, else text.

    Raises BadModel that names the file and what is wrong.
    """
    from sfm.scene import colmap_text  # which makes the classes of this module

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
