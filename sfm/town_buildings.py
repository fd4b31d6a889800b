"""Buildings of the rendered town as textured parallelograms, in metres.

World frame of a building: x along its front, y away from the viewer, z up; the front is the plane y = 0 around x = 0,
the ground z = 0. Buildings of one style share palette, material and window layout; every texture is its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sfm import town_textures as draw
from sfm.town_textures import Colour, Rect, Texture, Wall

RIGHT, BACK, DOWN = np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), np.array([0, 0, -1.0])


@dataclass(frozen=True)
class Quad:
    """A textured parallelogram: corner of texel (0, 0), its edge along the columns, its edge along the rows [3].

    Seen from both sides if `both_sides`, else from the side that cross(down, across) points to. `glow`: share of its
    own light (lit windows). `sampled`: whether true surface points are drawn on it.
    """

    corner: NDArray[np.float64]
    across: NDArray[np.float64]
    down: NDArray[np.float64]
    texture: Texture
    both_sides: bool = False
    glow: bool = False
    sampled: bool = True

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit normal [3] towards the viewer."""
        outward = np.cross(self.down, self.across)
        return np.asarray(outward / np.linalg.norm(outward))

    @property
    def area(self) -> float:
        return float(np.linalg.norm(np.cross(self.down, self.across)))


@dataclass(frozen=True)
class Style:
    """What buildings of one style have in common."""

    wall: Wall
    base: Colour
    trim: Colour
    roof: Colour
    frame: Colour
    window: tuple[float, float]
    spacing: float
    storey: float
    arched: bool
    shop: bool
    gable: bool


STYLES = (
    Style("brick", (0.56, 0.35, 0.28), (0.78, 0.74, 0.66), (0.36, 0.22, 0.18), (0.88, 0.87, 0.84), (1.1, 1.8), 2.3, 3.2, False, False, False),
    Style("plaster", (0.80, 0.70, 0.50), (0.90, 0.87, 0.80), (0.55, 0.31, 0.22), (0.36, 0.24, 0.18), (1.2, 1.7), 2.6, 3.4, True, True, True),
    Style("ashlar", (0.62, 0.59, 0.53), (0.72, 0.70, 0.65), (0.30, 0.33, 0.37), (0.22, 0.27, 0.25), (1.3, 2.2), 2.7, 3.8, True, False, False),
    Style("timber", (0.83, 0.79, 0.70), (0.30, 0.21, 0.15), (0.48, 0.27, 0.20), (0.80, 0.76, 0.70), (1.0, 1.2), 2.1, 2.8, False, True, True),
    Style("panels", (0.60, 0.64, 0.66), (0.45, 0.48, 0.50), (0.35, 0.36, 0.38), (0.20, 0.21, 0.23), (1.9, 1.5), 2.8, 3.1, False, True, False),
)  # fmt: skip


@dataclass
class Building:
    """The static scene of one building: its quads, its size in metres and the tones of its ground and sky."""

    width: float
    height: float
    depth: float
    quads: list[Quad] = field(default_factory=list)
    ground: Colour = (0.45, 0.44, 0.42)

    def add(
        self,
        corner: tuple[float, float, float],
        across: NDArray[np.float64],
        down: NDArray[np.float64],
        texture: Texture,
        *,
        both_sides: bool = False,
        glow: bool = False,
        sampled: bool = True,
    ) -> None:
        """Add one quad; see `Quad`."""
        quad = Quad(np.array(corner, dtype=float), across, down, texture, both_sides, glow, sampled)
        self.quads.append(quad)

    def add_box(
        self,
        low: tuple[float, float, float],
        high: tuple[float, float, float],
        sheet: Texture,
        *,
        sampled: bool = True,
    ) -> None:
        """Add the front, sides, top and underside of an axis-aligned box; each face takes its own part of the sheet."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        w, d, h = RIGHT * (x1 - x0), BACK * (y1 - y0), DOWN * (z1 - z0)
        parts = _strips(
            sheet,
            (np.linalg.norm(h), np.linalg.norm(d), np.linalg.norm(d), np.linalg.norm(h), np.linalg.norm(h)),
        )
        faces = (
            ((x0, y0, z1), w, h),
            ((x0, y1, z1), w, -d),
            ((x0, y0, z0), w, d),
            ((x0, y1, z1), -d, h),
            ((x1, y0, z1), d, h),
        )
        for (corner, across, down), part in zip(faces, parts, strict=True):
            self.add(corner, across, down, part, sampled=sampled)


def _strips(sheet: Texture, weights: tuple[float | np.floating, ...]) -> list[Texture]:
    """Cut a sheet into horizontal strips with heights in proportion to the weights."""
    rows = sheet.image.shape[0]
    edges = np.round(np.cumsum([0.0, *map(float, weights)]) / sum(map(float, weights)) * rows).astype(int)
    return [
        Texture(sheet.image[min(a, rows - 2) : max(b, min(a, rows - 2) + 2)])
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]


def _window_rects(
    style: Style, width: float, height: float, rng: np.random.Generator, door: bool
) -> list[Rect]:
    """Openings (left, top, width, height) of a wall in metres, the ground floor with a door or shop fronts."""
    rects: list[Rect] = []
    floors = max(1, int(height / style.storey))
    columns = max(1, int((width - 0.8) / style.spacing))
    margin = (width - columns * style.spacing) / 2
    door_column = int(rng.integers(0, columns)) if door else -1
    for floor in range(floors):
        top = height - (floor + 1) * style.storey + (style.storey - style.window[1]) * 0.45
        for column in range(columns):
            left = margin + column * style.spacing + (style.spacing - style.window[0]) / 2
            if floor == 0 and column == door_column:
                rects.append((left, height - 2.5, max(1.1, style.window[0]), 2.5))
            elif floor == 0 and door and style.shop:
                shop = style.spacing - 0.45
                rects.append((left + style.window[0] / 2 - shop / 2, height - 2.5, shop, 1.9))
            elif rng.uniform() > 0.07:
                rects.append((left, top, *style.window))
    return rects


def _jitter(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """A colour near the one given, in brightness and slightly in hue."""
    brightness = 1 + rng.uniform(-spread, spread)
    r, g, b = (
        float(np.clip(v * brightness * (1 + rng.uniform(-0.3, 0.3) * spread), 0.03, 0.95)) for v in colour
    )
    return r, g, b


def add_wall(
    building: Building,
    rng: np.random.Generator,
    style: Style,
    corner: tuple[float, float, float],
    across: NDArray[np.float64],
    inward: NDArray[np.float64],
    height: float,
    t: float,
    *,
    door: bool = False,
) -> None:
    """Add a wall with real openings: a sheet with holes, and 0.3 m behind it what is seen through them."""
    width = float(np.linalg.norm(across))
    rects = _window_rects(style, width, height, rng, door)
    colour = draw.wall(rng, style.wall, _jitter(rng, style.base, 0.06), (width, height), t)
    draw.ivy(rng, colour, t, float(rng.choice([0.0, 0.2, 0.5])))
    draw.frame_openings(colour, rects, _jitter(rng, style.trim, 0.05), t)
    draw.decorate(rng, colour, t, int(rng.integers(3, 7)), 1.3)
    opaque = draw.holes((colour.shape[0], colour.shape[1]), rects, t, style.arched)
    building.add(corner, across, DOWN * height, draw.texture(colour, opaque))
    behind = (corner[0] + 0.3 * inward[0], corner[1] + 0.3 * inward[1], corner[2])
    inside = draw.panes(rng, (width, height), rects, style.frame, t)
    building.add(behind, across, DOWN * height, draw.texture(inside), glow=True)


def _sheet(rng: np.random.Generator, base: Colour, size_m: tuple[float, float], t: float) -> Texture:
    """Painted stone or concrete for ledges, steps and slabs."""
    shape = (max(4, round(size_m[1] * t)), max(4, round(size_m[0] * t)))
    value, joints = draw.blocks(rng, shape, (shape[0] + 1.0, rng.uniform(0.5, 1.3) * t), 0.03 * t)
    grain = draw.fractal(rng, shape, t, (0.05, 0.12, 0.3, 0.8))
    return draw.texture(np.asarray(base) * (1 + 0.1 * value - 0.2 * joints + 0.12 * grain)[..., None])


def _add_roof(building: Building, rng: np.random.Generator, style: Style, t: float) -> None:
    """A gable with its ridge along the front, or a parapet with attic boxes; chimneys on both."""
    w, d, h = building.width, building.depth, building.height
    tone = _jitter(rng, style.roof, 0.1)
    if style.gable:
        rise, eaves = rng.uniform(0.5, 0.8) * d / 2, 0.5
        slope = np.array([0, -(d / 2 + eaves), -rise * (1 + 2 * eaves / d)])
        length = float(np.linalg.norm(slope))
        sheet = draw.texture(draw.roof(rng, tone, (w + 0.8, length), t))
        building.add((-w / 2 - 0.4, d / 2, h + rise), RIGHT * (w + 0.8), slope, sheet, both_sides=True)
        for x, across in ((-w / 2, -BACK * d), (w / 2, BACK * d)):
            colour = draw.wall(rng, style.wall, style.base, (d, rise), t)
            rows, columns = colour.shape[:2]
            ramp = np.abs(np.arange(columns) / columns - 0.5)[None, :] * 2 < np.arange(rows)[:, None] / rows
            corner = (x, d if x < 0 else 0.0, h + rise)
            building.add(corner, across, DOWN * rise, draw.texture(colour, ramp))
        top = h + rise * 0.4
    else:
        building.add_box(
            (-w / 2 - 0.25, -0.25, h - 0.1), (w / 2 + 0.25, d, h + 0.55), _sheet(rng, style.trim, (w, 3), t)
        )
        top = h
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(-0.42, 0.42) * w, rng.uniform(0.15, 0.45) * d
        side, tall = rng.uniform(0.6, 1.1), rng.uniform(1.6, 3.0)
        chimney = draw.texture(draw.wall(rng, "brick", (0.5, 0.33, 0.27), (side, 5 * tall), t))
        building.add_box((x, y, top), (x + side, y + side, top + tall), chimney)


def _add_relief(building: Building, rng: np.random.Generator, style: Style, t: float) -> None:
    """What stands out from the front: a ledge per storey, balconies, a bay, a canopy over the door, steps."""
    w, h = building.width, building.height
    for floor in range(1, max(2, int(h / style.storey))):
        z = floor * style.storey - 0.15
        building.add_box(
            (-w / 2 - 0.1, -0.28, z), (w / 2 + 0.1, 0.0, z + 0.28), _sheet(rng, style.trim, (w, 1.2), t)
        )
    for _ in range(int(rng.integers(1, 4))):
        x, floor = rng.uniform(-0.45, 0.25) * w, int(rng.integers(1, max(2, int(h / style.storey))))
        wide, out, z = rng.uniform(2.0, 3.4), rng.uniform(0.8, 1.3), floor * style.storey - 0.1
        building.add_box((x, -out, z), (x + wide, 0.0, z + 0.2), _sheet(rng, style.trim, (wide, 4), t))
        _add_railing(building, rng, (x, -out, z + 1.15), wide, out, t)
    x, wide = rng.uniform(-0.4, 0.2) * w, rng.uniform(1.8, 2.8)
    low = style.storey * float(rng.integers(0, 2))
    bay = draw.wall(rng, style.wall, _jitter(rng, style.base, 0.12), (wide, 4 * style.storey), t)
    draw.decorate(rng, bay, t, 5, min(1.4, 0.6 * wide))
    building.add_box(
        (x, -0.9, low), (x + wide, 0.0, low + style.storey * rng.uniform(0.8, 1.0)), draw.texture(bay)
    )
    for step in range(3):
        out = 1.8 - 0.45 * step
        building.add_box(
            (-w * 0.36, -out, 0.16 * step),
            (w * 0.12, 0.0, 0.16 * step + 0.16),
            _sheet(rng, building.ground, (w / 2, 4), t),
        )


def _add_railing(
    building: Building,
    rng: np.random.Generator,
    corner: tuple[float, float, float],
    wide: float,
    out: float,
    t: float,
) -> None:
    """The railing of a balcony on three sides, with plants and cloth hung over it."""
    shape = (round(1.0 * t), round((wide + 2 * out) * t))
    colour = np.full((*shape, 3), 0.2, dtype=np.float32)
    bars = np.arange(shape[1]) % round(0.16 * t) < round(0.05 * t)
    opaque = np.broadcast_to(bars, shape).copy()
    opaque[: round(0.08 * t)] = opaque[-round(0.08 * t) :] = True
    for _ in range(int(rng.integers(2, 5))):
        w, h = (max(4, round(v * t)) for v in rng.uniform(0.3, 0.8, 2))
        left = int(rng.integers(0, shape[1] - w))
        colour[:h, left : left + w] = draw.poster(rng, (min(h, shape[0]), w))
        opaque[:h, left : left + w] = True
    cuts = (round(out * t), round((out + wide) * t))
    sheet = draw.texture(colour, opaque).image
    x, y, z = corner
    sides = (
        ((x, 0.0, z), -BACK * out, sheet[:, : cuts[0]]),
        ((x, y, z), RIGHT * wide, sheet[:, cuts[0] : cuts[1]]),
        ((x + wide, y, z), BACK * out, sheet[:, cuts[1] :]),
    )
    for start, across, part in sides:
        building.add(start, across, DOWN * 1.0, Texture(np.ascontiguousarray(part)), both_sides=True)


def _add_surroundings(building: Building, rng: np.random.Generator, style: Style, t: float) -> None:
    """Paving, the smooth land behind it, a lower wing, two neighbours set back, a tree and a lamp."""
    w, d = building.width, building.depth
    size = (w + 22.0, 19.0)
    near = draw.texture(draw.paving(rng, building.ground, size, t * 0.3))
    building.add((-size[0] / 2, 1.0, 0.0), RIGHT * size[0], -BACK * size[1], near)
    tone = np.asarray(building.ground) * np.ones((8, 8, 1)) * 0.9
    building.add((-400.0, 400.0, -0.06), RIGHT * 800, -BACK * 800, draw.texture(tone), sampled=False)
    side = 1 if rng.uniform() < 0.5 else -1
    wing_w, wing_h, back = rng.uniform(4, 6), building.height * rng.uniform(0.35, 0.55), rng.uniform(1.0, 3.0)
    x0 = w / 2 if side > 0 else -w / 2 - wing_w
    add_wall(building, rng, style, (x0, back, wing_h), RIGHT * wing_w, BACK, wing_h, t * 0.8)
    edge = x0 + wing_w if side > 0 else x0
    across, start = (BACK * 5, back) if side > 0 else (-BACK * 5, back + 5)
    outer = draw.wall(rng, style.wall, _jitter(rng, style.base, 0.1), (5, wing_h), t * 0.6)
    draw.decorate(rng, outer, t * 0.6, 3, 1.5)
    building.add((edge, start, wing_h), across, DOWN * wing_h, draw.texture(outer))
    building.add_box(
        (x0 - 0.2, back - 0.2, wing_h),
        (x0 + wing_w + 0.2, back + 5, wing_h + 0.35),
        _sheet(rng, style.trim, (wing_w, 4), t * 0.6),
    )
    for sign in (-1, 1):
        other = STYLES[int(rng.integers(0, len(STYLES)))]
        width, height = rng.uniform(8, 12), rng.uniform(6, 12)
        x = sign * (w / 2 + rng.uniform(8.0, 11.0)) - (width if sign < 0 else 0)
        y = rng.uniform(d * 0.6, d * 1.2)
        _add_neighbour(building, rng, other, (x, y), (width, height), t * 0.4)
    tree = draw.foliage(rng, (4.2, 5.5), t * 0.6, trunk=True)
    x, y = -side * (w / 2 + rng.uniform(2.0, 3.5)), rng.uniform(0.5, 3.0)
    building.add((x - 2.1, y, 5.5), RIGHT * 4.2, DOWN * 5.5, tree, both_sides=True, sampled=False)


def _add_neighbour(
    building: Building,
    rng: np.random.Generator,
    style: Style,
    place: tuple[float, float],
    size: tuple[float, float],
    t: float,
) -> None:
    """A plain house of a neighbour: painted windows on the front and on the side that faces the building."""
    (x, y), (width, height) = place, size
    base = _jitter(rng, style.base, 0.15)
    side_x, across, start = (x + width, BACK * 8, y) if x < 0 else (x, -BACK * 8, y + 8)
    for corner, edge, span in (
        ((x, y, height), RIGHT * width, width),
        ((side_x, start, height), across, 8.0),
    ):
        colour = draw.wall(rng, style.wall, base, (span, height), t)
        rects = _window_rects(style, span, height, rng, False)
        inside = draw.panes(rng, (span, height), rects, style.frame, t)
        opaque = draw.holes((colour.shape[0], colour.shape[1]), rects, t, style.arched)
        building.add(
            corner,
            edge,
            DOWN * height,
            draw.texture(np.where(opaque[..., None], colour, inside)),
            sampled=False,
        )
    sheet = draw.texture(draw.roof(rng, style.roof, (width + 0.6, 4.0), t))
    slope = np.array([0, -3.4, -2.4])
    building.add(
        (x - 0.3, y + 3.0, height + 2.2), RIGHT * (width + 0.6), slope, sheet, both_sides=True, sampled=False
    )


def make_building(rng: np.random.Generator, style: Style, texels_per_m: float) -> Building:
    """A building of the style with textures of its own; texels_per_m: on its front."""
    t = texels_per_m
    storeys = int(rng.integers(2, 4)) if style.storey > 3.3 else int(rng.integers(3, 5))
    width, depth = rng.uniform(9.5, 14.0), rng.uniform(7.0, 10.0)
    grey = rng.uniform(0.36, 0.52)
    ground = (grey * rng.uniform(0.95, 1.1), grey, grey * rng.uniform(0.85, 1.0))
    building = Building(width, storeys * style.storey + 0.6, depth, ground=ground)
    h = building.height
    add_wall(building, rng, style, (-width / 2, 0.0, h), RIGHT * width, BACK, h, t, door=True)
    add_wall(building, rng, style, (width / 2, 0.0, h), BACK * depth, -RIGHT, h, t * 0.8)
    add_wall(building, rng, style, (-width / 2, depth, h), -BACK * depth, RIGHT, h, t * 0.8)
    _add_relief(building, rng, style, t * 0.8)
    _add_roof(building, rng, style, t * 0.6)
    _add_surroundings(building, rng, style, t)
    return building
