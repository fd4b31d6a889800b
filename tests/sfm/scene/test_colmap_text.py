"""COLMAP's text files: read as they were meant, else an error with file and line."""

from __future__ import annotations

import logging
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sfm.scene.colmap import read_model
from sfm.scene.colmap_model import BadModel, ColmapModel
from sfm.scene.colmap_text import read_cameras
from sfm.scene.importing import ImportOptions, import_models
from storage.hdf5 import file as hdf5
from tests.official import needs, official
from tests.sfm.exported_scenes import catalogue_of

CAMERAS = (
    "# Camera list\n# Number of cameras: 2\n"
    "1 SIMPLE_RADIAL 640 480 500.5 320 240 -0.1\n7 PINHOLE 64 48 9 9 3 4\n"
)
IMAGES = (
    "# Image list\n# Number of images: 2, mean observations per image: 1\n"
    "1 1 0 0 0 0.5 -1e-3 2 1 a b é.jpg\n1.5 2.5 11 3 4 -1\n"
    "3 0.5 0.5 0.5 0.5 0 0 1 7 sub/c.jpg\n\n"
)
POINTS = "# 3D point list\n11 1 2 3 255 0 128 0.25 1 0\n12 -1 0 1e2 1 2 3 -1\n"
FILES = {"cameras": CAMERAS, "images": IMAGES, "points3D": POINTS}
BOM = official("cases", "colmap_text_bom", "cameras.txt")
POSES = official("cases", "known_poses")


def write(folder: Path, encoding: str = "utf-8", end: str = "\n", last: bool = True, **changed: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in {**FILES, **changed}.items():
        text = text if last else text.rstrip("\n")
        (folder / f"{name}.txt").write_bytes(text.replace("\n", end).encode(encoding))
    return folder


def check(model: ColmapModel) -> None:
    assert {number: (c.model, c.width, c.height) for number, c in model.cameras.items()} == {
        1: ("SIMPLE_RADIAL", 640, 480), 7: ("PINHOLE", 64, 48),
    }  # fmt: skip
    assert {number: (image.name, image.camera) for number, image in model.images.items()} == {
        1: ("a b é.jpg", 1), 3: ("sub/c.jpg", 7),
    }  # fmt: skip
    assert model.images[1].xy_px.tolist() == [[1.5, 2.5], [3, 4]] and model.images[3].xy_px.shape == (0, 2)
    assert model.images[1].point.tolist() == [11, -1]
    assert model.images[1].translation.tolist() == [0.5, -1e-3, 2]
    assert model.points.id.tolist() == [11, 12] and model.points.error_px.tolist() == [0.25, -1]
    assert model.points.xyz.tolist() == [[1, 2, 3], [-1, 0, 100]] and model.points.rgb[0].tolist() == [
        255,
        0,
        128,
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_model_is_read_from_any_system(tmp_path, encoding):
    for end, last in product(("\n", "\r\n", "\r"), (True, False)):
        check(read_model(write(tmp_path / "m", encoding, end, last)))


def test_blank_lines_between_images_are_passed_over(tmp_path):
    images = IMAGES.replace("3 0.5", "\n\n3 0.5") + "\n\n"
    check(read_model(write(tmp_path / "m", images=images)))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("cameras", "640", "99999999999999999999999", "line 3: the size is '9999"),
        ("cameras", "640", "-640", "line 3: the size is '-640'"),
        ("cameras", "1 SIMPLE", "-1 SIMPLE", "line 3: the camera id is '-1'"),
        ("cameras", "7 PINHOLE", "1 PINHOLE", "line 4: the id 1 is there already"),
        ("cameras", "PINHOLE", "PINHALE", "line 4: camera model 'PINHALE' is not known"),
        ("cameras", " 9 9 3 4", " 9 9 3", "line 4: camera model PINHOLE has 4 parameters, the file gives 3"),
        ("cameras", "7 PINHOLE 64 48 9 9 3 4", "7 PINHOLE", "line 4: 2 fields; a camera is"),
        ("cameras", "500.5", "nan", "line 3: 'nan' is no finite number"),
        ("cameras", "500.5", "1e999", "line 3: '1e999' is no finite number"),
        ("cameras", "500.5", "x", "line 3: 'x' is no finite number"),
        ("images", "1 1 0 0 0", "1 0 0 0 0", "line 3: the rotation is 0 0 0 0"),
        ("images", "1 1 0 0 0", "4294967295 1 0 0 0", "line 3: the image id is '4294967295'"),
        ("images", "1 1 0 0 0", "1.5 1 0 0 0", "line 3: the image id is '1.5'"),
        ("images", "0.5 -1e-3", "inf -1e-3", "line 3: 'inf' is no finite number"),
        ("images", "3 0.5", "1 0.5", "line 5: the id 1 is there already"),
        ("images", " 7 sub/c.jpg", " 7", "line 5: 9 fields; an image is"),
        ("images", "3 4 -1", "3 4", "line 4: 5 fields; points are threes"),
        ("images", "11 3", "-2 3", "line 4: the id of a 3D point is '-2'"),
        ("images", "11 3", "99999999999999999999 3", "line 4: the id of a 3D point is '9999"),
        ("images", "1.5 2.5 11", "1.5 2.5 11.0", "line 4: the id of a 3D point is '11.0'"),
        ("images", "1.5 2.5", "1.5 nan", "line 4: 'nan' is no finite number"),
        ("points3D", "11 1 2", "18446744073709551615 1 2", "line 2: the id is '18446744073709551615'"),
        ("points3D", "11 1 2", "-11 1 2", "line 2: the id is '-11'"),
        ("points3D", "255", "256", "line 2: the colour is '256'"),
        ("points3D", "1e2 1 2", "1e2 -1 2", "line 3: the colour is '-1'"),
        ("points3D", "1e2", "nan", "line 3: 'nan' is no finite number"),
        ("points3D", "12 -1 0 1e2 1 2 3 -1", "12 -1 0 1e2 1 2 3", "line 3: 7 fields; a point is"),
        ("points3D", "128", "1\0", "line 2: holds a NUL byte"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_and_line(tmp_path, name, old, new, message):
    folder = write(tmp_path / "m", **{name: FILES[name].replace(old, new, 1)})
    with pytest.raises(BadModel) as raised:
        read_model(folder)
    assert str(raised.value).startswith(f"{folder / name}.txt, {message}")


def test_a_file_that_announces_more_than_it_has_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read_model(write(tmp_path / "m"))
        assert not caplog.records
        read_model(write(tmp_path / "m", cameras=CAMERAS.replace("cameras: 2", "cameras: 5")))
    assert "cameras.txt, line 2: announces 5, the file has 2" in caplog.text


@needs(BOM)
def test_the_cameras_with_a_mark_that_were_seen():
    cameras = read_cameras(BOM)
    assert 3 in cameras and cameras[3].width == 640


def poses(folder: Path) -> Path:
    """Cameras and images without a single 3D point."""
    images = "".join(f"{n} 1 0 0 0 {n} 0 0 1 {n}.jpg\n\n" for n in (1, 2, 3))
    return write(folder, images=images, points3D="# none\n")


@pytest.mark.parametrize("seen", [False, pytest.param(True, marks=needs(POSES))])
def test_models_without_points_say_what_to_do(tmp_path, seen):
    names = {f"{number:064d}": f"{number}.jpg" for number in (1, 2, 3)}
    arrays = {f"photos/{key}": column for key, column in catalogue_of(names).items()}
    hdf5.write(tmp_path / "c.h5", "catalogue", arrays, stage="catalogue", options={}, inputs=[])
    folder = POSES if seen else poses(tmp_path / "poses")
    with pytest.raises(BadModel, match="the models hold no 3D points; triangulate them first"):
        import_models(tmp_path / "c.h5", ImportOptions(folder=folder), tmp_path / "scene.h5")


def test_any_change_of_a_byte_is_a_model_or_an_error_that_names_the_folder(tmp_path):
    rng = np.random.default_rng(0)
    folder = write(tmp_path / "m")
    for _ in range(150):
        name = list(FILES)[rng.integers(3)]
        content = bytearray(FILES[name].encode())
        for _ in range(rng.integers(1, 4)):
            at = rng.integers(len(content))
            content[at : at + rng.integers(3)] = rng.bytes(int(rng.integers(3)))
        (folder / f"{name}.txt").write_bytes(bytes(content))
        try:
            read_model(folder)
        except BadModel as error:
            assert str(folder) in str(error)  # noqa: PT017
        (folder / f"{name}.txt").write_bytes(FILES[name].encode())
