"""Photographs of a building of the rendered town: viewpoints, weather, passers-by, the camera's flaws."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from town import details
from town.buildings import STYLES, make_building
from town.geometry import DOWN, Building, Quad
from town.render import NEAR_M, Buffers, Camera, Light, rasterise, shade
from town.textures import Colour, Pixels, Size, two_noises

if TYPE_CHECKING:
    from town.town import TownOptions

UP = -DOWN


@dataclass(frozen=True)
class Subject:
    """What is photographed: a building and its true surface points [P,3] with the quad each is on [P]."""

    building: Building
    points: NDArray[np.float64]
    point_quad: NDArray[np.int64]


@dataclass(frozen=True)
class Shot:
    """One photograph: JPEG bytes, camera, indices of the points it sees [n], their depths [n] in metres."""

    jpeg: bytes
    camera: Camera
    visible: NDArray[np.int64]
    depths: NDArray[np.float64]


def make_subject(
    rng: np.random.Generator, number: int, options: TownOptions, *, distractor: bool = False
) -> Subject:
    """A building of the style that is due; a distractor has any style, half the resolution, no points."""
    style = STYLES[(int(rng.integers(0, len(STYLES))) if distractor else number) % len(STYLES)]
    building = make_building(rng, style, options.texels_per_m * (0.5 if distractor else 1.0))
    points, owner = sample_points(rng, building.quads, 0 if distractor else options.points)
    return Subject(building, points, owner)


def sample_points(
    rng: np.random.Generator, quads: list[Quad], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points [count,3] drawn uniformly from the sampled quads, and the quad of each [count]."""
    areas = np.array([quad.opaque_area if quad.sampled else 0.0 for quad in quads])
    owner = np.sort(rng.choice(len(quads), size=count, p=areas / areas.sum()))
    points = np.empty((count, 3))
    for index in np.unique(owner):
        quad, rows = quads[index], np.flatnonzero(owner == index)
        opaque = quad.texture.opaque
        texel = rng.choice(np.flatnonzero(opaque), size=len(rows))
        line, column = np.divmod(texel, opaque.shape[1])
        s = (column + rng.uniform(0, 1, len(rows))) / opaque.shape[1]
        t = (line + rng.uniform(0, 1, len(rows))) / opaque.shape[0]
        points[rows] = quad.corner + s[:, None] * quad.across + t[:, None] * quad.down
    return points, owner.astype(np.int64)


def look_at(center: NDArray[np.float64], target: NDArray[np.float64], roll: float) -> NDArray[np.float64]:
    """cam_from_world [3,4] of a camera at center looking at target; roll: radians, up leans left."""
    forward = (target - center) / np.linalg.norm(target - center)
    right = np.cross(forward, UP)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    rotation = np.stack([c * right + s * down, c * down - s * right, forward])
    return np.column_stack([rotation, -rotation @ center])


def viewpoint(
    building: Building, rng: np.random.Generator, view: int, views: int, options: TownOptions
) -> Camera:
    """A camera on an arc before the building; the views of one building are spread over the arc."""
    portrait = rng.uniform() < 0.2
    width, height = options.image_width, options.image_height
    if portrait:
        width, height = height, width
    focal = options.image_width * float(np.exp(rng.uniform(np.log(0.75), np.log(1.25))))
    azimuth = np.deg2rad(-52 + 104 * (view + rng.uniform(0.1, 0.9)) / views)
    seen_width = building.width * np.cos(azimuth) + 0.6 * building.depth * np.abs(np.sin(azimuth))
    fit = max(seen_width * focal / width, building.height * focal / height) + 2.0
    distance = fit * float(np.exp(rng.uniform(np.log(0.62), np.log(1.35))))
    target = np.array(
        [rng.uniform(-0.2, 0.2) * building.width, 0.0, building.height * rng.uniform(0.36, 0.56)]
    )
    eye = rng.uniform(1.4, 2.0) if rng.uniform() < 0.65 else rng.uniform(3.0, 7.0)
    center = target + distance * np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    center[2] = eye
    roll = np.deg2rad(float(rng.normal(0, 4.0)))
    return Camera(look_at(center, target, roll), focal, width, height)


def take(subject: Subject, rng: np.random.Generator, view: int, views: int, options: TownOptions) -> Shot:
    """Photograph number `view` of `views` of a subject."""
    camera = viewpoint(subject.building, rng, view, views, options)
    quads = subject.building.quads + occluders(camera, rng, options.texels_per_m)
    buffers, projected = rasterise(quads, camera, options.supersample)
    light = weather(rng)
    picture = shade(quads, projected, buffers, light, sky(rng, camera, light), options.supersample)
    visible, depths = see_points(subject, camera, buffers, options.supersample)
    return Shot(develop(rng, picture * light.tone, noise=1.6 if light.glow else 1.0), camera, visible, depths)


def occluders(camera: Camera, rng: np.random.Generator, t: float) -> list[Quad]:
    """People, cars and branches between the camera and the building, facing the camera."""
    quads: list[Quad] = []
    center = camera.center_in_world
    away = camera.cam_from_world[2, :3] * np.array([1, 1, 0])
    away /= np.linalg.norm(away)
    right = np.array([away[1], -away[0], 0.0])
    reach = float(np.linalg.norm(center[:2]))
    for _ in range(int(rng.poisson(1.4))):
        depth = reach * rng.uniform(0.3, 0.75)
        aside = rng.uniform(-0.45, 0.45) * depth * camera.width / camera.focal_px
        foot = center * np.array([1, 1, 0]) + away * depth + right * aside
        if rng.uniform() < 0.75:
            sheet, width, height = details.person(rng, t), 0.7, rng.uniform(1.55, 1.9)
        else:
            sheet, width, height = details.car(rng, t * 0.7), 4.2, 1.5
        quads.append(Quad(foot - right * width / 2 + UP * height, right * width, -UP * height, sheet, True))
    if rng.uniform() < 0.25:
        depth = rng.uniform(3.0, 5.0)
        side = rng.choice([-1.0, 1.0]) * 0.5 * depth * camera.width / camera.focal_px
        place = center + away * depth + right * side + UP * rng.uniform(0.6, 1.4)
        sheet = details.foliage(rng, (1.6, 1.2), t, trunk=False)
        quads.append(Quad(place - right * 0.8 + UP * 0.6, right * 1.6, -UP * 1.2, sheet, True))
    return quads


def weather(rng: np.random.Generator) -> Light:
    """The light of one photograph: overcast, sun, a shadow over the lower floors, evening sun, or dusk."""
    kind = rng.choice(["overcast", "sun", "shadow", "evening", "dusk"], p=[0.28, 0.28, 0.18, 0.12, 0.14])
    ambient, tone, colours = _WEATHERS[kind]
    sun = np.array([rng.uniform(-0.9, 0.9), rng.uniform(-1.0, -0.3), rng.uniform(0.35, 1.0)])
    if kind == "evening":
        sun = np.array([rng.choice([-1.0, 1.0]), rng.uniform(-0.8, -0.2), 0.25])
    elif kind == "dusk":
        sun = UP
    shadow = (rng.uniform(-0.5, 0.5), -1.0, rng.uniform(2.5, 6.0)) if kind == "shadow" else None
    share = rng.uniform(*ambient)
    glow = rng.uniform(0.5, 1.0) if kind == "dusk" else 0.0
    return Light(share, sun / np.linalg.norm(sun), shadow, glow, tone, colours)


_CLEAR = (0.48, 0.64), (1.05, 1.02, 0.96), ((0.42, 0.58, 0.82), (0.80, 0.86, 0.92))
_WEATHERS: dict[str, tuple[Size, Colour, tuple[Colour, Colour]]] = {
    "overcast": ((0.8, 0.95), (1.0, 1.0, 1.0), ((0.72, 0.74, 0.77), (0.88, 0.89, 0.90))),
    "sun": _CLEAR,
    "shadow": _CLEAR,
    "evening": ((0.42, 0.55), (1.22, 1.0, 0.74), ((0.45, 0.52, 0.70), (0.95, 0.75, 0.52))),
    "dusk": ((0.42, 0.55), (0.98, 0.96, 1.08), ((0.20, 0.25, 0.42), (0.68, 0.52, 0.50))),
}
"""Range of the ambient light, colour of the light, colours of the sky above and at the horizon."""


def sky(rng: np.random.Generator, camera: Camera, light: Light) -> Pixels:
    """Smooth sky and clouds of one photograph [H,W,3]."""
    shape, size = (camera.height, camera.width), camera.width
    ramp = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None, None]
    high, low = (np.array(tone, dtype=np.float32) for tone in light.sky)
    clouds = two_noises(rng, shape, (0.12 * size, 0.3 * size), (0.06 * size, 0.16 * size), 1.0)
    cover = np.clip(clouds * 0.5, 0, 1)[..., None] * np.float32(0.2 if light.glow else 0.75)
    colour = high + (low - high) * ramp
    return np.asarray(colour + (np.float32(0.93) - colour) * cover, dtype=np.float32)


def see_points(
    subject: Subject, camera: Camera, buffers: Buffers, supersample: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which true points the camera sees, ascending, and their depths: their own quad is at their sample."""
    points = subject.points @ camera.cam_from_world[:, :3].T + camera.cam_from_world[:, 3]
    depth = np.maximum(points[:, 2], 1e-6)
    size = np.array([camera.width, camera.height])
    xy = points[:, :2] / depth[:, None] * camera.focal_px + size / 2
    inside = np.flatnonzero((points[:, 2] > NEAR_M) & (xy >= 0).all(axis=1) & (xy < size).all(axis=1))
    column, row = (xy[inside] * supersample).astype(np.int64).T
    seen = inside[buffers.quad[row, column] == subject.point_quad[inside]]
    return seen, depth[seen]


def develop(rng: np.random.Generator, picture: Pixels, *, noise: float) -> bytes:
    """The camera's part: exposure, colour cast, contrast, vignetting, a little blur, sensor noise, JPEG.

    picture: [H,W,3] in 0..1; noise: factor on the noise of a bright photograph.
    """
    height, width = picture.shape[:2]
    cast = np.exp(rng.normal(0, 0.16) + rng.normal(0, 0.06, 3)) * 1.12
    gamma = np.float32(np.exp(rng.normal(0, 0.15)))
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    vignette = (1 - rng.uniform(0, 0.22) * (x**2 + y**2) / 2).astype(np.float32)
    level = picture * cast.astype(np.float32) * vignette[..., None]
    bright = np.float32(0.75) + np.float32(0.25) * np.tanh((level - np.float32(0.75)) * np.float32(4))
    level = np.where(level > 0.75, bright, level) ** gamma
    spread = np.float32(rng.uniform(0.006, 0.018) * noise)
    level += spread * rng.standard_normal(level.shape, dtype=np.float32)
    photograph = Image.fromarray((np.clip(level, 0, 1) * 255 + 0.5).astype(np.uint8))
    if rng.uniform() < 0.15:
        photograph = photograph.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 0.9))))
    out = BytesIO()
    photograph.save(out, "JPEG", quality=int(rng.integers(72, 95)))
    return out.getvalue()
