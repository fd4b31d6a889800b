"""COLMAP's binary files from anybody: a model, or one line that names the file."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sfm.scene.colmap import read_model, write_model
from sfm.scene.colmap_model import BadModel, ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from sfm.scene.scene import Scene
from tests.official import needs, official

CASE = official("cases", "colmap_overflow")


def write(folder: Path) -> Path:
    cameras = {1: ColmapCamera("SIMPLE_RADIAL", 640, 480, np.array([500.0, 320, 240, 0.01]))}
    images = {
        number: ColmapImage(
            np.array([1.0, 0, 0, 0]), np.zeros(3), 1, f"a/{number}.jpg", np.ones((3, 2)), np.array([5, 6, -1])
        )
        for number in (1, 2)
    }
    points = ColmapPoints(np.array([5, 6]), np.ones((2, 3)), np.zeros((2, 3), np.uint8), np.ones(2))
    write_model(folder, ColmapModel(cameras, images, points))
    return folder


def put(name: str, at: int, form: str, *values: float) -> Callable[[Path], None]:
    """A change of one file: other numbers at a place."""

    def change(folder: Path) -> None:
        content = bytearray((folder / f"{name}.bin").read_bytes())
        struct.pack_into(form, content, at, *values)
        (folder / f"{name}.bin").write_bytes(content)

    return change


CAMERA, IMAGE, POINT = 8, 8, 8
NAN, MANY = float("nan"), 2**64 - 1
CHANGES = {
    "cameras announced": put("cameras", 0, "<Q", MANY),
    "images announced": put("images", 0, "<Q", MANY),
    "points announced": put("points3D", 0, "<Q", MANY),
    "points announced, just too many": put("points3D", 0, "<Q", 3),
    "width beyond int64": put("cameras", CAMERA + 8, "<Q", MANY),
    "width of 0": put("cameras", CAMERA + 8, "<Q", 0),
    "a focal length that is none": put("cameras", CAMERA + 24, "<d", NAN),
    "an unknown camera model": put("cameras", CAMERA + 4, "<i", -1),
    "keypoints beyond the file": put("images", IMAGE + 64 + 8, "<Q", MANY),
    "keypoints whose bytes overflow": put("images", IMAGE + 64 + 8, "<Q", 2**60),
    "a pose that is none": put("images", IMAGE + 4, "<d", NAN),
    "a turn of length 0": put("images", IMAGE + 4, "<4d", 0, 0, 0, 0),
    "a keypoint nowhere": put("images", IMAGE + 64 + 16, "<d", float("inf")),
    "a camera that is not listed": put("images", IMAGE + 60, "<I", 9),
    "a point that is not listed": put("images", IMAGE + 64 + 16 + 16, "<q", 2**62),
    "an image twice": put("images", IMAGE, "<I", 2),
    "a track beyond the file": put("points3D", POINT + 43, "<Q", MANY),
    "a track whose bytes overflow": put("points3D", POINT + 43, "<Q", 2**61),
    "a point nowhere": put("points3D", POINT + 8, "<d", NAN),
    "a point's number beyond int64": put("points3D", POINT, "<Q", MANY),
    "a point twice": put("points3D", POINT, "<Q", 6),
}


@pytest.mark.parametrize("name", CHANGES)
def test_numbers_that_cannot_be_are_named(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "model")
    assert len(read_model(folder).images) == 2
    CHANGES[name](folder)
    with pytest.raises(BadModel, match="model"):
        read_model(folder)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_a_file_that_is_cut_off_anywhere_is_named(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "model")
    content = (folder / f"{name}.bin").read_bytes()
    for size in range(len(content)):
        (folder / f"{name}.bin").write_bytes(content[:size])
        with pytest.raises(BadModel, match="model"):
            read_model(folder)


def test_a_model_without_images_is_no_scene(tmp_path: Path) -> None:
    empty = ColmapPoints(np.empty(0, np.int64), np.empty((0, 3)), np.empty((0, 3), np.uint8), np.empty(0))
    write_model(tmp_path / "model", ColmapModel({}, {}, empty))
    with pytest.raises(BadModel, match="has no image"):
        Scene.from_colmap(tmp_path / "model")


@needs(CASE)
def test_the_case_that_overflowed(tmp_path: Path) -> None:
    shutil.copytree(CASE, tmp_path / "model")
    with pytest.raises(BadModel, match="model"):
        read_model(tmp_path / "model")
