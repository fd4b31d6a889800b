"""The scene: all 3D models of a collection, who sees what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.schemas.layout import Layout
from storage.schemas.photographs import LEFT_OUT, Photographs, aliases, reasons
from storage.schemas.rules import Columns, csr_blocks, first, pairs_once, repeated
from storage.schemas.table import Floats, Ints, Table, Texts, column

_SLACK = 1e-4  # of rotations and, relative to the distance, of centres: float32 poses keep it
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
"""COLMAP's sensor/models.h: name -> (number, parameters, focal lengths among them, which come first)."""


@dataclass(frozen=True, eq=False)
class Photos(Photographs):
    """Every image file found [N], rejected ones too, in the catalogue's order. -1 = none."""

    cluster: Ints = column(
        "int64", "connected component of the verified pairs; -1 = not ok", minimum=0, none=True
    )
    model: Ints = column("int64", "model in which it sees most points; -1 = none", index="M", none=True)


@dataclass(frozen=True, eq=False)
class Models(Table, rows="M"):
    """3D models [M], by cluster, then larger first, then smallest sha256."""

    cluster: Ints = column("int64", "cluster that the model was made from", minimum=0)
    num_photos: Ints = column("int64", "registered photographs", minimum=0)
    num_points: Ints = column("int64", "3D points", minimum=0)
    mean_reprojection_error_px: Floats = column("float64", "mean over its points", "px", minimum=0)


@dataclass(frozen=True, eq=False)
class Cameras(Table, rows="R"):
    """Registered photographs [R], by model, then photograph: one row per (photo, model)."""

    photo: Ints = column("int64", "registered photograph", index="N")
    model: Ints = column("int64", "model in which it is registered", index="M")
    center_in_world: Floats = column("float64", "projection centre", "model units", dims=(3,))
    cam_from_world: Floats = column(
        "float64", "rotation and translation, x_cam = R x + t", "model units", dims=(3, 4)
    )
    focal_px: Floats = column("float64", "mean focal length", "px", minimum=0)
    colmap_model: Texts = column("str", "COLMAP's camera model, such as SIMPLE_RADIAL")
    params_indptr: Ints = column("int64", "where each camera's parameters begin", rows="R+1", csr="T")
    params_value: Floats = column("float64", "parameters in COLMAP's order", rows="T")


@dataclass(frozen=True, eq=False)
class Visibility(Table, rows="E"):
    """Which points each camera sees: CSR over cameras, by point, then keypoint.

    depth along the viewing axis, model unit.
    """

    indptr: Ints = column("int64", "where each camera's observations begin", rows="R+1", csr="E")
    point: Ints = column("int64", "3D point that the camera sees, rising", index="P", order="rising")
    xy_px: Floats = column(
        "float64", "where, on the working copy, first pixel's centre (0.5, 0.5)", "px", dims=(2,)
    )
    keypoint: Ints = column("int64", "position among the photograph's local features", minimum=0)
    depth: NDArray[np.floating] = column(
        ("float32", "float64"), "distance along the optical axis", "model units"
    )


@dataclass(frozen=True, eq=False)
class Points(Table, rows="P"):
    """3D points [P], by model."""

    xyz: Floats = column("float64", "position in the world of its model", "model units", dims=(3,))
    rgb: NDArray[np.uint8] = column("uint8", "mean colour of its observations", dims=(3,))
    error_px: Floats = column("float64", "mean reprojection error; -1 = unknown", "px", minimum=0, none=True)
    model: Ints = column("int64", "model that the point belongs to", index="M")


@dataclass(frozen=True, eq=False)
class Pairs(Table, rows="K"):
    """Pairs of photographs [K], first < second, with their number of inliers; sorted."""

    first: Ints = column("int64", "one photograph", index="N", below="second")
    second: Ints = column("int64", "the other, larger than first", index="N")
    inliers: Ints = column("int64", "matches that agree with the geometry", minimum=0)


def sizes_of_models(columns: Columns) -> Iterator[tuple[str, str]]:
    """The numbers of photographs and points are those of the tables."""
    for path, table in (("models/num_photos", "cameras/model"), ("models/num_points", "points/model")):
        told = columns[path]
        counted = np.bincount(columns[table], minlength=len(told))
        at = first(told != counted)
        if at is not None:
            yield path, f"has {told[at]} at [{at}], but {counted[at]} rows of {table} are of that model"


def poses(columns: Columns) -> Iterator[tuple[str, str]]:
    """cam_from_world begins with a rotation; the centre is where it sends to zero."""
    pose, center = columns["cameras/cam_from_world"], columns["cameras/center_in_world"]
    rotation, translation = pose[:, :, :3], pose[:, :, 3]
    product = np.einsum("rij,rkj->rik", rotation, rotation)
    skew = np.abs(product - np.eye(3)).max(axis=(1, 2), initial=0.0)
    bad = (skew > _SLACK) | (np.linalg.det(rotation) < 0)
    at = first(bad)
    if at is not None:
        yield (
            "cameras/cam_from_world",
            f"has no rotation at [{at}]: R R^T differs from 1 by {skew[at]:.3g}; its quaternion was not of "
            "unit length, or the axes are mirrored",
        )
    away = np.linalg.norm(np.einsum("rij,rj->ri", rotation, center) + translation, axis=1)
    at = first(~bad & (away > _SLACK * (1 + np.linalg.norm(translation, axis=1))))
    if at is not None:
        yield (
            "cameras/center_in_world",
            f"is not the centre of cameras/cam_from_world at [{at}], off by {away[at]:.3g} model units; it "
            "is -R^T t",
        )


def cameras_once(columns: Columns) -> Iterator[tuple[str, str]]:
    """A photograph is registered at most once in a model, and only if it is ok."""
    photo, model = columns["cameras/photo"], columns["cameras/model"]
    rows = repeated(photo, model)
    if rows is not None:
        yield "cameras/photo", f"has {photo[rows[1]]} at [{rows[1]}], a second time in model {model[rows[1]]}"
    at = first(columns["photos/status"][photo] != "ok")
    if at is not None:
        yield "cameras/photo", f"has {photo[at]} at [{at}], a photograph that photos/status does not call ok"


def focal_lengths(columns: Columns) -> Iterator[tuple[str, str]]:
    """A camera has a focal length."""
    focal = columns["cameras/focal_px"]
    at = first(focal <= 0)
    if at is not None:
        yield "cameras/focal_px", f"has {focal[at]:g} at [{at}]; a camera's focal length is positive"


def camera_parameters(columns: Columns) -> Iterator[tuple[str, str]]:
    """As many parameters as COLMAP's camera model has."""
    names, numbers = columns["cameras/colmap_model"], np.diff(columns["cameras/params/indptr"])
    known = {name: parameters for name, (_, parameters, _) in CAMERA_MODELS.items()}
    wanted = np.array([known.get(name, number) for name, number in zip(names, numbers, strict=True)])
    at = first(wanted != numbers)
    if at is not None:
        yield (
            "cameras/params/indptr",
            f"gives camera {at} {numbers[at]} parameters, but {names[at]} has {wanted[at]}",
        )


def models_of_photographs(columns: Columns) -> Iterator[tuple[str, str]]:
    """photos/model is a model in which the photograph has a camera; only photographs that are ok have one."""
    model = columns["photos/model"]
    known = set(zip(columns["cameras/photo"].tolist(), columns["cameras/model"].tolist(), strict=True))
    for photo in np.flatnonzero(model >= 0).tolist():
        if (photo, int(model[photo])) not in known:
            yield "photos/model", f"has {model[photo]} at [{photo}], but that photograph has no camera there"
            return


def clusters_of_photographs(columns: Columns) -> Iterator[tuple[str, str]]:
    """Photographs that are ok have a cluster, others have none."""
    cluster, ok = columns["photos/cluster"], columns["photos/status"] == "ok"
    at = first((cluster >= 0) != ok)
    if at is not None:
        text = f"has {cluster[at]} at [{at}], but photos/status says {columns['photos/status'][at]!r} there"
        yield "photos/cluster", text


def observations(columns: Columns) -> Iterator[tuple[str, str]]:
    """A camera sees points of its own model, and every point is seen."""
    of_cameras, of_points = columns["cameras/model"], columns["points/model"]
    path, seen = "visibility/point", np.zeros(len(of_points), dtype=bool)
    for begin, row, (point,) in csr_blocks(columns, "visibility/indptr", path):
        seen[point] = True
        at = first(of_points[point] != of_cameras[row])
        if at is not None:
            yield path, f"has {point[at]} at [{begin + at}], a point of another model than its camera's"
            break
    else:
        at = first(~seen)
        if at is not None:
            yield path, f"never names point {at}; a 3D point that no camera sees cannot be"


def keypoints_once(columns: Columns) -> Iterator[tuple[str, str]]:
    """A local feature is the observation of one point."""
    path = "visibility/keypoint"
    for begin, row, (keypoint,) in csr_blocks(columns, "visibility/indptr", path):
        entries = repeated(row, keypoint)
        if entries is not None:
            at = entries[1]
            yield path, f"has {keypoint[at]} at [{begin + at}], a second time in camera {row[at]}"
            return


SCENE = Layout(
    name="scene",
    version=1,
    description="What structure from motion says: photographs, cameras, 3D points, who sees what.",
    groups={
        "photos": "every image file found, rejected ones too",
        "models": "one row per 3D model",
        "cameras": "one row per registered photograph and model",
        "cameras/params": "camera parameters, as many as each camera model has (CSR over cameras)",
        "visibility": "which 3D points each camera sees (CSR over cameras)",
        "points": "one row per 3D point",
        "pairs": "all geometrically verified pairs of photographs",
        "attempts": "every pair of photographs that was matched",
    },
    attributes={"left_out": LEFT_OUT},
    datasets=(
        *Photos.datasets("photos"),
        *Models.datasets("models"),
        *Cameras.datasets("cameras"),
        *Visibility.datasets("visibility"),
        *Points.datasets("points"),
        *Pairs.datasets("pairs"),
        *Pairs.datasets("attempts", rows="A", means={"inliers": "raw inliers, 0 = none"}),
    ),
    rules=(
        reasons,
        aliases,
        sizes_of_models,
        poses,
        cameras_once,
        focal_lengths,
        camera_parameters,
        models_of_photographs,
        clusters_of_photographs,
        observations,
        keypoints_once,
        pairs_once("pairs"),
        pairs_once("attempts"),
    ),
)


LAYOUTS = (SCENE,)
