"""Somebody's COLMAP models and the catalogue of their photographs become scene.h5, in place of our own SfM.

Photographs are found by name. Pairs come from `database.db` where the folder has one, else photographs of one
model that share enough 3D points count as verified. A cluster is what pairs and models connect; photographs
in no pair and no model are clusters of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import triu

from sfm.mapping.components import component_labels
from sfm.scene import building, colmap, colmap_model, database_pairs, geometry
from sfm.scene.building import Built, Part
from sfm.scene.colmap_model import NO_POINT, ColmapImage, ColmapModel
from sfm.scene.image_grid import on_working_copy
from sfm.scene.scene import Scene, scene_of
from sfm.scene.tables import NONE, Pairs
from storage.hdf5 import file as hdf5
from storage.keys.options import ContentPath, Options
from storage.keys.stages import Stage
from storage.outside.names import Names

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="imported_scene",
    version=1,
    schema_name="scene",
    suffix=".h5",
    packages=("numpy", "scipy", "h5py"),
    code=__name__,
)
DATABASE = "database.db"
_SHOWN = 3


class ImportOptions(Options):
    """Which models become the scene, and what joins photographs."""

    folder: ContentPath = Field(description="folder of COLMAP models, with database.db where there is one")
    min_inliers: int = Field(
        15,
        ge=1,
        description="inliers in the database, else shared 3D points, of a pair that joins two photographs",
    )
    min_model_photos: int = Field(3, ge=2, description="photographs; smaller 3D models are left out")


class UnknownImages(ValueError):
    """Images of a model for which there is no usable photograph."""


def import_models(
    catalogue: Path,
    options: ImportOptions,
    out: Path,
    *,
    inputs: Sequence[str] = (),
    attributes: Mapping[str, str] | None = None,
) -> Scene:
    """Write scene.h5 of the models in a folder, on the pixel grid of the working copies; attributes: facts
    beside its content.

    Raises UnknownImages, WrongGrid, BadDatabase, BadModel, BadScene.
    """
    columns = hdf5.read(catalogue, "catalogue")
    photos = {key.removeprefix("photos/"): value for key, value in columns.items()}
    photos["sha256"] = photos["sha256"].astype("S64")
    folders = model_folders(options.folder)
    models = [colmap.read_model(folder) for folder in folders]
    models = [model for model in models if len(model.images) >= options.min_model_photos]
    if not models:
        raise colmap_model.BadModel(
            f"{options.folder}: {len(folders)} models, none of {options.min_model_photos} photographs or more"
        )
    if not any(_seen(image) for model in models for image in model.images.values()):
        raise colmap_model.BadModel(
            f"{options.folder}: the models hold no 3D points; triangulate them first (colmap "
            "point_triangulator), for overlap and positives are counted in shared points"
        )
    photo_of = photographs_of([i.name for model in models for i in model.images.values()], photos)
    parts = [_part(model, photo_of, photos) for model in models]
    built = building.tables_of_models(parts, photos["sha256"])
    database = options.folder / DATABASE
    attempts = _pairs_of_database(database, photos) if database.is_file() else _pairs_of_points(built)
    scene = _assembled(parts, photos, attempts, options.min_inliers)
    described = {"min_inliers": options.min_inliers}
    scene.to_h5(out, stage=STAGE.name, options=described, inputs=inputs, attributes=attributes)
    logger.info(
        "%d models with %d photographs imported; %d of %d pairs from %s join clusters",
        len(parts), scene.cameras.photo.size, scene.pairs.first.size, attempts.first.size,
        "the database" if database.is_file() else "shared points",
    )  # fmt: skip
    return scene


def model_folders(folder: Path) -> list[Path]:
    """The folder and those below it that hold a COLMAP model, sorted. Raises BadModel where there is none."""
    names = [f"cameras{suffix}" for suffix in (".bin", ".txt")]
    found = sorted({path.parent for name in names for path in Path(folder).rglob(name)})
    if not found:
        raise colmap_model.BadModel(
            f"{folder}: no COLMAP model in it; give a folder with cameras, images and points3D as .bin or "
            ".txt, or one with such folders (COLMAP's sparse/)"
        )
    return found


def photographs_of(names: Sequence[str], photos: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Image name -> accepted photograph; see `finder`. Raises UnknownImages that names those without one."""
    find = finder(photos)
    found = {name: find(name) for name in sorted(set(names))}
    missing = [name for name, photo in found.items() if photo is None]
    if missing:
        known = Names(map(str, photos["name"]))
        shown = ", ".join(f"{name!r}{known.hint(name)}" for name in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise UnknownImages(
            f"{len(missing)} of {len(found)} images of the models are no usable photographs of the folder: "
            f"{shown}{more}; "
            "give the folder of photographs that the models were made of"
        )
    return {name: photo for name, photo in found.items() if photo is not None}


def finder(photos: Mapping[str, NDArray[Any]]) -> Callable[[str], int | None]:
    """A function from an image's name to its accepted photograph, None where there is none.

    It is the photograph of the same name, in whatever form (`storage.outside.names`), else the only one of
    whose path below its root the name is the end, or the other way round. Duplicates stand for their
    original.
    """
    stands = {
        str(name): photo if alias == NONE else int(alias)
        for photo, (name, alias) in enumerate(zip(photos["name"], photos["alias_of"].tolist(), strict=True))
    }
    status, names = photos["status"].astype(str), Names(stands)

    def find(name: str) -> int | None:
        alike = names.alike(name) or names.ending(name)
        if len(alike) != 1 or status[stands[alike[0]]] != "ok":
            return None
        return stands[alike[0]]

    return find


def _part(model: ColmapModel, photo_of: Mapping[str, int], photos: Mapping[str, NDArray[Any]]) -> Part:
    """A model on the grid of the working copies; of images of one photograph the one with most points."""
    best: dict[int, ColmapImage] = {}
    for image in sorted(model.images.values(), key=lambda each: (-_seen(each), each.name)):
        best.setdefault(photo_of[image.name], image)
    cameras, images = {}, {}
    for number, (photo, image) in enumerate(sorted(best.items()), start=1):
        size = (int(photos["working_width"][photo]), int(photos["working_height"][photo]))
        cameras[number], moved = on_working_copy(
            model.cameras[image.camera], image, int(photos["orientation"][photo]), size
        )
        images[number] = replace(moved, camera=number)
    return Part(
        0, ColmapModel(cameras, images, model.points), {i.name: photo_of[i.name] for i in images.values()}
    )


def _seen(image: ColmapImage) -> int:
    return int(np.count_nonzero(image.point != NO_POINT))


def _pairs_of_database(database: Path, photos: Mapping[str, NDArray[Any]]) -> Pairs:
    """Every matched pair of the database whose photographs are in the folder."""
    pairs, find = database_pairs.read_pairs(database), finder(photos)
    known = {name: find(name) for name in sorted({name for pair in pairs for name in pair})}
    rows = [(known[one], known[other], count) for (one, other), count in pairs.items()]
    rows = [row for row in rows if None not in row and row[0] != row[1]]
    return Pairs.sorted(*(np.array(rows, dtype=np.int64).reshape(-1, 3).T))


def _pairs_of_points(built: Built) -> Pairs:
    """Pairs that see 3D points in common, with their number; of several models the most."""
    visible = geometry.visibility_matrix(
        built.visibility.indptr, built.visibility.point, int(built.points.model.size)
    )
    shared = triu(geometry.shared_points(visible), 1).tocoo()
    photo = built.cameras.photo
    first, second = photo[shared.row], photo[shared.col]
    apart = first != second
    return Pairs.sorted(first[apart], second[apart], shared.data[apart])


def _assembled(
    parts: Sequence[Part], photos: Mapping[str, NDArray[Any]], attempts: Pairs, min_inliers: int
) -> Scene:
    joins = attempts.inliers >= min_inliers
    pairs = Pairs(attempts.first[joins], attempts.second[joins], attempts.inliers[joins])
    members = [np.array(sorted(part.photo_of.values())) for part in parts]
    edges = [np.stack([pairs.first, pairs.second], axis=1)]
    edges += [np.stack([np.full(each.size - 1, each[0]), each[1:]], axis=1) for each in members]
    clusters = _clusters(np.concatenate(edges), photos)
    placed = [part._replace(cluster=int(clusters[m[0]])) for part, m in zip(parts, members, strict=True)]
    return scene_of(photos, clusters, placed, pairs, attempts)


def _clusters(edges: NDArray[np.int64], photos: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """[N] connected component, numbered by the smallest sha256; -1 = not accepted."""
    accepted = np.flatnonzero(photos["status"].astype(str) == "ok")
    ordered = accepted[np.argsort(photos["sha256"][accepted], kind="stable")]
    position = np.full(len(photos["status"]), NONE, dtype=np.int64)
    position[ordered] = np.arange(ordered.size)
    clusters = np.full(len(photos["status"]), NONE, dtype=np.int64)
    clusters[ordered] = component_labels(position[edges], ordered.size)
    return clusters
