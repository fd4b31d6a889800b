"""Surfaces of the rendered town: walls, roofs and paving, each time with another texture.

All sizes are metres; a surface is drawn at a given number of texels per metre. A `Texture` is a pyramid of
RGBA images (alpha below 128 = a hole). Every surface draws its randomness from the generator passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]
Size = tuple[float, float]
Pixels = NDArray[np.float32]
Wall = Literal["brick", "ashlar", "plaster", "timber", "panels"]


@dataclass(frozen=True)
class Texture:
    """A texture with its half-size reductions. image: [H,W,4] uint8, row 0 at the top of the surface."""

    image: NDArray[np.uint8]

    @cached_property
    def opaque(self) -> NDArray[np.bool_]:
        """Where the surface is [H,W]."""
        return np.asarray(self.image[..., 3] >= 128)

    @cached_property
    def has_holes(self) -> bool:
        return not bool(self.opaque.all())

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
        """All levels one after another, one uint32 per texel, its bytes red, green, blue, alpha."""
        flat = [np.ascontiguousarray(level).view("<u4").ravel() for level in self.levels]
        return np.concatenate(flat)

    @cached_property
    def shapes(self) -> NDArray[np.int32]:
        """[3, L]: height, width and offset in `texels` of each level."""
        sizes = np.array([level.shape[:2] for level in self.levels])
        offsets = np.concatenate([[0], np.cumsum(sizes.prod(axis=1))[:-1]])
        return np.stack([*sizes.T, offsets]).astype(np.int32)


def texture(colour: NDArray[np.floating], opaque: NDArray[np.bool_] | None = None) -> Texture:
    """A texture from colours [H,W,3] in 0..1 and, optionally, where it is opaque [H,W]."""
    image = np.full((*colour.shape[:2], 4), 255, dtype=np.uint8)
    image[..., :3] = np.clip(colour * np.float32(255), 0, 255)
    if opaque is not None:
        image[..., 3] = np.where(opaque, 255, 0)
    return Texture(image)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: Size) -> Pixels:
    """Band-limited noise [H,W] of about unit spread; cell: (height, width) in texels of one random value."""
    rows, columns = (max(2, round(size / step) + 2) for size, step in zip(shape, cell, strict=True))
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize(shape[::-1], Image.Resampling.BICUBIC))


def two_noises(
    rng: np.random.Generator, shape: tuple[int, int], cell: Size, other: Size, weight: float
) -> Pixels:
    """`smooth_noise` of one cell and, times weight, of another one."""
    return smooth_noise(rng, shape, cell) + np.float32(weight) * smooth_noise(rng, shape, other)


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    texels_per_m: float,
    cells_m: tuple[float, ...] = (0.05, 0.12, 0.3, 0.9, 2.5),
) -> Pixels:
    """A sum of `smooth_noise` at several sizes [H,W], each with the same weight, of about unit spread."""
    total = np.zeros(shape, dtype=np.float32)
    for cell in cells_m:
        total += smooth_noise(rng, shape, (cell * texels_per_m, cell * texels_per_m))
    return total / np.float32(np.sqrt(len(cells_m)))


def blocks(
    rng: np.random.Generator, shape: tuple[int, int], block: Size, joint: float
) -> tuple[Pixels, NDArray[np.bool_]]:
    """A bond of blocks: the random value of each block [H,W] and where the joints are [H,W].

    block: (height, width) and joint: width, all in texels; every course is shifted at random.
    """
    height, width = shape
    y = np.arange(height, dtype=np.float32) / np.float32(block[0])
    course = y.astype(np.int32)
    shift = rng.uniform(0, 1, course[-1] + 1).astype(np.float32)
    x = np.arange(width, dtype=np.float32) / np.float32(block[1]) + shift[course][:, None]
    column = x.astype(np.int32)
    values = rng.standard_normal((course[-1] + 1, int(column.max()) + 1), dtype=np.float32)
    joints = ((y - course)[:, None] * block[0] < joint) | ((x - column) * np.float32(block[1]) < joint)
    return values[course[:, None], column], joints


def tint(base: Colour | NDArray[np.floating], shade: NDArray[np.floating]) -> Pixels:
    """A base colour times (1 + shade): [H,W] -> [H,W,3]."""
    return np.asarray(base, dtype=np.float32) * (1 + shade[..., None]).astype(np.float32, copy=False)


def texels_of(size_m: Size, t: float) -> tuple[int, int]:
    """(width, height) in metres -> (rows, columns) at t texels per metre."""
    return round(size_m[1] * t), round(size_m[0] * t)


def wall(rng: np.random.Generator, kind: Wall, base: Colour, size_m: Size, t: float) -> Pixels:
    """A wall without windows [H,W,3] in 0..1; size_m: (width, height), t: texels per metre."""
    shape = texels_of(size_m, t)
    grain = fractal(rng, shape, t)
    drips = smooth_noise(rng, shape, (2.0 * t, 0.15 * t))
    if kind == "plaster":
        colour = tint(base, 0.13 * grain + 0.05 * drips)
        bare = smooth_noise(rng, shape, (0.7 * t, 0.7 * t)) + 0.35 * grain > 1.9
        value, joints = blocks(rng, shape, (0.14 * t, 0.36 * t), 0.02 * t)
        under = tint((0.52, 0.34, 0.26), 0.22 * value - 0.3 * joints)
        return np.where(bare[..., None], under, colour)
    if kind == "timber":
        patches = np.sign(smooth_noise(rng, shape, (0.5 * t, 0.5 * t)) - 0.9)
        return _timber(rng, tint(base, 0.17 * grain + 0.06 * drips - 0.06 * patches - 0.08), t)
    block, joint, spread = {
        "brick": ((0.16, 0.42), 0.025, 0.17),
        "ashlar": ((0.42, 0.85), 0.03, 0.10),
        "panels": ((0.75, 1.15), 0.03, 0.14),
    }[kind]
    value, joints = blocks(rng, shape, (block[0] * t, block[1] * t), joint * t)
    return tint(base, spread * value + 0.09 * grain + 0.04 * drips - 0.25 * joints)


def _timber(rng: np.random.Generator, colour: Pixels, t: float) -> Pixels:
    """Dark beams over a plastered wall: floors, posts at irregular distances and a few braces."""
    height, width = colour.shape[:2]
    mask = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(mask)
    for top in np.arange(0, height, 2.8 * t):
        top += rng.uniform(-0.15, 0.15) * t
        pen.line([(0, top), (width, top)], fill=255, width=max(2, round(rng.uniform(0.15, 0.3) * t)))
        posts = np.cumsum(rng.uniform(1.2, 3.2, int(width / t) + 2)) * t
        for x, brace in zip(posts, rng.uniform(-1.4, 1.4, len(posts)), strict=True):
            thick = max(2, round(rng.uniform(0.12, 0.27) * t))
            pen.line([(x, top), (x, top + 2.8 * t)], fill=255, width=thick)
            if abs(brace) > 0.8:
                pen.line([(x, top), (x + brace * t, top + 2.8 * t)], fill=255, width=thick)
    grain = smooth_noise(rng, (height, width), (0.3 * t, 0.08 * t))
    grain = grain + fractal(rng, (height, width), t, (0.06, 0.12, 0.3))
    return np.where((np.asarray(mask) > 0)[..., None], tint((0.36, 0.26, 0.19), 0.3 * grain), colour)


def roof(rng: np.random.Generator, base: Colour, size_m: Size, t: float) -> Pixels:
    """Tiles with moss and replaced ones [H,W,3]."""
    shape = texels_of(size_m, t)
    value, joints = blocks(rng, shape, (0.3 * t, 0.36 * t), 0.05 * t)
    moss = np.maximum(fractal(rng, shape, t, (0.15, 0.6, 1.8)) - 0.9, 0)[..., None]
    colour = tint(base, 0.2 * value - 0.3 * joints)
    return colour * (1 - 0.5 * moss) + moss * np.array([0.12, 0.15, 0.06], dtype=np.float32)


def paving(rng: np.random.Generator, base: Colour, size_m: Size, t: float) -> Pixels:
    """Slabs or cobbles with stains [H,W,3]."""
    shape = texels_of(size_m, t)
    slab = rng.uniform(0.45, 1.1)
    value, joints = blocks(rng, shape, (slab * t, slab * t * rng.uniform(1.0, 1.6)), 0.05 * t)
    stains = fractal(rng, shape, t, (0.15, 0.5, 1.5, 4.0))
    return tint(base, 0.09 * value + 0.09 * stains - 0.22 * joints)


def stone(rng: np.random.Generator, base: Colour, size_m: Size, t: float) -> Pixels:
    """Dressed stone or concrete for ledges, steps and slabs, in one row of blocks [H,W,3]."""
    rows, columns = texels_of(size_m, t)
    shape = (max(4, rows), max(4, columns))
    value, joints = blocks(rng, shape, (shape[0] + 1.0, rng.uniform(0.5, 1.3) * t), 0.03 * t)
    grain = fractal(rng, shape, t, (0.05, 0.12, 0.3, 0.8))
    return tint(base, 0.1 * value - 0.2 * joints + 0.12 * grain)
