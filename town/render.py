"""A small z-buffer renderer for textured parallelograms, vectorised over pixels.

Camera frame as COLMAP's: x right, y down, z forward; the centre of the first pixel is (0.5, 0.5). For a point
on a parallelogram, 1/depth, s/depth and t/depth (s, t: position along its two edges, 0..1) are affine in the
pixel, so that coverage, depth test and perspective-correct texture coordinates are array operations over its
bounding box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from town.geometry import Quad
from town.textures import Colour, Pixels

NEAR_M = 0.3
EDGE_ON_M = 1e-6


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with its principal point in the middle; cam_from_world: [3,4], focal in pixels."""

    cam_from_world: NDArray[np.float64]
    focal_px: float
    width: int
    height: int

    @property
    def center_in_world(self) -> NDArray[np.float64]:
        """[3] metres."""
        return np.asarray(-self.cam_from_world[:, :3].T @ self.cam_from_world[:, 3])


@dataclass(frozen=True)
class Light:
    """Light of one photograph.

    ambient: share without the sun; sun: direction to it [3]; shadow: (a, b, c) of the half space
    a x + b z + c > 0 in the shade of houses opposite, or None; glow: brightness of lit windows; tone: colour
    of the light; sky: its colours above and at the horizon.
    """

    ambient: float
    sun: NDArray[np.float64]
    shadow: tuple[float, float, float] | None
    glow: float
    tone: Colour
    sky: tuple[Colour, Colour]


@dataclass(frozen=True)
class _Projected:
    """A quad before a camera: rows of 1/depth, s/depth, t/depth against (x, y, 1), and its bounding box."""

    affine: Pixels
    determinant: float
    box: tuple[int, int, int, int]

    def at(self, x: NDArray[np.intp], y: NDArray[np.intp]) -> Iterator[Pixels]:
        """1/depth, s/depth, t/depth of samples x, y [n] of the bounding box."""
        across, down = (x + self.box[0]).astype(np.float32), (y + self.box[1]).astype(np.float32)
        return (across * row[0] + down * row[1] + row[2] for row in self.affine)


@dataclass(frozen=True)
class Buffers:
    """Inverse depth [H,W] in 1/m (sky: 0) and the index of the quad that is seen [H,W] (sky: -1)."""

    inverse_depth: NDArray[np.float32]
    quad: NDArray[np.int16]


def _project(quad: Quad, camera: Camera, supersample: int) -> _Projected | None:
    """None where the quad faces away, is seen edge-on, or lies outside of the picture."""
    height = float(quad.normal @ (camera.center_in_world - quad.corner))
    if abs(height) < EDGE_ON_M or (height < 0 and not quad.both_sides):
        return None
    rotation, shift = camera.cam_from_world[:, :3], camera.cam_from_world[:, 3]
    corner, across, down = rotation @ quad.corner + shift, rotation @ quad.across, rotation @ quad.down
    focal = camera.focal_px * supersample
    center_x, center_y = camera.width * supersample / 2, camera.height * supersample / 2
    ray = np.array(
        [[1 / focal, 0, (0.5 - center_x) / focal], [0, 1 / focal, (0.5 - center_y) / focal], [0, 0, 1]]
    )
    inverse = np.linalg.inv(np.column_stack([across, down, corner])) @ ray
    box = _bounding_box([corner, corner + across, corner + down, corner + across + down], camera, supersample)
    if box is None:
        return None
    return _Projected(inverse[[2, 0, 1]].astype(np.float32), abs(float(np.linalg.det(inverse))), box)


def _bounding_box(
    corners: list[NDArray[np.float64]], camera: Camera, supersample: int
) -> tuple[int, int, int, int] | None:
    """(x0, y0, x1, y1) in samples, last excluded; the whole picture where a corner is behind the camera."""
    width, height = camera.width * supersample, camera.height * supersample
    points = np.array(corners)
    if (points[:, 2] < NEAR_M).all():
        return None
    if (points[:, 2] < NEAR_M).any():
        return 0, 0, width, height
    x = points[:, 0] / points[:, 2] * camera.focal_px * supersample + width / 2
    y = points[:, 1] / points[:, 2] * camera.focal_px * supersample + height / 2
    x0, x1 = max(0, int(np.floor(x.min()))), min(width, int(np.ceil(x.max())) + 1)
    y0, y1 = max(0, int(np.floor(y.min()))), min(height, int(np.ceil(y.max())) + 1)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _plane(row: NDArray[np.float32], box: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """An affine function of the sample over a bounding box."""
    x0, y0, x1, y1 = box
    x = np.arange(x0, x1, dtype=np.float32) * row[0] + row[2]
    y = np.arange(y0, y1, dtype=np.float32) * row[1]
    return x[None, :] + y[:, None]


def rasterise(quads: list[Quad], camera: Camera, supersample: int) -> tuple[Buffers, list[_Projected | None]]:
    """Which quad every sample sees, and how far away."""
    shape = (camera.height * supersample, camera.width * supersample)
    buffers = Buffers(np.zeros(shape, dtype=np.float32), np.full(shape, -1, dtype=np.int16))
    projected = [_project(quad, camera, supersample) for quad in quads]
    for index, (quad, view) in enumerate(zip(quads, projected, strict=True)):
        if view is not None:
            _cover(quad, view, index, buffers)
    return buffers, projected


def _cover(quad: Quad, view: _Projected, index: int, buffers: Buffers) -> None:
    """Write a quad into the buffers where it is the nearest so far and has no hole."""
    x0, y0, x1, y1 = view.box
    inverse_depth = _plane(view.affine[0], view.box)
    nearest = buffers.inverse_depth[y0:y1, x0:x1]
    seen = inverse_depth > nearest
    seen &= inverse_depth < 1 / NEAR_M
    for row in view.affine[1:]:
        position = _plane(row, view.box)
        seen &= position >= 0
        seen &= position < inverse_depth
    if quad.texture.has_holes:
        y, x = np.nonzero(seen)
        seen[y, x] = quad.texture.texels[_texel(quad, view, x, y)] >= np.uint32(128 << 24)
    np.copyto(nearest, inverse_depth, where=seen)
    np.copyto(buffers.quad[y0:y1, x0:x1], np.int16(index), where=seen)


def _texel(quad: Quad, view: _Projected, x: NDArray[np.intp], y: NDArray[np.intp]) -> NDArray[np.int32]:
    """Index into the texels of a quad for samples x, y [n] of its bounding box.

    The level is the one whose texels have the area of a sample: the samples filter, so nearest is enough.
    """
    depth, s, t = view.at(x, y)
    np.reciprocal(depth, out=depth)
    np.multiply(s, depth, out=s)
    np.multiply(t, depth, out=t)
    heights, widths, offsets = quad.texture.shapes
    area = np.float32(view.determinant * heights[0] * widths[0])
    wanted = np.float32(0.5) * np.log2(area * depth * depth * depth) + np.float32(0.5)
    level = np.clip(wanted, 0, len(widths) - 1).astype(np.intp)
    width = widths.take(level)
    column = np.minimum((s * width).astype(np.int32), width - 1)
    height = heights.take(level)
    line = np.minimum((t * height).astype(np.int32), height - 1)
    return np.asarray(offsets.take(level) + np.maximum(line, 0) * width + np.maximum(column, 0))


def shade(
    quads: list[Quad],
    projected: list[_Projected | None],
    buffers: Buffers,
    light: Light,
    sky: NDArray[np.float32],
    supersample: int,
) -> NDArray[np.float32]:
    """The picture [H,W,3] float32 in 0..1; sky: [H,W,3], shown where no quad is."""
    shape = buffers.quad.shape
    colour = np.zeros(shape, dtype=np.uint32)
    gain = np.zeros(shape, dtype=np.float32)
    for index in np.unique(buffers.quad[buffers.quad >= 0]):
        view, quad = projected[index], quads[index]
        if view is None:
            continue
        x0, y0, x1, y1 = view.box
        y, x = np.nonzero(buffers.quad[y0:y1, x0:x1] == index)
        colour[y0:y1, x0:x1][y, x] = quad.texture.texels[_texel(quad, view, x, y)]
        gain[y0:y1, x0:x1][y, x] = _brightness(quad, view, light, x, y)
    rgb = colour.view(np.uint8).reshape(*shape, 4)[..., :3] * (gain * np.float32(1 / 255))[..., None]
    small = _reduce(rgb, supersample)
    covered = _reduce((buffers.quad >= 0).astype(np.float32)[..., None], supersample)
    return np.asarray(small + (1 - covered) * sky, dtype=np.float32)


def _reduce(samples: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Mean over factor x factor samples: [H*f, W*f, C] -> [H, W, C]."""
    total = samples[::factor, ::factor].copy()
    for dy in range(factor):
        for dx in range(factor):
            if dy or dx:
                total += samples[dy::factor, dx::factor]
    return total * np.float32(1 / factor**2)


def _brightness(
    quad: Quad, view: _Projected, light: Light, x: NDArray[np.intp], y: NDArray[np.intp]
) -> NDArray[np.float32] | np.float32:
    """Light on the samples x, y [n] of a quad: ambient, sun unless in the shadow, and its own glow."""
    normal = quad.normal
    direct = (1 - light.ambient) * max(0.0, float(normal @ light.sun))
    if quad.both_sides:
        direct = (1 - light.ambient) * 0.6
    own = light.glow if quad.glow else 0.0
    if light.shadow is None or direct == 0.0:
        return np.float32(light.ambient + direct + own)
    depth, s, t = view.at(x, y)
    a, b, c = light.shadow
    slope = np.array([a, 0.0, b])
    edge = (slope @ quad.across) * s / depth + (slope @ quad.down) * t / depth + (slope @ quad.corner + c)
    lit = np.clip(0.5 - edge / 0.3, 0, 1).astype(np.float32)
    return np.asarray(np.float32(light.ambient + own) + np.float32(direct) * lit)
