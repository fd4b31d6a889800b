"""What the rendered town is made of: textured parallelograms, and buildings put together from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from town.textures import Colour, Texture

Point = tuple[float, float, float]
Vector = NDArray[np.float64]
RIGHT, BACK, DOWN = np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), np.array([0, 0, -1.0])


@dataclass(frozen=True)
class Quad:
    """A textured parallelogram: corner of texel (0, 0), edges along columns and rows, each [3] in metres.

    Seen from both sides if `both_sides`, else from where cross(down, across) points to. `glow`: shines by
    itself at dusk (windows). `sampled`: true surface points are drawn on it.
    """

    corner: Vector
    across: Vector
    down: Vector
    texture: Texture
    both_sides: bool = False
    glow: bool = False
    sampled: bool = True

    @cached_property
    def normal(self) -> Vector:
        """Unit normal [3] towards the viewer."""
        outward = np.cross(self.down, self.across)
        return np.asarray(outward / np.linalg.norm(outward))

    @cached_property
    def opaque_area(self) -> float:
        """Square metres without the holes."""
        whole = float(np.linalg.norm(np.cross(self.down, self.across)))
        return whole * float(self.texture.opaque.mean())


@dataclass
class Building:
    """The static scene of one building: its size in metres, the tone of its ground, its quads.

    World frame: x along the front, y away from the viewer, z up; the front is the plane y = 0 around x = 0,
    the ground z = 0.
    """

    width: float
    height: float
    depth: float
    ground: Colour
    quads: list[Quad] = field(default_factory=list)

    def add(self, corner: Point, across: Vector, down: Vector, texture: Texture, **how: bool) -> None:
        """Add one quad; see `Quad`. how: both_sides, glow, sampled."""
        self.quads.append(Quad(np.array(corner, dtype=float), across, down, texture, **how))

    def add_box(self, low: Point, high: Point, sheet: Texture) -> None:
        """Add front, top, underside and sides of an upright box; each takes its own strip of the sheet."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        w, d, h = RIGHT * (x1 - x0), BACK * (y1 - y0), DOWN * (z1 - z0)
        faces = (
            ((x0, y0, z1), w, h),
            ((x0, y1, z1), w, -d),
            ((x0, y0, z0), w, d),
            ((x0, y1, z1), -d, h),
            ((x1, y0, z1), d, h),
        )
        strips = _strips(sheet, [float(np.linalg.norm(down)) for _, _, down in faces])
        for (corner, across, down), strip in zip(faces, strips, strict=True):
            self.add(corner, across, down, strip)


def _strips(sheet: Texture, weights: list[float]) -> list[Texture]:
    """Cut a sheet into horizontal strips of heights in proportion to the weights, each of 2 rows or more."""
    rows = sheet.image.shape[0]
    edges = np.round(np.cumsum([0.0, *weights]) / sum(weights) * rows).astype(int)
    starts = np.minimum(edges[:-1], rows - 2)
    spans = zip(starts, np.maximum(np.diff(edges), 2), strict=True)
    return [Texture(sheet.image[start : start + size]) for start, size in spans]
