"""Photographs of a building of the rendered town: viewpoints, weather, people in the way, and the camera's own flaws."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sfm import town_textures as draw
from sfm.town_buildings import STYLES, Building, Quad, make_building
from sfm.town_render import Buffers, Camera, Light, rasterise, shade

if TYPE_CHECKING:
    from sfm.town import TownOptions

UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Photographer:
    """A building with its true surface points [P,3], their normals [P,3], and the options of the town."""

    building: Building
    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    options: TownOptions

    @classmethod
    def visit(
        cls, rng: np.random.Generator, subject: int, options: TownOptions, *, detailed: bool
    ) -> Photographer:
        """Build the subject; one that is seen only once (not detailed) has textures of half the resolution."""
        style = STYLES[subject % len(STYLES)] if detailed else STYLES[int(rng.integers(0, len(STYLES)))]
        building = make_building(rng, style, options.texels_per_m * (1.0 if detailed else 0.5))
        points, normals = _sample(rng, building.quads, options.points if detailed else 0)
        return cls(building, points, normals, options)


@dataclass(frozen=True)
class Shot:
    """One photograph: its JPEG bytes, its camera, the indices of the points it sees [n] and their depths [n] in metres."""

    jpeg: bytes
    camera: Camera
    visible: NDArray[np.int64]
    depths: NDArray[np.float64]

    def save(self, path: Path) -> None:
        path.write_bytes(self.jpeg)


def _sample(
    rng: np.random.Generator, quads: list[Quad], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points [count,3] drawn uniformly from the opaque surface of the sampled quads, with their normals [count,3]."""
    chosen = [quad for quad in quads if quad.sampled]
    areas = np.array([quad.area * (quad.texture.image[..., 3] >= 128).mean() for quad in chosen])
    owner = rng.choice(len(chosen), size=count, p=areas / areas.sum())
    points, normals = np.empty((count, 3)), np.empty((count, 3))
    for row, index in enumerate(owner):
        quad = chosen[index]
        alpha = quad.texture.image[..., 3]
        while True:
            s, t = rng.uniform(size=2)
            if alpha[int(t * alpha.shape[0]), int(s * alpha.shape[1])] >= 128:
                break
        points[row] = quad.corner + s * quad.across + t * quad.down
        normals[row] = quad.normal
    return points, normals


def look_at(center: NDArray[np.float64], target: NDArray[np.float64], roll: float) -> NDArray[np.float64]:
    """cam_from_world [3,4] of a camera at center that looks at target; roll in radians about the viewing direction."""
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
    eye = rng.uniform(1.4, 2.0) if rng.uniform() < 0.8 else rng.uniform(3.0, 6.0)
    center = target + distance * np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    center[2] = eye
    roll = np.deg2rad(float(rng.normal(0, 4.0)))
    return Camera(look_at(center, target, roll), focal, width, height)


def take(photographer: Photographer, rng: np.random.Generator, view: int, views: int) -> Shot:
    """Photograph number `view` of `views` of a building."""
    options, building = photographer.options, photographer.building
    camera = viewpoint(building, rng, view, views, options)
    quads = building.quads + occluders(building, camera, rng, options.texels_per_m)
    buffers, projected = rasterise(quads, camera, options.supersample)
    light = _light(rng)
    picture = shade(quads, projected, buffers, light, _sky(rng, camera, light), options.supersample)
    visible, depths = _visible(photographer, camera, buffers, options.supersample)
    return Shot(_develop(rng, picture, dark=light.glow > 0), camera, visible, depths)


def occluders(building: Building, camera: Camera, rng: np.random.Generator, t: float) -> list[Quad]:
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
            sheet, width, height = draw.person(rng, t), 0.7, rng.uniform(1.55, 1.9)
        else:
            sheet, width, height = draw.car(rng, t * 0.7), 4.2, 1.5
        quads.append(Quad(foot - right * width / 2 + UP * height, right * width, -UP * height, sheet, True))
    if rng.uniform() < 0.25:
        depth = rng.uniform(3.0, 5.0)
        side = rng.choice([-1.0, 1.0]) * 0.5 * depth * camera.width / camera.focal_px
        place = center + away * depth + right * side + UP * rng.uniform(0.6, 1.4)
        sheet = draw.foliage(rng, (1.6, 1.2), t, trunk=False)
        quads.append(Quad(place - right * 0.8 + UP * 0.6, right * 1.6, -UP * 1.2, sheet, True))
    return quads


def _light(rng: np.random.Generator) -> Light:
    """Overcast, sunny, sunny with a shadow edge, or dusk with lit windows."""
    weather = rng.choice(["overcast", "sun", "shadow", "dusk"], p=[0.3, 0.35, 0.22, 0.13])
    sun = np.array([rng.uniform(-0.9, 0.9), rng.uniform(-1.0, -0.3), rng.uniform(0.35, 1.0)])
    sun /= np.linalg.norm(sun)
    if weather == "overcast":
        return Light(rng.uniform(0.8, 0.95), sun, None, 0.0)
    if weather == "dusk":
        return Light(rng.uniform(0.38, 0.5), np.array([0.0, 0.0, 1.0]), None, rng.uniform(0.5, 1.0))
    shadow = (rng.uniform(-0.5, 0.5), -1.0, rng.uniform(2.5, 6.0)) if weather == "shadow" else None
    return Light(rng.uniform(0.42, 0.6), sun, shadow, 0.0)


def _sky(rng: np.random.Generator, camera: Camera, light: Light) -> NDArray[np.float32]:
    """Smooth sky and clouds of one photograph [H,W,3]."""
    shape = (camera.height, camera.width)
    ramp = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None, None]
    high, low = np.array([0.42, 0.58, 0.82]), np.array([0.80, 0.86, 0.92])
    if light.ambient > 0.7:
        high, low = np.array([0.72, 0.74, 0.77]), np.array([0.86, 0.87, 0.88])
    if light.glow > 0:
        high, low = np.array([0.16, 0.20, 0.34]), np.array([0.55, 0.42, 0.40])
    size = camera.width
    clouds = sum(draw.smooth_noise(rng, shape, (size * a, size * b)) for a, b in ((0.12, 0.3), (0.06, 0.16)))
    cover = np.clip(np.asarray(clouds) * 0.5, 0, 1)[..., None] * (0.75 if light.glow == 0 else 0.2)
    colour = high + (low - high) * ramp
    return np.asarray(colour + (0.93 - colour) * cover, dtype=np.float32)


def _visible(
    photographer: Photographer, camera: Camera, buffers: Buffers, supersample: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which true points the camera sees: in the picture, from the front, and nothing nearer at that sample."""
    points = photographer.points @ camera.cam_from_world[:, :3].T + camera.cam_from_world[:, 3]
    depth = np.maximum(points[:, 2], 1e-6)
    middle = np.array([camera.width / 2, camera.height / 2])
    xy = points[:, :2] / depth[:, None] * camera.focal_px + middle
    inside = (points[:, 2] > 0.3) & (xy >= 0).all(1) & (xy < 2 * middle).all(1)
    towards = ((camera.center_in_world - photographer.points) * photographer.normals).sum(1)
    candidates = np.flatnonzero(inside & (towards > 0.1 * np.linalg.norm(points, axis=1)))
    column, row = (xy[candidates] * supersample).astype(np.int64).T
    nearest = buffers.inverse_depth[row, column]
    seen = 1 / depth[candidates] > nearest * (1 - 0.01)
    return candidates[seen], depth[candidates[seen]]


def _develop(rng: np.random.Generator, picture: NDArray[np.float32], *, dark: bool) -> bytes:
    """Exposure, colour cast, contrast, vignetting, a little blur, noise, JPEG."""
    height, width = picture.shape[:2]
    exposure = np.exp(rng.normal(0, 0.16)) * (1.15 if not dark else 1.0)
    cast = np.exp(rng.normal(0, 0.06, 3))
    gamma = float(np.exp(rng.normal(0, 0.15)))
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    vignette = 1 - rng.uniform(0, 0.22) * (x**2 + y**2) / 2
    level = picture * (exposure * cast).astype(np.float32) * vignette.astype(np.float32)[..., None]
    level = np.clip(level, 0, 1) ** np.float32(gamma)
    noise = rng.uniform(0.006, 0.02) * (1.6 if dark else 1.0)
    level += np.float32(noise) * rng.standard_normal(level.shape, dtype=np.float32)
    photograph = Image.fromarray((np.clip(level, 0, 1) * 255 + 0.5).astype(np.uint8))
    if rng.uniform() < 0.15:
        photograph = photograph.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 0.9))))
    out = BytesIO()
    photograph.save(out, "JPEG", quality=int(rng.integers(72, 95)))
    return out.getvalue()
