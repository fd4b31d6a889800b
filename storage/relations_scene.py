"""Rules of the tables of photographs and of the scene: sizes of models, poses, who sees what."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from storage.relations import Columns, Rule, csr_blocks, first, pairs_once, repeated

_SLACK = 1e-4  # of rotations and, relative to the distance, of centres: float32 poses keep it
_NUM_PARAMS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
}  # COLMAP's sensor/models.h; models that are not listed are not counted


def reasons(columns: Columns) -> Iterator[tuple[str, str]]:
    """A photograph that is not ok has a reason."""
    status = columns["photos/status"]
    at = first((status != "ok") & (columns["photos/reason"] == ""))
    if at is not None:
        yield "photos/reason", f"is empty at [{at}], but photos/status says {status[at]!r} there"


def aliases(columns: Columns) -> Iterator[tuple[str, str]]:
    """A photograph that is ok stands for duplicates and for itself; "the same bytes" are the same."""
    alias, sha, status = columns["photos/alias_of"], columns["photos/sha256"], columns["photos/status"]
    claimed = np.array(["same bytes" in str(reason) for reason in columns["photos/reason"]], dtype=bool)
    wrong = (alias[alias] >= 0) | (status[alias] != "ok") | (claimed & (sha[alias] != sha))
    at = first((alias >= 0) & wrong)
    if at is not None:
        yield (
            "photos/alias_of",
            f"has {alias[at]} at [{at}], a photograph of other bytes, not ok or itself an alias; make the "
            "catalogue again",
        )


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
    wanted = np.array([_NUM_PARAMS.get(name, number) for name, number in zip(names, numbers, strict=True)])
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


_PHOTOS: tuple[Rule, ...] = (reasons, aliases)

RULES: dict[str, tuple[Rule, ...]] = {
    "scan": (reasons,),
    "catalogue": _PHOTOS,
    "scene": (
        *_PHOTOS,
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
}
