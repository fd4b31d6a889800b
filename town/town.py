"""A rendered town: photographs of textured buildings from known cameras.

`render_town(folder, options)` writes the photographs and returns the truth: cameras, surface points and which
camera sees which point. The truth is the oracle of the tests of reconstruction and selection, never an input
of the flow. The same options give bit-identical photographs on one machine, two seeds share no texture.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from scipy.sparse import csr_array

from storage.hdf5.access import create_file, open_file
from storage.keys.options import Options
from storage.pictures.decoding import thumbnail
from town.photography import Shot, make_subject, take
from town.render import Camera

_COLUMNS = ("building", "image_size", "focal_px", "cam_from_world")
_log = logging.getLogger(__name__)


class TownOptions(Options):
    """What the town is; every member changes the photographs."""

    seed: int = Field(default=0, ge=0, description="towns of two seeds share no texture and no photograph")
    buildings: int = Field(default=12, ge=1, description="number of buildings")
    min_views: int = Field(default=10, ge=2, description="fewest photographs of a building")
    max_views: int = Field(default=14, ge=2, description="most photographs of a building")
    distractors: int = Field(default=20, ge=0, description="single photographs of places seen once")
    image_width: int = Field(default=480, ge=64, description="longer side of the photographs, px")
    image_height: int = Field(default=360, ge=64, description="shorter side of the photographs, px")
    texels_per_m: float = Field(
        default=64.0, gt=4, description="resolution of the building fronts, texels per metre"
    )
    supersample: int = Field(default=2, ge=1, le=4, description="samples per pixel along each axis")
    points: int = Field(default=1500, ge=10, description="true surface points drawn per building")


@dataclass(frozen=True)
class Town:
    """The truth about the photographs of a town; rows [R] are photographs in the order of their names.

    building: [R] int64, -1 = distractor. image_size: [R,2] int64, width and height in px. focal_px: [R].
    cam_from_world: [R,3,4], metres, in the frame of the photograph's building. points: [P,3] metres, on
    building point_building [P]. depths: sparse [R,P] float64, metres, where camera r sees point p (in the
    picture, from its front, not occluded).
    """

    names: tuple[str, ...]
    building: NDArray[np.int64]
    image_size: NDArray[np.int64]
    focal_px: NDArray[np.float64]
    cam_from_world: NDArray[np.float64]
    points: NDArray[np.float64]
    point_building: NDArray[np.int64]
    depths: csr_array

    @cached_property
    def visible_points(self) -> csr_array:
        """Sparse [R,P] bool, camera r sees point p."""
        return self.depths.astype(bool)

    @property
    def center_in_world(self) -> NDArray[np.float64]:
        """[R,3] metres, in the frame of each photograph's building."""
        rotation, shift = self.cam_from_world[:, :, :3], self.cam_from_world[:, :, 3]
        return np.asarray(-np.einsum("rji,rj->ri", rotation, shift))

    def views_of(self, building: int) -> NDArray[np.int64]:
        """Rows of the photographs of a building."""
        return np.flatnonzero(self.building == building)

    def extent(self, building: int) -> float:
        """Diagonal of the box around the cameras and points of a building, metres."""
        corners = np.vstack(
            [self.center_in_world[self.building == building], self.points[self.point_building == building]]
        )
        return float(np.linalg.norm(np.ptp(corners, axis=0)))

    def save(self, path: Path) -> None:
        """Write the truth as one HDF5 file; keep it outside of the folder of photographs."""
        with create_file(path) as file:
            file["photos/name"] = list(self.names)
            for name in _COLUMNS:
                file[f"photos/{name}"] = getattr(self, name)
            file["photos/center_in_world"] = self.center_in_world
            file["points/xyz"], file["points/building"] = self.points, self.point_building
            file["visibility/indptr"], file["visibility/point"] = self.depths.indptr, self.depths.indices
            file["visibility/depth"] = self.depths.data

    @classmethod
    def load(cls, path: Path) -> Town:
        """Read what `save` wrote."""
        with open_file(path) as file:
            names = tuple(file["photos/name"].asstr()[:])
            photos = {name: file[f"photos/{name}"][:] for name in _COLUMNS}
            points, point_building = file["points/xyz"][:], file["points/building"][:]
            entries = (file["visibility/depth"][:], file["visibility/point"][:], file["visibility/indptr"][:])
        depths = csr_array(entries, shape=(len(names), len(points)))
        return cls(names, **photos, points=points, point_building=point_building, depths=depths)


def render_town(
    folder: Path, options: TownOptions | None = None, progress: Callable[[int, int], None] | None = None
) -> Town:
    """Write the photographs of a town as JPEG files into a folder and return the truth about them.

    Names are anonymous and in no order. progress(done, total) is called after every photograph; a photograph
    takes about 0.1 s. Raises TownFolderNotEmpty when the folder already holds files.
    """
    options = options or TownOptions()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise TownFolderNotEmpty(
            f"folder {str(folder)!r} already holds files; name a new folder or empty this one"
        )
    plan = _plan(options)
    total = sum(map(len, plan))
    shots: list[tuple[str, int, Shot]] = []
    points: list[NDArray[np.float64]] = []
    for number, names in enumerate(plan):
        distractor = number >= options.buildings
        rng = np.random.default_rng([options.seed, 1, number])
        subject = make_subject(rng, number, options, distractor=distractor)
        points.append(subject.points)
        for view, name in enumerate(names):
            rng = np.random.default_rng([options.seed, 2, number, view])
            shot = take(subject, rng, view, len(names), options)
            (folder / name).write_bytes(shot.jpeg)
            shots.append((name, -1 if distractor else number, shot))
            if progress:
                progress(len(shots), total)
    _log.info("town %d: %d photographs of %d buildings", options.seed, len(shots), options.buildings)
    return _truth(sorted(shots, key=lambda item: item[0]), points[: options.buildings])


class TownFolderNotEmpty(ValueError):
    """The folder that a town is rendered into holds files."""


def _plan(options: TownOptions) -> list[list[str]]:
    """File names per subject: the buildings, then the distractors."""
    if options.max_views < options.min_views:
        raise ValueError(f"max_views {options.max_views} is below min_views {options.min_views}; raise it")
    rng = np.random.default_rng([options.seed, 0])
    views = rng.integers(options.min_views, options.max_views + 1, options.buildings)
    counts = [*map(int, views), *([1] * options.distractors)]
    numbers: set[int] = set()
    while len(numbers) < sum(counts):
        numbers.add(int(rng.integers(0, 1 << 48)))
    names = [f"{number:012x}.jpg" for number in rng.permutation(sorted(numbers))]
    ends = np.cumsum(counts)
    return [names[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _truth(shots: list[tuple[str, int, Shot]], points: list[NDArray[np.float64]]) -> Town:
    """Collect the cameras and what they see."""
    starts = np.concatenate([[0], np.cumsum([len(some) for some in points])]).astype(np.int64)
    cameras: list[Camera] = [shot.camera for _, _, shot in shots]
    rows = [(shot.visible + starts[building], shot.depths) for _, building, shot in shots]
    indptr = np.concatenate([[0], np.cumsum([len(columns) for columns, _ in rows])])
    columns, depths = (np.concatenate([row[k] for row in rows]) for k in (0, 1))
    return Town(
        names=tuple(name for name, _, _ in shots),
        building=np.array([building for _, building, _ in shots], dtype=np.int64),
        image_size=np.array([(c.width, c.height) for c in cameras], dtype=np.int64),
        focal_px=np.array([c.focal_px for c in cameras]),
        cam_from_world=np.array([c.cam_from_world for c in cameras]),
        points=np.vstack(points),
        point_building=np.repeat(np.arange(len(points), dtype=np.int64), np.diff(starts)),
        depths=csr_array((depths, columns.astype(np.int64), indptr), shape=(len(shots), int(starts[-1]))),
    )


def contact_sheet(paths: Sequence[Path], columns: int = 8, thumbnail_px: int = 160) -> Image.Image:
    """The photographs side by side, row by row, each inside a square of thumbnail_px."""
    rows = -(-len(paths) // columns)
    sheet = Image.new("RGB", (columns * thumbnail_px, rows * thumbnail_px), (250, 250, 250))
    for index, path in enumerate(paths):
        small = thumbnail(path, thumbnail_px - 4)
        x = index % columns * thumbnail_px + (thumbnail_px - small.width) // 2
        y = index // columns * thumbnail_px + (thumbnail_px - small.height) // 2
        sheet.paste(small, (x, y))
    return sheet
