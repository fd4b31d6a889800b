"""A scene for COLMAP and what reads its models: one folder per 3D model, the images, a database if wanted.

    images/<name>                                        working copies
    sparse/0, sparse/1, ..                               binary models, numbered as in scene.h5
    database.db                                          features and verified matches (optional)
    photographs.csv                                      whose image is whose photograph

An image has the same id in every model and in the database.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfm.export.names import Exported, ImageMode, UnusableExport, exported, write_photographs
from sfm.features.database import colmap_keypoints, write_features, write_geometries
from sfm.matching.match import read_verified
from sfm.scene import colmap
from sfm.scene.colmap_model import NO_POINT, ColmapImage, ColmapModel
from sfm.scene.rigs import write_rigs
from sfm.scene.scene import Scene
from storage.children.patience import run_patiently
from storage.hdf5.file import read_items

logger = logging.getLogger(__name__)

DATABASE = "database.db"
_TIME_LIMIT_S = 24 * 3600.0


def export_colmap(
    scene: Scene,
    folder: Path,
    *,
    working: Mapping[str, Path],
    features: Mapping[str, Path] | None = None,
    matches: Mapping[tuple[str, str], Path] | None = None,
    images: ImageMode = "copy",
) -> Exported:
    """Fill an empty folder with the models of a scene and their images.

    working: sha256 -> folder of its working copy; features: sha256 -> features file that the models were made
    of (fills in keypoints that see no 3D point, else at (-1, -1)); matches: verified pair -> match file (with
    features: writes the database). Raises UnusableExport, ChildFailed.
    """
    photographs = exported(scene)
    for number in range(scene.num_models):
        place = folder / "sparse" / str(number)
        model = _model(scene, number, photographs, features or {})
        colmap.write_model(place, model)
        write_rigs(place, model)
    write_photographs(folder, scene, photographs, working, images)
    if matches is not None:
        _write_database(folder / DATABASE, photographs, features or {}, matches)
    logger.debug("%d models of %d photographs exported", scene.num_models, len(photographs.name))
    return photographs


def _model(scene: Scene, number: int, photographs: Exported, features: Mapping[str, Path]) -> ColmapModel:
    """One model of a scene under the exported names and ids."""
    found, first = scene.as_colmap(number), scene.camera_rows(number).start
    ids, cameras, images = photographs.ids, {}, {}
    for row, image in found.images.items():
        sha = scene.photos.sha256[scene.cameras.photo[first + row - 1]].decode()
        cameras[ids[sha]] = found.cameras[image.camera]
        filled = _with_all_keypoints(image, features.get(sha), sha)
        images[ids[sha]] = replace(filled, camera=ids[sha], name=photographs.name[sha])
    return ColmapModel(cameras, images, found.points)


def _with_all_keypoints(image: ColmapImage, file: Path | None, sha: str) -> ColmapImage:
    if file is None:
        return image
    ((_, arrays),) = read_items(file, [sha], ["keypoints"])
    xy: NDArray[np.float64] = colmap_keypoints(arrays["keypoints"]).astype(np.float64)
    count = len(image.point)
    if len(xy) < count:
        raise UnusableExport(
            f"{image.name!r}: the model uses {count} keypoints, its features are {len(xy)}; run again"
        )
    point = np.full(len(xy), NO_POINT, dtype=np.int64)
    seen = image.point != NO_POINT
    point[:count] = image.point
    xy[:count][seen] = image.xy_px[seen]
    return replace(image, xy_px=xy, point=point)


def _write_database(
    path: Path, photographs: Exported, features: Mapping[str, Path], matches: Mapping[tuple[str, str], Path]
) -> None:
    without = sorted(set(photographs.name) - set(features))
    if without:
        raise UnusableExport(f"{photographs.name[without[0]]!r} has no features; a database needs them all")
    names = dict(photographs.name)
    files = {sha: str(features[sha]) for sha in names}
    verified = [(first, second, str(file)) for (first, second), file in sorted(matches.items())]
    child, label = "sfm.export.colmap:_fill_database", f"database of {len(names)} photographs"
    run_patiently(child, path, names, files, verified, label=label, total_limit_s=_TIME_LIMIT_S)


def _fill_database(
    out: Path, names: dict[str, str], features: dict[str, str], matches: list[tuple[str, str, str]]
) -> None:
    """The child's work. COLMAP writes digests for names first: its own numbering follows them."""
    for left in out.parent.glob(f"{out.name}*"):  # of a process that was killed
        left.unlink()
    identifiers = write_features(out, features, with_descriptors=True)
    write_geometries(out, identifiers, read_verified(matches))
    with closing(sqlite3.connect(out)) as database, database:
        rows = [(names[sha], identifier) for sha, identifier in identifiers.items()]
        database.executemany("UPDATE images SET name = ? WHERE image_id = ?", rows)
    with closing(sqlite3.connect(out)) as database:
        # one file, which reading does not surround by others
        database.execute("PRAGMA journal_mode = DELETE")
