"""Every kind of pixels as grey or RGB in 8 bits: one meaning for transparency, palettes, deep and float data.

Large pictures are converted in strips, so that no second copy of one with more bytes per pixel is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat

_STRIP_PX = 1 << 22
_UPPER_BYTE = 1 / 256
_SAMPLED = 1 << 20
_CUT_SHARE = 0.001  # of the values at either end may be dead and hot pixels
_DARK, _COARSE = 128, 31  # of 255: half of the range never used; too few levels to stretch
_LEAST_DIFFERENCE = 2  # of 255, between the darkest and the lightest pixel


class NoContrast(ValueError):
    """A picture whose values hold nothing that could be shown."""


def to_eight_bits(image: Image.Image, deep_colour: bool = False) -> tuple[Image.Image, str]:
    """A loaded picture as mode L where it is grey, else RGB, and a note where its values were stretched.

    Transparency over white. More than 8 bits: see `_eight_bits`. deep_colour: see `is_deep_colour`.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image)
    note = ""
    if deep_colour:
        image, note = _brightened(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return _in_strips(image, "L" if image.mode in ("1", "L", "LA", "La") else "RGB", _over_white), note
    if image.mode in ("L", "RGB"):
        return image, note
    if image.mode == "LAB":
        return _in_strips(image, "RGB", _from_lab), note
    mode = "L" if image.mode == "1" else "RGB"
    return _in_strips(image, mode, lambda strip: strip.convert(mode)), note


def is_deep_colour(image: Image.Image) -> bool:
    """Whether an opened picture has 16 bits per channel, of which Pillow keeps the upper 8."""
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in image.tile)  # type: ignore[attr-defined]


def is_flat(image: Image.Image) -> bool:
    """Whether all pixels of a picture (L or RGB) are the same, to one level of 255."""
    few = image.resize((8, 8), Image.Resampling.NEAREST)
    return _spread(few) < _LEAST_DIFFERENCE and _spread(image) < _LEAST_DIFFERENCE


def _spread(image: Image.Image) -> int:
    return max(int(high) - int(low) for low, high in ImageStat.Stat(image).extrema)


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The top row of each strip of whole rows, and the strip."""
    rows = max(1, _STRIP_PX // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _in_strips(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    if image.width * image.height <= _STRIP_PX:
        return convert(image).convert(mode)
    whole = Image.new(mode, image.size)
    for top, strip in _strips(image):
        whole.paste(convert(strip).convert(mode), (0, top))
    return whole


def _over_white(image: Image.Image) -> Image.Image:
    plain = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
    layer = (image.convert(plain) if plain else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    shown = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    return image if shown is None else shown


def _brightened(image: Image.Image) -> tuple[Image.Image, str]:
    """The upper 8 of 16 bits per channel, stretched where more than half of the range is never used.

    Raises NoContrast where what is left of 12 bits or fewer would be less than 32 levels.
    """
    bands = image.split()
    colour = bands[: 1 if image.mode == "LA" else 3]
    high = max(int(band.getextrema()[1]) for band in colour)  # type: ignore[arg-type]
    if high >= _DARK:
        return image, ""
    bits = 8 + high.bit_length()
    if high < _COARSE:
        raise NoContrast(
            f"16 bits per channel of which only the lower {bits} are used: almost black; convert it to 8 bits"
        )
    table = [min(255, round(value * 255 / high)) for value in range(256)]
    brighter = Image.merge(image.mode, [*(band.point(table) for band in colour), *bands[len(colour) :]])
    return brighter, f"stretched from {bits} of 16 bits"


def _eight_bits(image: Image.Image) -> tuple[Image.Image, str]:
    """Grey of 16 bits, 32 bits or float to 8 bits.

    The scale is the smallest of 1 (float alone), 255 and 65535 that holds all values. Where they use half of
    it or more they are scaled by it (65535: the upper byte), without a note. Else, as with 12 bits in 16 or
    temperatures, their own range is stretched to 0..255: from the value that one in a thousand pixels is
    below to the one that one in a thousand is above, so that dead pixels do not count. Both are of every n-th
    pixel where there are more than a million: the same for the same picture anywhere. What is not finite is
    black.
    """
    values = _sample(image)
    if not len(values):
        raise NoContrast("it has no finite values")
    low, high = _range_of(values)
    if low == high:
        raise NoContrast(f"the same value {low:g} everywhere: nothing can be found in it")
    note = ""
    unit = _unit(image.mode, float(values.min()), float(values.max()))
    if unit is not None and high - low >= unit / 2:
        scale, offset = _UPPER_BYTE if unit == 65535 else 255.0 / unit, 0.0
    else:
        scale, offset = 255.0 / (high - low), low
        note = f"stretched from {low:g}..{high:g} to 8 bits"
    out = np.empty((image.height, image.width), np.uint8)
    for top, strip in _strips(image):
        out[top : top + strip.height] = _scaled(strip, offset, scale, image.info.get("transparency"))
    return Image.fromarray(out), note


def _scaled(strip: Image.Image, offset: float, scale: float, transparent: Any) -> NDArray[np.uint8]:
    values = np.array(strip, dtype=np.float64)
    see_through = values == transparent if isinstance(transparent, int | float) else None
    values[~np.isfinite(values)] = offset
    shown = (values - offset) * scale
    if scale != _UPPER_BYTE:
        np.rint(shown, out=shown)
    grey: NDArray[np.uint8] = np.clip(shown, 0, 255).astype(np.uint8)
    if see_through is not None:
        grey[see_through] = 255
    return grey


def _unit(mode: str, least: float, most: float) -> float | None:
    scales = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
    return next((scale for scale in scales if least >= 0 and most <= scale), None)


def _sample(image: Image.Image) -> NDArray[Any]:
    """Finite values of every n-th pixel, in rows and columns alike."""
    step = max(1, int(np.ceil(np.sqrt(image.width * image.height / _SAMPLED))))
    values = np.concatenate(
        [np.asarray(strip)[-top % step :: step, ::step].ravel() for top, strip in _strips(image)]
    )
    return values[np.isfinite(values)]


def _range_of(values: NDArray[Any]) -> tuple[float, float]:
    """Between which values all but one in a thousand at either end lie, or all where that is one value."""
    cut = int(len(values) * _CUT_SHARE)
    ordered = np.partition(values, (cut, len(values) - 1 - cut))
    low, high = float(ordered[cut]), float(ordered[-1 - cut])
    return (low, high) if low < high else (float(values.min()), float(values.max()))
