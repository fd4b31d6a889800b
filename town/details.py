"""Details of the rendered town: windows, posters, ivy, trees, people and cars.

Sizes and randomness as in `town.textures`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from town.textures import (
    Colour,
    Pixels,
    Size,
    Texture,
    fractal,
    smooth_noise,
    texels_of,
    texture,
    tint,
    two_noises,
)

Rect = tuple[float, float, float, float]


def _pixels(rect: Rect, t: float) -> tuple[int, int, int, int]:
    """(left, top, width, height) in metres -> (x0, y0, x1, y1) in texels, the last ones excluded."""
    left, top, width, height = rect
    return round(left * t), round(top * t), round((left + width) * t), round((top + height) * t)


def muted(rng: np.random.Generator, low: float = 0.1, high: float = 0.9) -> Colour:
    """A random colour of moderate saturation."""
    brightness = rng.uniform(low, high)
    r, g, b = (brightness * (1 + 0.4 * hue) for hue in rng.uniform(-1, 1, 3).tolist())
    return min(max(r, 0.03), 0.97), min(max(g, 0.03), 0.97), min(max(b, 0.03), 0.97)


def _ink(colour: Colour) -> tuple[int, int, int]:
    """0..1 -> 0..255, as Pillow takes it."""
    return int(255 * colour[0]), int(255 * colour[1]), int(255 * colour[2])


def poster(rng: np.random.Generator, shape: tuple[int, int]) -> Pixels:
    """A sheet of random shapes and strokes [H,W,3] in 0..1."""
    height, width = shape
    sheet = Image.new("RGB", (width, height), _ink(muted(rng, 0.3, 0.95)))
    pen = ImageDraw.Draw(sheet)
    for _ in range(int(rng.integers(6, 14))):
        fill = _ink(muted(rng))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(0.08, 0.5) * width, rng.uniform(0.05, 0.35) * height
        kind = rng.integers(0, 4)
        if kind == 0:
            pen.rectangle([x, y, x + w, y + h], fill=fill)
        elif kind == 1:
            pen.ellipse([x - w / 2, y - h / 2, x + w / 2, y + h / 2], fill=fill)
        else:
            path = [(x + dx * w, y + dy * h) for dx, dy in rng.uniform(-1, 1, (4, 2))]
            pen.line(path, fill=fill, width=max(1, round(0.05 * min(width, height))))
    return np.asarray(sheet, dtype=np.float32) / 255.0


def decorate(rng: np.random.Generator, colour: Pixels, t: float, count: int, largest_m: float) -> None:
    """Paste posters, plaques and patches onto a wall in place."""
    height, width = colour.shape[:2]
    for _ in range(count):
        h, w = (max(4, round(v * t)) for v in rng.uniform(0.35, largest_m, 2))
        if h >= height or w >= width:
            continue
        y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
        colour[y : y + h, x : x + w] = poster(rng, (h, w)) * 0.85 + 0.05


def ivy(rng: np.random.Generator, colour: Pixels, t: float, amount: float) -> None:
    """Grow leaves on a wall in place; amount 0..1 moves the share that is covered."""
    shape = (colour.shape[0], colour.shape[1])
    place = two_noises(rng, shape, (2.4 * t, 1.6 * t), (0.25 * t, 0.25 * t), 0.5)
    place = place + np.linspace(-0.8, 0.5, shape[0], dtype=np.float32)[:, None]
    leaf = two_noises(rng, shape, (0.1 * t, 0.1 * t), (0.3 * t, 0.3 * t), 0.6)
    green = tint((0.22, 0.34, 0.13), 0.38 * leaf)
    covered = place > 2.1 - 1.4 * amount
    colour[covered] = green[covered]


def frame_openings(
    rng: np.random.Generator, colour: Pixels, openings: list[Rect], trim: Colour, t: float
) -> None:
    """Paint a weathered band of trim around every opening, in place."""
    worn = fractal(rng, (colour.shape[0], colour.shape[1]), t, (0.05, 0.1, 0.25))
    for left, top, width, height in openings:
        side, head, sill = rng.uniform(0.08, 0.22, 3)
        x0, y0, x1, y1 = _pixels((left - side, top - head, width + 2 * side, height + head + sill), t)
        area = (slice(max(y0, 0), y1), slice(max(x0, 0), x1))
        colour[area] = tint(trim, 0.16 * worn[area] + rng.uniform(-0.12, 0.12))


def holes(shape: tuple[int, int], openings: list[Rect], t: float, arched: bool) -> NDArray[np.bool_]:
    """Where a wall [H,W] stays opaque once its openings are cut out; arched: round tops."""
    mask = Image.new("L", shape[::-1], 255)
    pen = ImageDraw.Draw(mask)
    for rect in openings:
        x0, y0, x1, y1 = _pixels(rect, t)
        radius = min((x1 - x0) / 2, (y1 - y0) / 2) if arched else 0
        pen.rectangle([x0, y0 + radius, x1 - 1, y1 - 1], fill=0)
        if arched:
            pen.ellipse([x0, y0, x1 - 1, y0 + 2 * radius], fill=0)
    return np.asarray(mask) > 0


def panes(rng: np.random.Generator, size_m: Size, openings: list[Rect], frame: Colour, t: float) -> Pixels:
    """What is seen through the openings of a wall [H,W,3]: windows and shop fronts, else masonry."""
    shape = texels_of(size_m, t)
    colour = tint((0.42, 0.40, 0.38), 0.14 * fractal(rng, shape, t, (0.06, 0.2, 0.7)))
    for rect in openings:
        x0, y0, x1, y1 = _pixels(rect, t)
        view = colour[y0:y1, x0:x1]
        if view.size:
            view[...] = _window(rng, (view.shape[0], view.shape[1]), frame, t)
    return colour


def _window(rng: np.random.Generator, shape: tuple[int, int], frame: Colour, t: float) -> Pixels:
    """One window or shop front [h,w,3]: glass, and behind it goods, curtains or blinds."""
    height, width = shape
    glass = 0.16 + 0.18 * np.linspace(1, 0, height, dtype=np.float32)[:, None] ** 2
    glass = glass + 0.05 * smooth_noise(rng, shape, (0.5 * t, 0.3 * t))
    view = tint((0.85, 1.0, 1.15), glass + 0.02 * smooth_noise(rng, shape, (4, 4)) - 1)
    kind = rng.integers(0, 5)
    if width > 1.8 * t or kind == 0:
        for _ in range(3 + int(3 * width / t)):
            h, w = int(rng.uniform(0.15, 0.5) * height) + 3, int(rng.uniform(0.1, 0.3) * width) + 3
            y, x = int(rng.integers(0, max(1, height - h))), int(rng.integers(0, max(1, width - w)))
            view[y : y + h, x : x + w] = 0.75 * poster(rng, (h, w))[: height - y, : width - x]
    elif kind < 3:
        cut = int(width * rng.uniform(0.2, 0.5))
        cloth = tint(muted(rng, 0.4, 0.9), 0.12 * smooth_noise(rng, shape, (2 * t, 0.07 * t)))
        view[:, :cut] = cloth[:, :cut]
        if kind == 2:
            view[:, -cut:] = cloth[:, -cut:]
    else:
        drop = int(height * rng.uniform(0.1, 0.8))
        slats = np.where(np.arange(drop) % max(3, round(0.09 * t)) < 2, 0.0, 0.25)[:, None].astype(np.float32)
        view[:drop] = tint(muted(rng, 0.4, 0.8), slats)
    _bars(rng, view, frame, t)
    return view


def _bars(rng: np.random.Generator, view: Pixels, frame: Colour, t: float) -> None:
    """The weathered frame of a window and its glazing bars, in place."""
    shape = (view.shape[0], view.shape[1])
    across, down = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    thick, slim = (max(1, round(width * t)) for width in rng.uniform((0.05, 0.03), (0.1, 0.07)))
    wood = np.zeros(shape, dtype=bool)
    wood[:thick] = wood[-thick:] = wood[:, :thick] = wood[:, -thick:] = True
    for share in (np.arange(1, across) + rng.uniform(-0.12, 0.12, across - 1)) / across:
        wood[:, int(share * shape[1]) : int(share * shape[1]) + slim] = True
    for share in (np.arange(1, down) + rng.uniform(-0.25, 0.25, down - 1)) / down:
        wood[int(share * shape[0]) : int(share * shape[0]) + slim] = True
    worn = 0.2 * fractal(rng, shape, t, (0.06, 0.15)) + rng.uniform(-0.2, 0.2)
    view[wood] = tint(frame, worn)[wood]


def foliage(rng: np.random.Generator, size_m: Size, t: float, trunk: bool) -> Texture:
    """A tree or a bush with holes between its leaves."""
    shape = texels_of(size_m, t)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    y, x = y / shape[0], x / shape[1] - 0.5
    crown = 0.68 if trunk else 1.0
    inside = 1.0 - (x / 0.5) ** 2 - ((y - crown / 2) / (crown / 2)) ** 2
    edge = two_noises(rng, shape, (0.5 * t, 0.5 * t), (0.14 * t, 0.14 * t), 0.9)
    leaf = two_noises(rng, shape, (0.09 * t, 0.09 * t), (0.4 * t, 0.4 * t), 0.8)
    base = np.array([0.24, 0.34, 0.14]) * rng.uniform(0.7, 1.25, 3)
    colour = tint(base, 0.33 * leaf - 0.25 * (y - 0.3))
    opaque = inside + 0.22 * edge > 0.25
    if trunk:
        stem = (np.abs(x + 0.02 * edge) < 0.045) & (y > 0.5) & ~opaque
        colour[stem] = tint((0.27, 0.21, 0.16), 0.25 * leaf)[stem]
        opaque = opaque | stem
    return texture(colour, opaque)


class _Cutout:
    """A figure drawn together with its outline; coordinates are shares of its width and height."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.picture, self.outline = Image.new("RGB", self.size), Image.new("L", self.size, 0)

    def draw(self, shape: str, points: tuple[float, ...], colour: Colour, thick: float = 0.0) -> None:
        """shape: line, box, disc or polygon; thick: share of the width (line), corner radius (box)."""
        width, height = self.size
        xy = [v * (width if k % 2 == 0 else height) for k, v in enumerate(points)]
        for sheet, fill in ((self.picture, _ink(colour)), (self.outline, 255)):
            pen = ImageDraw.Draw(sheet)
            if shape == "line":
                pen.line(xy, fill=fill, width=max(2, round(thick * width)))
            elif shape == "box":
                pen.rounded_rectangle(xy, radius=thick * width, fill=fill)
            elif shape == "disc":
                pen.ellipse(xy, fill=fill)
            else:
                pen.polygon(xy, fill=fill)

    def texture(self, shade: NDArray[np.float32]) -> Texture:
        """The figure with its surface shaded by [H,W]."""
        colour = np.asarray(self.picture, dtype=np.float32) / 255 * (1 + shade[..., None])
        return texture(colour, np.asarray(self.outline) > 0)


def person(rng: np.random.Generator, t: float) -> Texture:
    """A standing figure of 0.7 m by 1.75 m."""
    figure = _Cutout(round(0.7 * t), round(1.75 * t))
    tone = rng.uniform(0.4, 1.0)
    skin, hair = (0.92 * tone, 0.74 * tone, 0.62 * tone), muted(rng, 0.05, 0.35)
    coat, legs = muted(rng, 0.1, 0.75), muted(rng, 0.08, 0.4)
    stance, lean = rng.uniform(0.05, 0.16), rng.uniform(-0.03, 0.03)
    figure.draw("line", (0.5, 0.52, 0.5 - stance, 0.98), legs, 0.2)
    figure.draw("line", (0.5, 0.52, 0.5 + stance, 0.98), legs, 0.2)
    figure.draw("line", (0.3, 0.22, 0.24 - lean, 0.52), coat, 0.13)
    figure.draw("line", (0.7, 0.22, 0.76 - lean, 0.52), coat, 0.13)
    figure.draw("box", (0.29, 0.17, 0.71, 0.56), coat, 0.12)
    figure.draw("disc", (0.37 + lean, 0.0, 0.63 + lean, 0.14), hair)
    figure.draw("disc", (0.39 + lean, 0.03, 0.61 + lean, 0.16), skin)
    return figure.texture(0.12 * smooth_noise(rng, figure.size[::-1], (0.25 * t, 0.12 * t)))


def car(rng: np.random.Generator, t: float) -> Texture:
    """A parked car seen from its side, 4.2 m by 1.5 m."""
    figure = _Cutout(round(4.2 * t), round(1.5 * t))
    paint, glass = muted(rng, 0.15, 0.85), (0.18, 0.22, 0.25)
    a, b = rng.uniform(0.14, 0.26), rng.uniform(0.72, 0.9)
    figure.draw("polygon", (a, 0.45, a + 0.12, 0.03, b - 0.14, 0.03, b, 0.45), paint)
    figure.draw("box", (0.0, 0.42, 0.998, 0.86), paint, 0.05)
    figure.draw("polygon", (a + 0.05, 0.43, a + 0.14, 0.1, b - 0.15, 0.1, b - 0.05, 0.43), glass)
    figure.draw("line", (0.5, 0.05, 0.5, 0.8), (paint[0] / 2, paint[1] / 2, paint[2] / 2), 0.006)
    for centre in (0.2, 0.8):
        figure.draw("disc", (centre - 0.08, 0.56, centre + 0.08, 0.995), (0.1, 0.1, 0.11))
        figure.draw("disc", (centre - 0.04, 0.67, centre + 0.04, 0.885), (0.55, 0.55, 0.57))
    return figure.texture(0.07 * smooth_noise(rng, figure.size[::-1], (0.3 * t, 0.8 * t)))
