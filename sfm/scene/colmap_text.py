"""COLMAP's model files as text: cameras.txt, images.txt, points3D.txt, every error with its line.

Source of the format: https://colmap.github.io/format.html
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfm.scene.colmap_model import BadModel, ColmapCamera, ColmapImage, ColmapPoints, camera_of, points_of
from storage.outside.text import BadText, Text, read_text

_MOST_BYTES = 512 << 20
_MOST_ID = 2**32 - 1  # COLMAP keeps it for "invalid"
_MOST_POINT = 2**63 - 1
_MOST_SIDE_PX = 2**31 - 1
_COUNT = re.compile(r"#\s*Number of \w+:\s*([0-9]{1,12})\b", re.IGNORECASE)
_log = logging.getLogger(__name__)


def read_cameras(path: Path) -> dict[int, ColmapCamera]:
    """Cameras by id. Raises BadModel with the line."""
    text, cameras = _text(path), dict[int, ColmapCamera]()
    for number, line in _lines(text):
        where, fields = text.where(number), line.split()
        if len(fields) < 5:
            raise BadModel(f"{where}: {len(fields)} fields; a camera is: id model width height parameters")
        width, height = (_whole(field, 1, _MOST_SIDE_PX, "size", where) for field in fields[2:4])
        try:
            camera = camera_of(fields[1], width, height, _reals(fields[4:], where))
        except BadModel as error:
            raise BadModel(f"{where}: {error}" if where not in str(error) else str(error)) from error
        _add(cameras, _whole(fields[0], 0, _MOST_ID - 1, "camera id", where), camera, where)
    _compare(text, len(cameras))
    return cameras


def read_images(path: Path) -> dict[int, ColmapImage]:
    """Images by id: two lines each, the second may be empty. Raises BadModel with the line."""
    text, images = _text(path), dict[int, ColmapImage]()
    lines = _lines(text, empty=True)
    for number, line in lines:
        if not line.strip():
            continue
        where, fields = text.where(number), line.split(maxsplit=9)
        if len(fields) < 10:
            raise BadModel(
                f"{where}: {len(fields)} fields; an image is: id qw qx qy qz tx ty tz camera name, and a "
                "line of points below it, which may be empty"
            )
        below, points = next(lines, (number, ""))
        xy_px, ids = _keypoints(points.split(), text.where(below))
        pose = _reals(fields[1:8], where)
        if not np.any(pose[:4]):
            raise BadModel(f"{where}: the rotation is 0 0 0 0, which is none; export the model again")
        camera = _whole(fields[8], 0, _MOST_ID - 1, "camera id", where)
        image = ColmapImage(pose[:4], pose[4:], camera, fields[9].strip(" \t"), xy_px, ids)
        _add(images, _whole(fields[0], 0, _MOST_ID - 1, "image id", where), image, where)
    _compare(text, len(images))
    return images


def read_points(path: Path) -> ColmapPoints:
    """3D points, sorted by id; their tracks follow from the images. Raises BadModel with the line."""
    text = _text(path)
    numbers: list[int] = []
    rows: list[list[str]] = []
    for number, line in _lines(text):
        fields = line.split(maxsplit=8)[:8]
        if len(fields) < 8:
            raise BadModel(
                f"{text.where(number)}: {len(fields)} fields; a point is: id x y z r g b error track"
            )
        numbers.append(number)
        rows.append(fields)
    try:
        points = _points(rows)
    except (ValueError, OverflowError):
        for number, row in zip(numbers, rows, strict=True):  # one of them does not go: which, and why
            _check_point(row, text.where(number))
        raise
    _compare(text, len(rows))
    return points


def _text(path: Path) -> Text:
    try:
        return read_text(path, most_bytes=_MOST_BYTES, most_line=None)
    except BadText as error:
        raise BadModel(f"{error}; or convert the model to COLMAP's binary files") from error


def _lines(text: Text, *, empty: bool = False) -> Iterator[tuple[int, str]]:
    """(number, line) of the lines that are no comments. Raises BadModel."""
    try:
        for number, line in text.lines():
            if not line.startswith("#") and (empty or line.strip()):
                yield number, line
    except BadText as error:
        raise BadModel(str(error)) from error


def _compare(text: Text, found: int) -> None:
    """Say so where the file's own comment announces another number: it may have been cut."""
    for number, line in text.lines():
        if not line.startswith("#"):
            return
        if (announced := _COUNT.match(line)) and int(announced.group(1)) != found:
            _log.warning("%s: announces %s, the file has %d", text.where(number), announced.group(1), found)


def _add(known: dict[int, Any], number: int, value: Any, where: str) -> None:
    if known.setdefault(number, value) is not value:
        raise BadModel(f"{where}: the id {number} is there already; export the model again")


def _whole(field: str, least: int, most: int, what: str, where: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", field) or not least <= int(field) <= most:
        raise BadModel(f"{where}: the {what} is {field[:40]!r}; it is a whole number from {least} to {most}")
    return int(field)


def _reals(fields: Sequence[str], where: str) -> NDArray[np.float64]:
    """[K] finite numbers. Raises BadModel."""
    values = _array(fields, np.float64)
    if values is None or not np.isfinite(values).all():
        for field in fields:
            one = _array([field], np.float64)
            if one is None or not np.isfinite(one).all():
                raise BadModel(f"{where}: {field[:40]!r} is no finite number; export the model again")
        raise BadModel(f"{where}: its numbers cannot be read; export the model again")
    return values


def _keypoints(fields: list[str], where: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """xy [K, 2] px and the ids of the 3D points [K], -1 = none, of an image's second line."""
    if len(fields) % 3:
        raise BadModel(f"{where}: {len(fields)} fields; points are threes of x, y and the id of a 3D point")
    ids = _array(fields[2::3], np.int64)
    if ids is None or (ids < -1).any():
        for field in fields[2::3]:
            _whole(field, -1, _MOST_POINT, "id of a 3D point", where)
    if ids is None:
        raise BadModel(f"{where}: the ids of its 3D points cannot be read; export the model again")
    xy_px = np.empty((len(ids), 2))
    xy_px[:, 0], xy_px[:, 1] = _reals(fields[::3], where), _reals(fields[1::3], where)
    return xy_px, ids


def _array(fields: Sequence[str], dtype: Any) -> NDArray[Any] | None:
    """The fields as numbers, None where one is none or too large."""
    try:
        return np.array(fields, dtype=dtype)
    except (ValueError, OverflowError):
        return None


def _points(rows: list[list[str]]) -> ColmapPoints:
    """Raises ValueError, OverflowError."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    ids = np.array(columns[0], dtype=np.int64)
    xyz = np.array(columns[1:4], dtype=np.float64).T.reshape(-1, 3)
    rgb = np.array(columns[4:7], dtype=np.int64).T.reshape(-1, 3)
    error = np.array(columns[7], dtype=np.float64)
    if (ids < 0).any() or (rgb < 0).any() or (rgb > 255).any() or not np.isfinite(xyz).all():
        raise ValueError("out of range")
    if np.isnan(error).any():
        raise ValueError("out of range")
    return points_of(ids, xyz, rgb.astype(np.uint8), error)


def _check_point(row: list[str], where: str) -> None:
    """Raise what is wrong with one point."""
    _whole(row[0], 0, _MOST_POINT, "id", where)
    _reals([*row[1:4], row[7]], where)
    for field in row[4:7]:
        _whole(field, 0, 255, "colour", where)


READERS: tuple[Callable[[Path], Any], ...] = (read_cameras, read_images, read_points)
