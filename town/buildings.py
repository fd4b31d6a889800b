"""The buildings of the rendered town and what stands around them.

Buildings of one style share palette, material and window layout; every texture is a building's own. Sizes in
metres; t: texels per metre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from town import details
from town import textures as surfaces
from town.details import Rect
from town.geometry import BACK, DOWN, RIGHT, Building, Point, Vector
from town.textures import Colour, Size, Texture, Wall


@dataclass(frozen=True)
class Style:
    """What buildings of one style have in common."""

    wall: Wall
    base: Colour
    trim: Colour
    roof: Colour
    frame: Colour
    window: Size
    spacing: float
    storey: float
    arched: bool
    shop: bool
    gable: bool


STYLES = (
    Style(
        wall="brick", base=(0.56, 0.35, 0.28), trim=(0.78, 0.74, 0.66), roof=(0.36, 0.22, 0.18),
        frame=(0.88, 0.87, 0.84), window=(1.1, 1.8), spacing=2.3, storey=3.2,
        arched=False, shop=False, gable=False,
    ),
    Style(
        wall="plaster", base=(0.80, 0.70, 0.50), trim=(0.90, 0.87, 0.80), roof=(0.55, 0.31, 0.22),
        frame=(0.36, 0.24, 0.18), window=(1.2, 1.7), spacing=2.6, storey=3.4,
        arched=True, shop=True, gable=True,
    ),
    Style(
        wall="ashlar", base=(0.62, 0.59, 0.53), trim=(0.72, 0.70, 0.65), roof=(0.30, 0.33, 0.37),
        frame=(0.22, 0.27, 0.25), window=(1.3, 2.2), spacing=2.7, storey=3.8,
        arched=True, shop=False, gable=False,
    ),
    Style(
        wall="timber", base=(0.83, 0.79, 0.70), trim=(0.58, 0.50, 0.40), roof=(0.48, 0.27, 0.20),
        frame=(0.80, 0.76, 0.70), window=(1.0, 1.2), spacing=2.1, storey=2.8,
        arched=False, shop=True, gable=True,
    ),
    Style(
        wall="panels", base=(0.60, 0.64, 0.66), trim=(0.45, 0.48, 0.50), roof=(0.35, 0.36, 0.38),
        frame=(0.20, 0.21, 0.23), window=(1.9, 1.5), spacing=2.8, storey=3.1,
        arched=False, shop=True, gable=False,
    ),
)  # fmt: skip


def _window_rects(
    style: Style, width: float, height: float, rng: np.random.Generator, door: bool
) -> list[Rect]:
    """Openings of a wall (left, top, width, height), on the ground floor with a door or shop fronts."""
    rects: list[Rect] = []
    floors = max(1, int(height / style.storey))
    spacing = style.spacing * rng.uniform(0.9, 1.2)
    columns = max(1, int((width - 0.8) / spacing))
    margin = (width - columns * spacing) / 2
    door_column = int(rng.integers(0, columns)) if door else -1
    for floor in range(floors):
        top = height - (floor + 1) * style.storey + (style.storey - style.window[1]) * 0.45
        for column in range(columns):
            wide, tall = np.array(style.window) * rng.uniform(0.9, 1.08, 2)
            left = margin + column * spacing + (spacing - wide) / 2 + rng.uniform(-0.12, 0.12)
            if floor == 0 and column == door_column:
                rects.append((left, height - 2.5, max(1.1, wide), 2.5))
            elif floor == 0 and door and style.shop:
                shop = spacing - 0.45
                rects.append((left + wide / 2 - shop / 2, height - 2.5, shop, 1.9))
            elif rng.uniform() > 0.07:
                rects.append((left, top + rng.uniform(-0.12, 0.12), wide, tall))
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
    corner: Point,
    across: Vector,
    t: float,
    *,
    door: bool = False,
) -> None:
    """Add a wall with real openings: a sheet with holes, and 0.3 m behind it what is seen through them."""
    (x, y, height), width = corner, float(np.linalg.norm(across))
    rects = _window_rects(style, width, height, rng, door)
    colour = surfaces.wall(rng, style.wall, _jitter(rng, style.base, 0.06), (width, height), t)
    details.ivy(rng, colour, t, float(rng.choice([0.0, 0.2, 0.5])))
    details.frame_openings(rng, colour, rects, _jitter(rng, style.trim, 0.05), t)
    details.decorate(rng, colour, t, int(rng.integers(3, 7)), 1.3)
    opaque = details.holes((colour.shape[0], colour.shape[1]), rects, t, style.arched)
    building.add(corner, across, DOWN * height, surfaces.texture(colour, opaque))
    right, back, _ = across / width
    behind = (x - 0.3 * back, y + 0.3 * right, height)
    inside = details.panes(rng, (width, height), rects, style.frame, t)
    building.add(behind, across, DOWN * height, surfaces.texture(inside), glow=True)


def _sheet(rng: np.random.Generator, base: Colour, size_m: Size, t: float) -> Texture:
    """Stone for the faces of a box."""
    return surfaces.texture(surfaces.stone(rng, base, size_m, t))


def _add_roof(building: Building, rng: np.random.Generator, style: Style, t: float) -> None:
    """A gable with its ridge along the front, or a parapet; chimneys on both."""
    w, d, h = building.width, building.depth, building.height
    if style.gable:
        base = h + 0.4 * _add_gable(building, rng, style, t)
    else:
        parapet = _sheet(rng, style.trim, (w, 3), t)
        building.add_box((-w / 2 - 0.25, -0.25, h - 0.1), (w / 2 + 0.25, d, h + 0.55), parapet)
        base = h
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(-0.42, 0.42) * w, rng.uniform(0.15, 0.45) * d
        side, tall = rng.uniform(0.6, 1.1), rng.uniform(1.6, 3.0)
        sheet = surfaces.texture(surfaces.wall(rng, "brick", (0.5, 0.33, 0.27), (side, 5 * tall), t))
        building.add_box((x, y, base), (x + side, y + side, base + tall), sheet)


def _add_gable(building: Building, rng: np.random.Generator, style: Style, t: float) -> float:
    """The front slope and the two triangles at the sides; returns the rise of the ridge in metres."""
    w, d, h = building.width, building.depth, building.height
    rise, eaves = rng.uniform(0.5, 0.8) * d / 2, 0.5
    slope = np.array([0, -(d / 2 + eaves), -rise * (1 + 2 * eaves / d)])
    tiles = surfaces.roof(rng, _jitter(rng, style.roof, 0.1), (w + 0.8, float(np.linalg.norm(slope))), t)
    ridge = (-w / 2 - 0.4, d / 2, h + rise)
    building.add(ridge, RIGHT * (w + 0.8), slope, surfaces.texture(tiles), both_sides=True)
    for x, y, across in ((-w / 2, d, -BACK * d), (w / 2, 0.0, BACK * d)):
        colour = surfaces.wall(rng, style.wall, style.base, (d, rise), t)
        rows, columns = colour.shape[:2]
        ramp = np.abs(np.arange(columns) / columns - 0.5) * 2 < (np.arange(rows) / rows)[:, None]
        building.add((x, y, h + rise), across, DOWN * rise, surfaces.texture(colour, ramp))
    return float(rise)


def _add_relief(building: Building, rng: np.random.Generator, style: Style, t: float) -> None:
    """What stands out from the front: ledges, balconies, a bay, steps."""
    w, floors = building.width, max(2, int(building.height / style.storey))
    for floor in range(1, floors):
        z = floor * style.storey - 0.15
        ledge = _sheet(rng, style.trim, (w, 1.2), t)
        building.add_box((-w / 2 - 0.1, -0.28, z), (w / 2 + 0.1, 0.0, z + 0.28), ledge)
    for _ in range(int(rng.integers(2, 5))):
        x, z = rng.uniform(-0.45, 0.25) * w, int(rng.integers(1, floors)) * style.storey - 0.1
        wide, out = rng.uniform(2.0, 3.4), rng.uniform(0.8, 1.4)
        building.add_box((x, -out, z), (x + wide, 0.0, z + 0.2), _sheet(rng, style.trim, (wide, 4), t))
        _add_railing(building, rng, (x, -out, z + 1.15), (wide, out), t)
    _add_bay(building, rng, style, t)
    _add_street(building, rng, t)
    for step in range(3):
        low, high = (-0.36 * w, 0.45 * step - 1.8, 0.16 * step), (0.12 * w, 0.0, 0.16 * step + 0.16)
        building.add_box(low, high, _sheet(rng, building.ground, (w / 2, 4), t))


def _add_street(building: Building, rng: np.random.Generator, t: float) -> None:
    """A pillar with posters and two planters on the pavement, metres before the front."""
    x, y = 0.3 * building.width, -rng.uniform(2.4, 4.2)
    side, tall = rng.uniform(0.8, 1.2), rng.uniform(2.0, 2.8)
    colour = surfaces.stone(rng, (0.5, 0.5, 0.48), (side, 2 * tall + 3 * side), t)
    details.decorate(rng, colour, t, 12, 0.75)
    building.add_box((x, y, 0.0), (x + side, y + side, tall), surfaces.texture(colour))
    for share in rng.uniform(-0.45, 0.35, 2):
        x, y, wide = share * building.width, -rng.uniform(2.2, 3.6), rng.uniform(1.2, 2.2)
        sheet = _sheet(rng, (0.5, 0.45, 0.4), (wide, 3.5), t)
        building.add_box((x, y, 0.0), (x + wide, y + 0.6, 0.6), sheet)
        bush = details.foliage(rng, (wide, 0.8), t, trunk=False)
        building.add((x, y + 0.3, 1.3), RIGHT * wide, DOWN * 0.8, bush, both_sides=True)


def _add_bay(building: Building, rng: np.random.Generator, style: Style, t: float) -> None:
    """A closed bay on the ground or first floor, covered with notices."""
    x, wide, out = rng.uniform(-0.4, 0.2) * building.width, rng.uniform(1.8, 2.8), rng.uniform(0.8, 1.3)
    low, tall = style.storey * float(rng.integers(0, 2)), style.storey * rng.uniform(0.8, 1.0)
    colour = surfaces.wall(rng, style.wall, _jitter(rng, style.base, 0.12), (wide, 2 * tall + 3 * out), t)
    details.decorate(rng, colour, t, 5, min(1.4, 0.6 * wide))
    building.add_box((x, -out, low), (x + wide, 0.0, low + tall), surfaces.texture(colour))


def _add_railing(building: Building, rng: np.random.Generator, corner: Point, size: Size, t: float) -> None:
    """The railing of a balcony on three sides with cloth hung over it; size: (width, depth)."""
    wide, out = size
    shape = (round(1.0 * t), round((wide + 2 * out) * t))
    colour = surfaces.tint((0.2, 0.2, 0.2), 0.4 * surfaces.fractal(rng, shape, t, (0.06, 0.2, 0.6)))
    gaps = rng.uniform(0.08, 0.24, int(shape[1] / (0.08 * t)) + 1)
    bars = np.zeros(shape[1], dtype=bool)
    for x in np.cumsum(gaps) * t:
        bars[int(x) : int(x) + round(0.05 * t)] = True
    opaque = np.broadcast_to(bars, shape).copy()
    opaque[: round(0.08 * t)] = opaque[-round(0.08 * t) :] = True
    for _ in range(int(rng.integers(2, 5))):
        w, h = (max(4, round(v * t)) for v in rng.uniform(0.3, 0.8, 2))
        left = int(rng.integers(0, shape[1] - w))
        colour[:h, left : left + w] = details.poster(rng, (min(h, shape[0]), w))
        opaque[:h, left : left + w] = True
    cuts = (round(out * t), round((out + wide) * t))
    sheet = surfaces.texture(colour, opaque).image
    x, y, z = corner
    sides = (
        ((x, 0.0, z), -BACK * out, sheet[:, : cuts[0]]),
        ((x, y, z), RIGHT * wide, sheet[:, cuts[0] : cuts[1]]),
        ((x + wide, y, z), BACK * out, sheet[:, cuts[1] :]),
    )
    for start, across, part in sides:
        building.add(start, across, DOWN * 1.0, Texture(np.ascontiguousarray(part)), both_sides=True)


def _add_surroundings(building: Building, rng: np.random.Generator, style: Style, t: float) -> None:
    """Paving and the land behind it, a lower wing, two neighbours set back, a tree."""
    w, d = building.width, building.depth
    size = (w + 22.0, 19.0)
    paving = surfaces.texture(surfaces.paving(rng, building.ground, size, t * 0.3))
    building.add((-size[0] / 2, 1.0, 0.0), RIGHT * size[0], -BACK * size[1], paving, sampled=False)
    land = surfaces.texture(np.full((8, 8, 3), building.ground) * 0.9)
    building.add((-400.0, 400.0, -0.06), RIGHT * 800, -BACK * 800, land, sampled=False)
    side = 1 if rng.uniform() < 0.5 else -1
    _add_wing(building, rng, style, side, t)
    for sign in (-1, 1):
        width, height = rng.uniform(8, 12), rng.uniform(6, 12)
        x = sign * (w / 2 + rng.uniform(8.0, 11.0)) - (width if sign < 0 else 0)
        place = (x, rng.uniform(d * 0.6, d * 1.2))
        other = STYLES[int(rng.integers(0, len(STYLES)))]
        _add_neighbour(building, rng, other, place, (width, height), t * 0.4)
    tree = details.foliage(rng, (4.2, 5.5), t * 0.6, trunk=True)
    x, y = -side * (w / 2 + rng.uniform(2.0, 3.5)), rng.uniform(0.5, 3.0)
    building.add((x - 2.1, y, 5.5), RIGHT * 4.2, DOWN * 5.5, tree, both_sides=True, sampled=False)


def _add_wing(building: Building, rng: np.random.Generator, style: Style, side: int, t: float) -> None:
    """A lower part of the building on one side (1 right, -1 left), set back from the front."""
    width, height = rng.uniform(4, 6), building.height * rng.uniform(0.35, 0.55)
    back, deep = rng.uniform(1.0, 3.0), 5.0
    left = building.width / 2 if side > 0 else -building.width / 2 - width
    add_wall(building, rng, style, (left, back, height), RIGHT * width, t * 0.8)
    colour = surfaces.wall(rng, style.wall, _jitter(rng, style.base, 0.1), (deep, height), t * 0.6)
    details.decorate(rng, colour, t * 0.6, 3, 1.5)
    corner = (left + width, back, height) if side > 0 else (left, back + deep, height)
    building.add(corner, BACK * deep * side, DOWN * height, surfaces.texture(colour))
    low, high = (left - 0.2, back - 0.2, height), (left + width + 0.2, back + deep, height + 0.35)
    building.add_box(low, high, _sheet(rng, style.trim, (width, 4), t * 0.6))


def _add_neighbour(
    building: Building, rng: np.random.Generator, style: Style, place: Size, size: Size, t: float
) -> None:
    """A plain house: painted windows on its front and on the side that faces the building, and a roof."""
    (x, y), (width, height) = place, size
    base, deep = _jitter(rng, style.base, 0.15), 8.0
    inner = ((x + width, y, height), BACK * deep) if x < 0 else ((x, y + deep, height), -BACK * deep)
    for corner, across in (((x, y, height), RIGHT * width), inner):
        span = float(np.linalg.norm(across))
        colour = surfaces.wall(rng, style.wall, base, (span, height), t)
        rects = _window_rects(style, span, height, rng, False)
        inside = details.panes(rng, (span, height), rects, style.frame, t)
        front = details.holes((colour.shape[0], colour.shape[1]), rects, t, style.arched)
        sheet = surfaces.texture(np.where(front[..., None], colour, inside))
        building.add(corner, across, DOWN * height, sheet, sampled=False)
    tiles = surfaces.texture(surfaces.roof(rng, style.roof, (width + 0.6, 4.0), t))
    ridge, slope = (x - 0.3, y + 3.0, height + 2.2), np.array([0, -3.4, -2.4])
    building.add(ridge, RIGHT * (width + 0.6), slope, tiles, both_sides=True, sampled=False)


def make_building(rng: np.random.Generator, style: Style, texels_per_m: float) -> Building:
    """A building of the style with textures of its own; texels_per_m: on its front."""
    t = texels_per_m
    storeys = int(rng.integers(2, 4)) if style.storey > 3.3 else int(rng.integers(3, 5))
    width, depth = rng.uniform(9.5, 14.0), rng.uniform(7.0, 10.0)
    grey = rng.uniform(0.36, 0.52)
    ground = (grey * rng.uniform(0.95, 1.1), grey, grey * rng.uniform(0.85, 1.0))
    building = Building(width, storeys * style.storey + 0.6, depth, ground)
    h = building.height
    add_wall(building, rng, style, (-width / 2, 0.0, h), RIGHT * width, t, door=True)
    add_wall(building, rng, style, (width / 2, 0.0, h), BACK * depth, t * 0.8)
    add_wall(building, rng, style, (-width / 2, depth, h), -BACK * depth, t * 0.8)
    _add_relief(building, rng, style, t * 0.8)
    _add_roof(building, rng, style, t * 0.6)
    _add_surroundings(building, rng, style, t)
    return building
