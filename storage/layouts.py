"""Layouts up to the scene: scan, catalogue, descriptors, features, pairs, matches, scene."""

from __future__ import annotations

from typing import Any

from storage.schemas import Dataset, Layout

PHOTO_STATUS = ("ok", "duplicate", "rejected", "unsupported")
_SHA = "sha256 of the file's bytes, hexadecimal"
_LEFT_OUT = "JSON: how many files were no photographs, by ending or reason; there where some were"
_NAME = "path below the root of the photographs, with forward slashes"


def _photos() -> tuple[Dataset, ...]:
    """The table of photographs that the catalogue makes and the scene carries on."""
    return (
        Dataset("photos/name", ("N",), "str", _NAME, unique=True),
        Dataset("photos/sha256", ("N",), "S64", f"{_SHA}; empty where it was not read", none=True),
        Dataset(
            "photos/width",
            ("N",),
            "int64",
            "width as stored, before the EXIF rotation; 0 = unknown",
            "px",
            minimum=0,
        ),
        Dataset("photos/height", ("N",), "int64", "height as stored; 0 = unknown", "px", minimum=0),
        Dataset(
            "photos/orientation",
            ("N",),
            "int64",
            "EXIF orientation, 1 = upright",
            values=(1, 2, 3, 4, 5, 6, 7, 8),
        ),
        Dataset(
            "photos/working_width",
            ("N",),
            "int64",
            "width of the upright working copy; 0 = none",
            "px",
            minimum=0,
        ),
        Dataset(
            "photos/working_height", ("N",), "int64", "height of the working copy; 0 = none", "px", minimum=0
        ),
        Dataset("photos/status", ("N",), "str", "what became of the file", values=PHOTO_STATUS),
        Dataset("photos/reason", ("N",), "str", "why it is not ok, with the remedy; empty where it is"),
        Dataset(
            "photos/alias_of",
            ("N",),
            "int64",
            "the photograph of the same bytes or picture that stands for it; -1 = itself",
            index="N",
            none=True,
        ),
        Dataset(
            "photos/focal_prior_px",
            ("N",),
            "float64",
            "focal length of the EXIF data on the working copy's grid; nan = unknown",
            "px",
            nan=True,
        ),
    )


def _positions() -> tuple[Dataset, ...]:
    """Where photographs were taken; there for collections that have a GPS position at all."""
    columns = (
        ("latitude_deg", "latitude, north positive", "degrees", 90),
        ("longitude_deg", "longitude, east positive", "degrees", 180),
        ("altitude_m", "altitude above the sea", "m", None),
    )
    common: dict[str, Any] = {"optional": True, "nan": True}
    return tuple(
        Dataset(
            f"photos/{name}",
            ("N",),
            "float64",
            f"GPS {meaning}, of the EXIF data; nan = unknown",
            unit,
            minimum=None if limit is None else -limit,
            maximum=limit,
            **common,
        )
        for name, meaning, unit, limit in columns
    )


SCAN = Layout(
    name="scan",
    version=1,
    description="The image files below a folder and the digests of their contents.",
    groups={"photos": "one row per image file"},
    attributes={"left_out": _LEFT_OUT},
    datasets=(
        Dataset("photos/name", ("N",), "str", _NAME, unique=True),
        Dataset("photos/sha256", ("N",), "S64", f"{_SHA}; empty where it was not read", none=True),
        Dataset("photos/bytes", ("N",), "int64", "size of the file", "bytes", minimum=0),
        Dataset("photos/status", ("N",), "str", "whether the file can be read at all", values=PHOTO_STATUS),
        Dataset("photos/reason", ("N",), "str", "why it is not ok, with the remedy; empty where it is"),
    ),
)

CATALOGUE = Layout(
    name="catalogue",
    version=1,
    description="Every image file found and whether it can be used, rejected ones with the reason.",
    groups={"photos": "one row per image file"},
    datasets=(*_photos(), *_positions()),
)

FEATURES = Layout(
    name="features",
    version=1,
    description="Local features, in hloc's layout: one group per photograph.",
    groups={"{photo}": "local features of one photograph's working copy"},
    datasets=(
        Dataset(
            "{photo}/keypoints",
            ("n", 2),
            "float32",
            "x, y on the working copy, hloc's convention: first pixel's centre (0, 0), COLMAP's minus 0.5",
            "px",
        ),
        Dataset(
            "{photo}/descriptors",
            ("D", "n"),
            ("uint8", "float32"),
            "one descriptor per column, as hloc has it",
        ),
        Dataset("{photo}/scores", ("n",), "float32", "detection score, larger is stronger"),
        Dataset("{photo}/image_size", (2,), "int64", "width and height of the working copy", "px", minimum=1),
        Dataset("{photo}/scales", ("n",), "float32", "size of the feature", "px", optional=True, minimum=0),
        Dataset("{photo}/orientations", ("n",), "float32", "angle of the feature", "rad", optional=True),
        Dataset(
            "{photo}/focal_prior_px",
            (),
            "float64",
            "focal length that EXIF gives, on the working copy; 0 = unknown",
            "px",
            optional=True,
            minimum=0,
        ),
    ),
)

DESCRIPTORS = Layout(
    name="descriptors",
    version=1,
    description="Global descriptors, in hloc's layout: one group per photograph.",
    groups={"{photo}": "global descriptor of one photograph"},
    datasets=(Dataset("{photo}/global_descriptor", ("D",), "float32", "descriptor, L2-normalised"),),
)

PAIRS = Layout(
    name="pairs",
    version=1,
    description="Pairs of photographs, proposed or verified; each pair once.",
    groups={"photos": "the photographs that the pairs point into", "pairs": "one row per pair"},
    datasets=(
        Dataset("photos/sha256", ("N",), "S64", _SHA, unique=True),
        Dataset(
            "pairs/first", ("K",), "int64", "position of one photograph", index="N", below="pairs/second"
        ),
        Dataset(
            "pairs/second", ("K",), "int64", "position of the other photograph, larger than first", index="N"
        ),
        Dataset(
            "pairs/inliers", ("K",), "int64", "matches that agree with the geometry", optional=True, minimum=0
        ),
        Dataset("pairs/source", ("K",), "str", "what proposed the pair, sources joined by +", optional=True),
    ),
)

MATCHES = Layout(
    name="matches",
    version=1,
    description="Matches in hloc's layout: one group per verified pair; and every pair that was tried.",
    groups={
        "{first}": "verified pairs of one photograph",
        "{first}/{second}": "matches of one pair that agree with its two-view geometry",
        "attempts": "one row per pair that was matched, verified or not",
    },
    datasets=(
        Dataset("attempts/first", ("A",), "S64", f"one photograph: {_SHA}", below="attempts/second"),
        Dataset("attempts/second", ("A",), "S64", "the other photograph, its sha256 after the first's"),
        Dataset(
            "attempts/inliers", ("A",), "int64", "matches that agree with the geometry; 0 = none", minimum=0
        ),
        Dataset(
            "{first}/{second}/matches0",
            ("n",),
            "int32",
            "per keypoint of first the keypoint of second, -1 = none",
            none=True,
            minimum=0,
        ),
        Dataset(
            "{first}/{second}/matching_scores0",
            ("n",),
            ("float32", "float16"),
            "score of the match, 0 = none",
        ),
        Dataset(
            "{first}/{second}/configuration",
            (),
            "int64",
            "COLMAP's two-view configuration",
            optional=True,
            minimum=0,
        ),
        Dataset("{first}/{second}/fundamental", (3, 3), "float64", "fundamental matrix", optional=True),
        Dataset("{first}/{second}/essential", (3, 3), "float64", "essential matrix", optional=True),
        Dataset("{first}/{second}/homography", (3, 3), "float64", "homography", optional=True),
    ),
)


def _models_and_cameras() -> tuple[Dataset, ...]:
    return (
        Dataset("models/cluster", ("M",), "int64", "cluster that the model was made from", minimum=0),
        Dataset("models/num_photos", ("M",), "int64", "registered photographs", minimum=0),
        Dataset("models/num_points", ("M",), "int64", "3D points", minimum=0),
        Dataset(
            "models/mean_reprojection_error_px", ("M",), "float64", "mean over its points", "px", minimum=0
        ),
        Dataset("cameras/photo", ("R",), "int64", "registered photograph", index="N"),
        Dataset("cameras/model", ("R",), "int64", "model in which it is registered", index="M"),
        Dataset("cameras/center_in_world", ("R", 3), "float64", "projection centre", "model units"),
        Dataset(
            "cameras/cam_from_world",
            ("R", 3, 4),
            "float64",
            "rotation and translation, x_cam = R x + t",
            "model units",
        ),
        Dataset("cameras/focal_px", ("R",), "float64", "mean focal length", "px", minimum=0),
        Dataset("cameras/colmap_model", ("R",), "str", "COLMAP's camera model, such as SIMPLE_RADIAL"),
        Dataset("cameras/params/indptr", ("R+1",), "int64", "where each camera's parameters begin", csr="T"),
        Dataset("cameras/params/value", ("T",), "float64", "parameters in COLMAP's order"),
    )


def _points_and_pairs() -> tuple[Dataset, ...]:
    return (
        Dataset("visibility/indptr", ("R+1",), "int64", "where each camera's observations begin", csr="E"),
        Dataset(
            "visibility/point",
            ("E",),
            "int64",
            "3D point that the camera sees, rising",
            index="P",
            rows="rising",
        ),
        Dataset(
            "visibility/xy_px",
            ("E", 2),
            "float64",
            "where, on the working copy, first pixel's centre (0.5, 0.5)",
            "px",
        ),
        Dataset(
            "visibility/keypoint",
            ("E",),
            "int64",
            "position among the photograph's local features",
            minimum=0,
        ),
        Dataset(
            "visibility/depth",
            ("E",),
            ("float32", "float64"),
            "distance along the optical axis",
            "model units",
        ),
        Dataset("points/xyz", ("P", 3), "float64", "position in the world of its model", "model units"),
        Dataset("points/rgb", ("P", 3), "uint8", "mean colour of its observations"),
        Dataset(
            "points/error_px",
            ("P",),
            "float64",
            "mean reprojection error; -1 = unknown",
            "px",
            minimum=0,
            none=True,
        ),
        Dataset("points/model", ("P",), "int64", "model that the point belongs to", index="M"),
        Dataset("pairs/first", ("K",), "int64", "one photograph", index="N", below="pairs/second"),
        Dataset("pairs/second", ("K",), "int64", "the other, larger than first", index="N"),
        Dataset("pairs/inliers", ("K",), "int64", "matches that agree with the geometry", minimum=0),
        Dataset("attempts/first", ("A",), "int64", "one photograph", index="N", below="attempts/second"),
        Dataset("attempts/second", ("A",), "int64", "the other, larger than first", index="N"),
        Dataset("attempts/inliers", ("A",), "int64", "raw inliers, 0 = none", minimum=0),
    )


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
    attributes={"left_out": _LEFT_OUT},
    datasets=(
        *_photos(),
        Dataset(
            "photos/cluster",
            ("N",),
            "int64",
            "connected component of the verified pairs; -1 = not ok",
            minimum=0,
            none=True,
        ),
        Dataset(
            "photos/model",
            ("N",),
            "int64",
            "model in which it sees most points; -1 = none",
            index="M",
            none=True,
        ),
        *_models_and_cameras(),
        *_points_and_pairs(),
    ),
)

LAYOUTS = (SCAN, CATALOGUE, DESCRIPTORS, FEATURES, PAIRS, MATCHES, SCENE)
