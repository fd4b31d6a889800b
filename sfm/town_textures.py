"""Textures of the rendered town: walls, windows, roofs, paving, foliage, people; no two calls give the same one.

All sizes are metres; a texture is drawn at a given number of texels per metre and returned as a `Texture`, a pyramid
of RGBA images (alpha below 128 = a hole). Every texture draws its randomness from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]
Rect = tuple[float, float, float, float]
Wall = Literal["brick", "ashlar", "plaster", "timber", "panels"]


@dataclass(frozen=True)
class Texture:
    """A texture with its half-size reductions. image: [H,W,4] uint8, row 0 at the top of the surface."""

    image: NDArray[np.uint8]

    @cached_property
    def levels(self) -> list[NDArray[np.uint8]]:
        """The image and its reductions by 2, down to 2 texels."""
        picture, levels = Image.fromarray(self.image), [self.image]
        while min(picture.size) >= 4:
            picture = picture.reduce(2)
            levels.append(np.asarray(picture))
        return levels

    @cached_property
    def texels(self) -> NDArray[np.uint32]:
        """All levels one after another, one uint32 per texel."""
        return np.concatenate([np.ascontiguousarray(level).view(np.uint32).ravel() for level in self.levels])

    @cached_property
    def shapes(self) -> NDArray[np.int32]:
        """[L, 3]: height, width and offset in `texels` of each level."""
        sizes = np.array([level.shape[:2] for level in self.levels], dtype=np.int32)
        offsets = np.concatenate([[0], np.cumsum(sizes[:, 0] * sizes[:, 1])[:-1]])
        return np.column_stack([sizes, offsets]).astype(np.int32)

    @cached_property
    def has_holes(self) -> bool:
        return bool((self.image[..., 3] < 128).any())


def texture(colour: NDArray[np.floating], opaque: NDArray[np.bool_] | None = None) -> Texture:
    """A texture from colours [H,W,3] in 0..1 and, optionally, where it is opaque [H,W]."""
    image = np.full((*colour.shape[:2], 4), 255, dtype=np.uint8)
    image[..., :3] = np.clip(colour * 255.0, 0, 255)
    if opaque is not None:
        image[..., 3] = np.where(opaque, 255, 0)
    return Texture(image)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]
) -> NDArray[np.float32]:
    """Band-limited noise [H,W] float32 of unit spread; cell: (height, width) in texels of one random value."""
    rows, columns = (max(2, round(size / step) + 2) for size, step in zip(shape, cell, strict=True))
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize(shape[::-1], Image.Resampling.BICUBIC))


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    texels_per_m: float,
    cells_m: tuple[float, ...] = (0.05, 0.12, 0.3, 0.9, 2.5),
) -> NDArray[np.float32]:
    """A sum of `smooth_noise` at several sizes [H,W], each with the same weight, of about unit spread."""
    layers = [smooth_noise(rng, shape, (cell * texels_per_m, cell * texels_per_m)) for cell in cells_m]
    return np.sum(layers, axis=0, dtype=np.float32) / np.float32(np.sqrt(len(cells_m)))


def blocks(
    rng: np.random.Generator, shape: tuple[int, int], block: tuple[float, float], joint: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A bond of blocks: the random value of each block [H,W] and where the joints are [H,W].

    block: (height, width) and joint: width, all in texels; alternate courses are shifted at random.
    """
    height, width = shape
    y = np.arange(height) / block[0]
    course = y.astype(np.int64)
    shift = rng.uniform(0, 1, course[-1] + 1)
    x = np.arange(width) / block[1] + shift[course][:, None]
    column = x.astype(np.int64)
    values = rng.standard_normal((course[-1] + 1, int(column.max()) + 1), dtype=np.float32)
    joints = ((y - course)[:, None] * block[0] < joint) | ((x - column) * block[1] < joint)
    return values[course[:, None], column], joints


def _tint(base: Colour, shade: NDArray[np.float32]) -> NDArray[np.float32]:
    """base colour times (1 + shade): [H,W] -> [H,W,3]."""
    return np.asarray(base, dtype=np.float32) * (1.0 + shade[..., None])


def wall(
    rng: np.random.Generator, kind: Wall, base: Colour, size_m: tuple[float, float], texels_per_m: float
) -> NDArray[np.float32]:
    """A wall without windows [H,W,3] in 0..1; size_m: (width, height)."""
    shape = (round(size_m[1] * texels_per_m), round(size_m[0] * texels_per_m))
    t = texels_per_m
    grain = fractal(rng, shape, t)
    drips = smooth_noise(rng, shape, (2.0 * t, 0.15 * t))
    if kind == "plaster":
        colour = _tint(base, 0.09 * grain + 0.04 * drips)
        bare = smooth_noise(rng, shape, (0.7 * t, 0.7 * t)) + 0.35 * grain > 1.9
        value, joints = blocks(rng, shape, (0.14 * t, 0.36 * t), 0.02 * t)
        under = _tint((0.52, 0.34, 0.26), 0.22 * value - 0.3 * joints)
        return np.where(bare[..., None], under, colour)
    if kind == "timber":
        return _timber(rng, _tint(base, 0.07 * grain + 0.03 * drips), t)
    block, joint, spread = {
        "brick": ((0.16, 0.42), 0.025, 0.17),
        "ashlar": ((0.42, 0.85), 0.03, 0.10),
        "panels": ((0.75, 1.15), 0.03, 0.14),
    }[kind]
    value, joints = blocks(rng, shape, (block[0] * t, block[1] * t), joint * t)
    return _tint(base, spread * value + 0.06 * grain + 0.04 * drips - 0.25 * joints)


def _timber(rng: np.random.Generator, colour: NDArray[np.float32], t: float) -> NDArray[np.float32]:
    """Dark beams over a plastered wall: floors, posts at irregular distances and a few braces."""
    height, width = colour.shape[:2]
    mask = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(mask)
    thick = max(2, round(0.2 * t))
    floors = np.arange(0, height, 2.8 * t)
    for top in floors:
        draw.line([(0, top), (width, top)], fill=255, width=thick)
        posts = np.cumsum(rng.uniform(0.7, 2.0, int(width / t) + 2)) * t
        for x, brace in zip(posts, rng.uniform(-1.4, 1.4, len(posts)), strict=True):
            draw.line([(x, top), (x, top + 2.8 * t)], fill=255, width=thick)
            if abs(brace) > 0.6:
                draw.line([(x, top), (x + brace * t, top + 2.8 * t)], fill=255, width=thick)
    grain = smooth_noise(rng, (height, width), (0.4 * t, 0.08 * t)) + fractal(
        rng, (height, width), t, (0.06, 0.3)
    )
    beams = _tint((0.25, 0.17, 0.12), 0.16 * grain)
    return np.where((np.asarray(mask) > 0)[..., None], beams, colour)


def _pixels(rect: Rect, t: float) -> tuple[int, int, int, int]:
    """(left, top, width, height) in metres -> (x0, y0, x1, y1) in texels, the last ones excluded."""
    left, top, width, height = rect
    return round(left * t), round(top * t), round((left + width) * t), round((top + height) * t)


def poster(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A sheet of random shapes and strokes [H,W,3] in 0..1."""
    height, width = shape
    ground = tuple(int(v) for v in rng.integers(60, 245, 3))
    sheet = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(sheet)
    for _ in range(int(rng.integers(6, 14))):
        ink = tuple(int(v) for v in rng.integers(10, 250, 3))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(0.08, 0.5) * width, rng.uniform(0.05, 0.35) * height
        kind = rng.integers(0, 4)
        if kind == 0:
            draw.rectangle([x, y, x + w, y + h], fill=ink)
        elif kind == 1:
            draw.ellipse([x - w / 2, y - h / 2, x + w / 2, y + h / 2], fill=ink)
        else:
            path = [(x + dx * w, y + dy * h) for dx, dy in rng.uniform(-1, 1, (4, 2))]
            draw.line(path, fill=ink, width=max(1, round(0.05 * min(width, height))))
    return np.asarray(sheet, dtype=np.float32) / 255.0


def decorate(
    rng: np.random.Generator, colour: NDArray[np.float32], t: float, count: int, largest_m: float
) -> None:
    """Paste posters, plaques and patches onto a wall in place."""
    height, width = colour.shape[:2]
    for _ in range(count):
        h, w = (max(4, round(v * t)) for v in rng.uniform(0.35, largest_m, 2))
        if h >= height or w >= width:
            continue
        y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
        colour[y : y + h, x : x + w] = poster(rng, (h, w)) * 0.85 + 0.05


def ivy(rng: np.random.Generator, colour: NDArray[np.float32], t: float, amount: float) -> None:
    """Grow leaves on a wall in place; amount 0..1 moves the share that is covered."""
    shape = (colour.shape[0], colour.shape[1])
    place = smooth_noise(rng, shape, (2.4 * t, 1.6 * t)) + 0.5 * smooth_noise(
        rng, shape, (0.25 * t, 0.25 * t)
    )
    place += np.linspace(-0.8, 0.5, shape[0], dtype=np.float32)[:, None]
    leaf = smooth_noise(rng, shape, (0.1 * t, 0.1 * t)) + 0.6 * smooth_noise(rng, shape, (0.3 * t, 0.3 * t))
    green = _tint((0.22, 0.34, 0.13), 0.38 * leaf)
    covered = place > 2.1 - 1.4 * amount
    colour[covered] = green[covered]


def frame_openings(colour: NDArray[np.float32], openings: list[Rect], trim: Colour, t: float) -> None:
    """Paint a band of trim around every opening, in place."""
    for left, top, width, height in openings:
        x0, y0, x1, y1 = _pixels((left - 0.14, top - 0.14, width + 0.28, height + 0.34), t)
        area = colour[max(y0, 0) : y1, max(x0, 0) : x1]
        mean = area.mean(axis=-1, keepdims=True)
        area[...] = np.asarray(trim, dtype=np.float32) * (1.0 + 0.5 * (mean - mean.mean()))


def holes(shape: tuple[int, int], openings: list[Rect], t: float, arched: bool) -> NDArray[np.bool_]:
    """Where a wall [H,W] stays opaque once its openings are cut out; arched: round tops."""
    mask = Image.new("L", shape[::-1], 255)
    draw = ImageDraw.Draw(mask)
    for rect in openings:
        x0, y0, x1, y1 = _pixels(rect, t)
        radius = min((x1 - x0) / 2, (y1 - y0) / 2) if arched else 0
        draw.rectangle([x0, y0 + radius, x1 - 1, y1 - 1], fill=0)
        if arched:
            draw.ellipse([x0, y0, x1 - 1, y0 + 2 * radius], fill=0)
    return np.asarray(mask) > 0


def panes(
    rng: np.random.Generator, size_m: tuple[float, float], openings: list[Rect], frame: Colour, t: float
) -> NDArray[np.float32]:
    """What is seen through the openings of a wall [H,W,3]: glass, curtains, blinds, plants, bars; else reveal."""
    shape = (round(size_m[1] * t), round(size_m[0] * t))
    colour = _tint((0.42, 0.40, 0.38), 0.14 * fractal(rng, shape, t, (0.06, 0.2, 0.7)))
    for rect in openings:
        x0, y0, x1, y1 = _pixels(rect, t)
        view = colour[y0:y1, x0:x1]
        if view.size:
            view[...] = _window(rng, (view.shape[0], view.shape[1]), frame, t)
    return colour


def _window(rng: np.random.Generator, shape: tuple[int, int], frame: Colour, t: float) -> NDArray[np.float32]:
    """One window or shop front [h,w,3]."""
    height, width = shape
    glass = 0.18 + 0.16 * np.linspace(1, 0, height, dtype=np.float32)[:, None] ** 2
    glass = (
        glass + 0.05 * smooth_noise(rng, shape, (0.5 * t, 0.3 * t)) + 0.02 * smooth_noise(rng, shape, (4, 4))
    )
    view = glass[..., None] * np.array([0.85, 1.0, 1.15], dtype=np.float32)
    kind = rng.integers(0, 5)
    if width > 1.8 * t or kind == 0:
        for _ in range(3 + int(3 * width / t)):
            h, w = int(rng.uniform(0.15, 0.5) * height) + 3, int(rng.uniform(0.1, 0.3) * width) + 3
            y, x = int(rng.integers(0, max(1, height - h))), int(rng.integers(0, max(1, width - w)))
            view[y : y + h, x : x + w] = 0.75 * poster(rng, (h, w))[: height - y, : width - x]
    elif kind < 3:
        cut = int(width * rng.uniform(0.2, 0.5))
        cloth = rng.uniform(0.35, 0.85, 3) * (
            1 + 0.12 * smooth_noise(rng, shape, (2 * t, 0.07 * t))[..., None]
        )
        view[:, :cut] = cloth[:, :cut]
        if kind == 2:
            view[:, -cut:] = cloth[:, -cut:]
    else:
        drop = int(height * rng.uniform(0.1, 0.8))
        slats = np.where(np.arange(drop) % max(3, round(0.09 * t)) < 2, 0.8, 1.0)[:, None, None]
        view[:drop] = rng.uniform(0.4, 0.85, 3) * slats
    _bars(view, frame, t, int(rng.integers(1, 3)), int(rng.integers(1, 4)))
    return view


def _bars(view: NDArray[np.float32], frame: Colour, t: float, across: int, down: int) -> None:
    """The wooden frame of a window and its glazing bars, in place."""
    thick = max(1, round(0.055 * t))
    height, width = view.shape[:2]
    view[:thick], view[-thick:], view[:, :thick], view[:, -thick:] = frame, frame, frame, frame
    for x in np.linspace(0, width, across + 1)[1:-1]:
        view[:, int(x) - thick // 2 : int(x) + thick // 2 + 1] = frame
    for y in np.linspace(0, height, down + 1)[1:-1]:
        view[int(y) - thick // 2 : int(y) + thick // 2 + 1] = frame


def roof(
    rng: np.random.Generator, base: Colour, size_m: tuple[float, float], t: float
) -> NDArray[np.float32]:
    """Tiles with moss and replaced ones [H,W,3]."""
    shape = (round(size_m[1] * t), round(size_m[0] * t))
    value, joints = blocks(rng, shape, (0.3 * t, 0.36 * t), 0.05 * t)
    moss = np.maximum(fractal(rng, shape, t, (0.15, 0.6, 1.8)) - 0.9, 0)
    colour = _tint(base, 0.2 * value - 0.3 * joints)
    return colour * (1 - 0.5 * moss[..., None]) + moss[..., None] * np.array(
        [0.12, 0.15, 0.06], dtype=np.float32
    )


def paving(
    rng: np.random.Generator, base: Colour, size_m: tuple[float, float], t: float
) -> NDArray[np.float32]:
    """Slabs or cobbles with stains [H,W,3]."""
    shape = (round(size_m[1] * t), round(size_m[0] * t))
    slab = rng.uniform(0.45, 1.1)
    value, joints = blocks(rng, shape, (slab * t, slab * t * rng.uniform(1.0, 1.6)), 0.05 * t)
    stains = fractal(rng, shape, t, (0.15, 0.5, 1.5, 4.0))
    return _tint(base, 0.09 * value + 0.09 * stains - 0.22 * joints)


def foliage(rng: np.random.Generator, size_m: tuple[float, float], t: float, trunk: bool) -> Texture:
    """A tree or a bush with holes between its leaves."""
    shape = (round(size_m[1] * t), round(size_m[0] * t))
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    y, x = y / shape[0], x / shape[1] - 0.5
    crown = 0.68 if trunk else 1.0
    inside = 1.0 - (x / 0.5) ** 2 - ((y - crown / 2) / (crown / 2)) ** 2
    edge = smooth_noise(rng, shape, (0.5 * t, 0.5 * t)) + 0.9 * smooth_noise(rng, shape, (0.14 * t, 0.14 * t))
    leaf = smooth_noise(rng, shape, (0.09 * t, 0.09 * t)) + 0.8 * smooth_noise(rng, shape, (0.4 * t, 0.4 * t))
    base = np.array([0.24, 0.34, 0.14]) * rng.uniform(0.7, 1.25, 3)
    colour = _tint((base[0], base[1], base[2]), 0.33 * leaf - 0.25 * (y - 0.3))
    opaque = inside + 0.22 * edge > 0.25
    if trunk:
        stem = (np.abs(x + 0.02 * edge) < 0.045) & (y > 0.5) & ~opaque
        colour[stem] = _tint((0.27, 0.21, 0.16), 0.25 * leaf)[stem]
        opaque = opaque | stem
    return texture(colour, opaque)


def person(rng: np.random.Generator, t: float) -> Texture:
    """A standing figure of 0.7 m by 1.75 m."""
    width, height = round(0.7 * t), round(1.75 * t)
    figure, drawing = Image.new("RGB", (width, height)), Image.new("L", (width, height), 0)
    ink, mask = ImageDraw.Draw(figure), ImageDraw.Draw(drawing)
    skin = tuple(int(v * rng.uniform(0.4, 1.0)) for v in (235, 190, 160))
    top, legs, hair = (tuple(int(v) for v in rng.integers(20, 220, 3) * f) for f in (1.0, 0.6, 0.4))
    stance, lean = rng.uniform(0.05, 0.16), rng.uniform(-0.03, 0.03)
    parts = [
        ("line", (0.5, 0.52, 0.5 - stance, 0.98), legs, 0.2),
        ("line", (0.5, 0.52, 0.5 + stance, 0.98), legs, 0.2),
        ("line", (0.3, 0.22, 0.24 - lean, 0.52), top, 0.13),
        ("line", (0.7, 0.22, 0.76 - lean, 0.52), top, 0.13),
        ("box", (0.29, 0.17, 0.71, 0.56), top, 0.0),
        ("disc", (0.37 + lean, 0.0, 0.63 + lean, 0.14), hair, 0.0),
        ("disc", (0.39 + lean, 0.03, 0.61 + lean, 0.16), skin, 0.0),
    ]
    for kind, (x0, y0, x1, y1), fill, thick in parts:
        box = [x0 * width, y0 * height, x1 * width, y1 * height]
        for target, value in ((ink, fill), (mask, 255)):
            if kind == "line":
                target.line(box, fill=value, width=max(2, round(thick * width)))
            elif kind == "box":
                target.rounded_rectangle(box, radius=0.12 * width, fill=value)
            else:
                target.ellipse(box, fill=value)
    cloth = 1 + 0.1 * smooth_noise(rng, (height, width), (0.25 * t, 0.12 * t))
    return texture(np.asarray(figure, dtype=np.float32) / 255 * cloth[..., None], np.asarray(drawing) > 0)


def car(rng: np.random.Generator, t: float) -> Texture:
    """A parked car seen from its side, 4.2 m by 1.5 m."""
    width, height = round(4.2 * t), round(1.5 * t)
    picture, drawing = Image.new("RGB", (width, height)), Image.new("L", (width, height), 0)
    ink, mask = ImageDraw.Draw(picture), ImageDraw.Draw(drawing)
    paint = tuple(int(v) for v in rng.integers(30, 225, 3))
    a, b = rng.uniform(0.14, 0.26), rng.uniform(0.72, 0.9)
    cabin = [(a, 0.45), (a + 0.12, 0.03), (b - 0.14, 0.03), (b, 0.45)]
    glass = [(a + 0.05, 0.43), (a + 0.14, 0.1), (b - 0.15, 0.1), (b - 0.05, 0.43)]
    for target, fill in ((ink, paint), (mask, 255)):
        target.polygon([(x * width, y * height) for x, y in cabin], fill=fill)
        target.rounded_rectangle(
            [0, 0.42 * height, width - 1, 0.86 * height], radius=0.14 * height, fill=fill
        )
    ink.polygon([(x * width, y * height) for x, y in glass], fill=(45, 55, 62))
    ink.line(
        [(width * 0.5, 0.05 * height), (width * 0.5, 0.8 * height)],
        fill=tuple(v // 2 for v in paint),
        width=2,
    )
    for centre in (0.2, 0.8):
        wheel = [centre * width - 0.22 * height, 0.56 * height, centre * width + 0.22 * height, height - 1]
        ink.ellipse(wheel, fill=(25, 25, 27))
        mask.ellipse(wheel, fill=255)
    shine = 1 + 0.06 * smooth_noise(rng, (height, width), (0.3 * t, 0.8 * t))
    return texture(np.asarray(picture, dtype=np.float32) / 255 * shine[..., None], np.asarray(drawing) > 0)
