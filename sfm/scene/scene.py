"""The scene: every photograph of a collection, the 3D models made of them, and who sees which point.

One `Scene` is one `scene.h5`. It is made from COLMAP models: of one folder (`Scene.from_colmap`) or of all
clusters of a collection (`assemble`, the stage). Indices are int64, poses and points float64, pixels those
of the working copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array

from sfm.scene import building, colmap, colmap_model, geometry
from sfm.scene.building import Part
from sfm.scene.colmap_model import ColmapImage, ColmapModel
from sfm.scene.tables import NONE, BadScene, Pairs
from storage.files.digests import is_digest
from storage.hdf5 import file as hdf5
from storage.keys.options import Options
from storage.schemas.scene import Cameras, Models, Photos, Points, Visibility
from storage.schemas.table import Table

_TABLES: dict[str, type[Table]] = {
    "photos": Photos,
    "models": Models,
    "cameras": Cameras,
    "visibility": Visibility,
    "points": Points,
    "pairs": Pairs,
    "attempts": Pairs,
}
_NOT_FOR_SELECTION = {
    "visibility/xy_px": (2,),
    "visibility/keypoint": (),
    "points/xyz": (3,),
    "points/rgb": (3,),
    "points/error_px": (),
}
"""Columns that a selection does without, and the shape of their rows."""


class SceneOptions(Options):
    """What of the reconstruction enters the scene."""

    min_model_photos: int = Field(default=3, ge=2, description="photographs; smaller 3D models are left out")
    leave_out_failed: bool = Field(
        default=False,
        description="go on without the models of a cluster whose mapper hung or aborted; every run tries it "
        "again; otherwise such a cluster ends the run",
    )


@dataclass(frozen=True, eq=False)
class Scene:
    """All arrays of scene.h5. Raises BadScene when rows are not grouped by model or sizes disagree."""

    photos: Photos
    models: Models
    cameras: Cameras
    visibility: Visibility
    points: Points
    pairs: Pairs
    attempts: Pairs

    def __post_init__(self) -> None:
        for name, model in (("cameras", self.cameras.model), ("points", self.points.model)):
            if np.any(np.diff(model) < 0):
                raise BadScene(
                    f"{name}/model must rise: rows are grouped by model; make the scene with assemble"
                )
        if self.visibility.indptr.size != self.cameras.photo.size + 1:
            raise BadScene(
                f"visibility/indptr has {self.visibility.indptr.size} entries "
                f"for {self.cameras.photo.size} cameras"
            )

    @property
    def num_models(self) -> int:
        return int(self.models.cluster.size)

    @classmethod
    def from_colmap(cls, model_dir: Path | str) -> Scene:
        """A finished COLMAP model (binary or text) as a scene of one cluster and one model, images sorted
        by name.

        COLMAP does not know the files' contents: `sha256` is the name's where it is one (`<sha256>.jpg`),
        else the digest of the name. Raises colmap_model.BadModel.
        """
        model = colmap.read_model(Path(model_dir))
        names = sorted(image.name for image in model.images.values())
        if len(set(names)) != len(names) or not names:
            what = "an image name occurs twice" if names else "it has no image"
            raise colmap_model.BadModel(f"{model_dir}: {what}; export the model again")
        size = {image.name: model.cameras[image.camera] for image in model.images.values()}
        width = np.array([size[name].width for name in names], dtype=np.int64)
        height = np.array([size[name].height for name in names], dtype=np.int64)
        count = len(names)
        catalogue = {
            "name": np.array(names, dtype=object),
            "sha256": np.array([_digest_of_name(name) for name in names], dtype="S64"),
            "width": width,
            "height": height,
            "orientation": np.ones(count, dtype=np.int64),
            "working_width": width,
            "working_height": height,
            "status": np.array(["ok"] * count, dtype=object),
            "reason": np.array([""] * count, dtype=object),
            "alias_of": np.full(count, NONE, dtype=np.int64),
            "focal_prior_px": np.full(count, np.nan),
        }
        index = {name: position for position, name in enumerate(names)}
        return scene_of(
            catalogue, np.zeros(count, dtype=np.int64), [Part(0, model, index)], Pairs.none(), Pairs.none()
        )

    @classmethod
    def from_h5(cls, path: Path | str, *, for_selection: bool = False) -> Scene:
        """Read scene.h5.

        `for_selection` leaves out pixels, keypoints and point positions (empty arrays): a third of the
        memory.
        """
        left_out = {at: (0, *size) for at, size in _NOT_FOR_SELECTION.items()} if for_selection else {}
        paths = [each.path for group, kind in _TABLES.items() for each in kind.datasets(group)]
        arrays = hdf5.read(Path(path), "scene", [at for at in paths if at not in left_out])
        arrays["photos/sha256"] = arrays["photos/sha256"].astype("S64")
        arrays |= {at: np.empty(shape) for at, shape in left_out.items()}
        tables: dict[str, Any] = {group: kind.of(arrays, group) for group, kind in _TABLES.items()}
        return cls(**tables)

    def arrays(self) -> dict[str, Any]:
        """Dataset path -> array, as scene.h5 holds them."""
        return {at: array for group in _TABLES for at, array in getattr(self, group).arrays(group).items()}

    def to_h5(
        self,
        path: Path | str,
        *,
        stage: str = "scene",
        options: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Write scene.h5, checked against its layout. attributes: facts beside its content."""
        arrays, described = self.arrays(), options or {}
        hdf5.write(
            path, "scene", arrays, stage=stage, options=described, inputs=inputs, attributes=attributes
        )

    def camera_rows(self, model: int) -> slice:
        """The rows of `cameras` that belong to one model."""
        start, stop = np.searchsorted(self.cameras.model, [model, model + 1])
        return slice(int(start), int(stop))

    def visibility_of_model(self, model: int) -> tuple[csr_array, NDArray[np.floating]]:
        """Visibility graph of one model's camera rows.

        [R_m, P_m] int32 of ones, and the depths of its entries.
        """
        rows = self.camera_rows(model)
        offsets = self.visibility.indptr[rows.start : rows.stop + 1]
        first, last = np.searchsorted(self.points.model, [model, model + 1])
        seen = slice(int(offsets[0]), int(offsets[-1]))
        return geometry.visibility_and_depth(
            offsets - offsets[0],
            self.visibility.point[seen] - first,
            self.visibility.depth[seen],
            int(last - first),
        )

    def to_colmap(self, folder: Path | str, model: int = 0) -> None:
        """Write one model as COLMAP's binary files, see `as_colmap`."""
        colmap.write_model(Path(folder), self.as_colmap(model))

    def as_colmap(self, model: int) -> ColmapModel:
        """One model, images and cameras numbered from 1 in the order of its camera rows.

        Keypoints keep their position; those that see no 3D point are not in a scene and stand at (-1, -1).
        """
        if not 0 <= model < self.num_models:
            raise BadScene(f"model {model} does not exist: the scene has {self.num_models}, numbered from 0")
        rows = range(*self.camera_rows(model).indices(self.cameras.photo.size))
        start, stop = np.searchsorted(self.points.model, [model, model + 1]).tolist()
        points = colmap_model.ColmapPoints(
            np.arange(1, stop - start + 1),
            self.points.xyz[start:stop],
            self.points.rgb[start:stop],
            self.points.error_px[start:stop],
        )
        cameras = {row - rows.start + 1: self._colmap_camera(row) for row in rows}
        images = {
            row - rows.start + 1: self._colmap_image(row, row - rows.start + 1, start - 1) for row in rows
        }
        return ColmapModel(cameras, images, points)

    def _colmap_camera(self, row: int) -> colmap_model.ColmapCamera:
        photo = self.cameras.photo[row]
        start, stop = self.cameras.params_indptr[row : row + 2]
        return colmap_model.ColmapCamera(
            str(self.cameras.colmap_model[row]),
            int(self.photos.working_width[photo]),
            int(self.photos.working_height[photo]),
            self.cameras.params_value[start:stop],
        )

    def _colmap_image(self, row: int, camera: int, offset: int) -> ColmapImage:
        seen = slice(*self.visibility.indptr[row : row + 2])
        keypoint = self.visibility.keypoint[seen]
        count = int(keypoint.max()) + 1 if keypoint.size else 0
        xy, point = np.full((count, 2), -1.0), np.full(count, colmap_model.NO_POINT, dtype=np.int64)
        xy[keypoint], point[keypoint] = self.visibility.xy_px[seen], self.visibility.point[seen] - offset
        pose = self.cameras.cam_from_world[row]
        name = str(self.photos.name[self.cameras.photo[row]])
        quaternion = colmap_model.quaternion_of(pose[:, :3])
        return ColmapImage(quaternion, pose[:, 3], camera, name, xy, point)


def assemble(
    catalogue: Mapping[str, NDArray[Any]],
    clusters: NDArray[np.int64],
    model_dirs: Mapping[int, Sequence[Path]],
    *,
    pairs: Pairs,
    attempts: Pairs,
    options: SceneOptions | None = None,
) -> Scene:
    """The stage: catalogue, matched pairs, clusters and the COLMAP models of each cluster become one scene.

    catalogue: the columns of catalogue.h5, `photos/name` or `name`, ... [N]; clusters: [N], -1 = not
    accepted; model_dirs: cluster -> model folders, whose images are named `<sha256>.jpg`; pairs: verified,
    attempts: all that were matched. The result depends on neither the order of folders nor COLMAP's ids.
    Raises BadScene, colmap_model.BadModel.
    """
    options = options or SceneOptions()
    columns = {key.removeprefix("photos/"): value for key, value in catalogue.items()}
    sha256 = np.asarray(columns["sha256"]).astype("S64")
    accepted = np.flatnonzero(np.asarray(columns["status"]).astype(str) == "ok")
    index = {sha256[photo].decode(): int(photo) for photo in accepted}
    parts = []
    for cluster, folders in sorted(model_dirs.items()):
        for folder in folders:
            model = colmap.read_model(Path(folder))
            if len(model.images) >= options.min_model_photos:
                parts.append(
                    Part(int(cluster), model, _photo_of_name(model, index, clusters, int(cluster), folder))
                )
    return scene_of(
        columns | {"sha256": sha256}, np.asarray(clusters, dtype=np.int64), parts, pairs, attempts
    )


def _digest_of_name(name: str) -> str:
    stem = name.rsplit("/", 1)[-1].split(".", 1)[0]
    return stem if is_digest(stem) else hashlib.sha256(name.encode()).hexdigest()


def _photo_of_name(
    model: ColmapModel, index: Mapping[str, int], clusters: NDArray[np.int64], cluster: int, folder: Path
) -> dict[str, int]:
    photos = {}
    for image in model.images.values():
        photo = index.get(image.name.rsplit("/", 1)[-1].split(".", 1)[0])
        if photo is None:
            raise BadScene(f"{folder}: image {image.name!r} is not an accepted photograph of the catalogue")
        if clusters[photo] != cluster:
            raise BadScene(f"{folder}: image {image.name!r} is of cluster {clusters[photo]}, not {cluster}")
        photos[image.name] = photo
    return photos


def scene_of(
    catalogue: Mapping[str, NDArray[Any]],
    clusters: NDArray[np.int64],
    parts: Sequence[Part],
    pairs: Pairs,
    attempts: Pairs,
) -> Scene:
    """The scene of models whose clusters are known. catalogue: its columns [N]; clusters: [N], -1 = none."""
    count = len(catalogue["name"])
    wrong = [name for name, column in catalogue.items() if len(column) != count]
    if wrong or clusters.shape != (count,):
        raise BadScene(f"{count} photographs, but {', '.join(wrong) or 'clusters'} has another length")
    built = building.tables_of_models(parts, catalogue["sha256"])
    model = building.model_of_photos(built, count)
    columns = {field.name: catalogue[field.name] for field in fields(Photos) if field.name in catalogue}
    photos = Photos(**columns, cluster=clusters, model=model)
    return Scene(photos, built.models, built.cameras, built.visibility, built.points, pairs, attempts)
