"""The same picture in two files: at another size, compressed again, in another format.

Found from the working copies. Two frames of a camera that stood still are no copies of each other: files of
one size and one encoding are one picture only where every pixel agrees, and never where EXIF says that they
were taken at different times.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from storage.pictures import exif
from storage.pictures.decoding import open_picture

logger = logging.getLogger(__name__)

SMALL_PX = 16  # of the small pictures in which candidates are looked for
MOST_PX = 64  # of the pictures that are compared
_COARSE = 4
_COARSE_DISTANCE = 0.2  # between unit vectors: a correlation of 0.98
_LEAST_CONTRAST = 2.0  # grey levels; below, all that is left is noise
_SHAPE_SLACK = 0.01  # of width / height, beside the rounding of the smaller picture

# Correlations of copies and of the nearest different photographs of 2,512, and how they were measured:
# docs/photographs.md.
_WHOLE, _DETAIL = 0.97, 0.93  # at another size
_SAME_SIZE_WHOLE, _SAME_SIZE_DETAIL, _MOST_CHANGED = 0.99, 0.985, 16.0  # grey levels of 8 x 8 px
_UNCHANGED_RMS = 0.25  # grey levels, of files with one size and encoding

Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """An accepted photograph: working: its working copy; width, height: px as stored, but upright."""

    sha256: str
    working: Path
    width: int
    height: int
    num_bytes: int

    @property
    def order(self) -> tuple[int, int, str]:
        """Of the same picture in several files the first stands: the largest."""
        return -self.width * self.height, -self.num_bytes, self.sha256


@dataclass(frozen=True)
class Source:
    """How a file was written, and when the photograph was taken with parts of a second, "" = unknown."""

    encoding: tuple[Any, ...] = ()
    taken: tuple[str, str] = ("", "")


def copies(pictures: Sequence[Picture], original: Callable[[str], Path], threads: int = 4) -> dict[str, str]:
    """sha256 of a copy -> sha256 of the picture that stands for it, which stands for itself.

    original: sha256 -> the file of a photograph; asked of the few that look like another one.
    """
    started = time.monotonic()
    ordered = sorted(pictures, key=lambda picture: picture.order)
    with ThreadPoolExecutor(threads) as pool:
        small = np.array(list(pool.map(lambda picture: _small(picture.working), ordered)), np.float32)
    found: dict[int, int] = {}
    for second, near in _candidates(small.reshape(len(ordered), SMALL_PX, SMALL_PX)):
        scores = {
            first: _score(ordered[first], ordered[second], original) for first in near if first not in found
        }
        best = max(scores, key=lambda first: (scores[first], -first), default=second)
        if best != second and scores[best] > 0:
            found[second] = best
    logger.info("%d of %d are copies, %.1f s", len(found), len(ordered), time.monotonic() - started)
    return {ordered[copy].sha256: ordered[stands].sha256 for copy, stands in found.items()}


def _score(one: Picture, other: Picture, original: Callable[[str], Path]) -> float:
    """How alike two pictures are in detail, 0 where they are different ones."""
    if not _one_shape(one, other):
        return 0.0
    whole, detail = _correlations(_grey(one.working), _grey(other.working))
    if min(whole / _WHOLE, detail / _DETAIL) < 1:
        return 0.0
    sources = [_source(original(each.sha256)) for each in (one, other)]
    if _taken_apart(*sources):
        return 0.0
    if (one.width, one.height) != (other.width, other.height):
        return detail
    rms, changed = _changes(_grey(one.working), _grey(other.working))
    if sources[0].encoding == sources[1].encoding:
        return detail if rms <= _UNCHANGED_RMS else 0.0
    alike = whole >= _SAME_SIZE_WHOLE and detail >= _SAME_SIZE_DETAIL and changed <= _MOST_CHANGED
    return detail if alike else 0.0


def _candidates(small: Grey) -> Any:
    """(second, positions before it that may be the same picture), in order, for those that have some."""
    if not len(small):
        return
    contrast = small.std(axis=(1, 2))
    step = SMALL_PX // _COARSE
    coarse = small.reshape(-1, _COARSE, step, _COARSE, step).mean(axis=(2, 4)).reshape(len(small), -1)
    coarse = coarse - coarse.mean(axis=1, keepdims=True)
    coarse /= np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-6)
    tree = cKDTree(coarse)
    for second in np.flatnonzero(contrast >= _LEAST_CONTRAST).tolist():
        near = tree.query_ball_point(coarse[second], _COARSE_DISTANCE)
        near = sorted(first for first in near if first < second and contrast[first] >= _LEAST_CONTRAST)
        if near:
            yield second, near


def _one_shape(one: Picture, other: Picture) -> bool:
    shorter = min(one.width, one.height, other.width, other.height)
    ratio = (one.width / one.height) / (other.width / other.height)
    return abs(np.log(ratio)) <= _SHAPE_SLACK + 1.5 / shorter


def _correlations(one: Grey, other: Grey) -> tuple[float, float]:
    """Of the pictures and of what is finer than their shades, both at half the size of the smaller one."""
    size = int(np.clip(min(max(one.shape), max(other.shape)) // 2, SMALL_PX, MOST_PX))
    first, second = _resized(one, size), _resized(other, size)
    fine = [picture - gaussian_filter(picture, 2.0) for picture in (first, second)]
    return _correlation(first, second), _correlation(*fine)


def _correlation(one: Grey, other: Grey) -> float:
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / norm if norm > 0 else 0.0


def _changes(one: Grey, other: Grey) -> tuple[float, float]:
    """Root mean square of the differences of two working copies, and the largest mean over 8 x 8 px."""
    if one.shape != other.shape:
        return float("inf"), float("inf")
    change = one - other
    height, width = (side // 8 for side in change.shape)
    blocks = change[: height * 8, : width * 8].reshape(height, 8, width, 8).mean(axis=(1, 3))
    return float(np.sqrt((change**2).mean())), float(np.abs(blocks).max(initial=0.0))


def _small(path: Path) -> Grey:
    with path.open("rb") as file, open_picture(file) as image:
        image.draft("L", (8 * SMALL_PX, 8 * SMALL_PX))
        return _resized(np.asarray(image.convert("L"), np.float32), SMALL_PX)


@lru_cache(maxsize=256)
def _grey(path: Path) -> Grey:
    with path.open("rb") as file, open_picture(file) as image:
        return np.asarray(image.convert("L"), np.float32)


def _resized(picture: Grey, size: int) -> Grey:
    """[size, size]: with a filter that shifts nothing, whatever the size was."""
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)


@lru_cache(maxsize=4096)
def _source(path: Path) -> Source:
    try:
        with path.open("rb") as file, open_picture(file) as image:
            tables: Mapping[int, Sequence[int]] = getattr(image, "quantization", None) or {}
            steps = tuple((number, *map(int, table)) for number, table in sorted(tables.items()))
            return Source((image.format, *steps), exif.taken(image))
    except Exception:  # the header is all that is read, of a file that was decoded: what it says is a hint
        return Source()


def _taken_apart(one: Source, other: Source) -> bool:
    """Whether two photographs say that they were taken at different times."""
    (day, part), (other_day, other_part) = one.taken, other.taken
    if not day or not other_day:
        return False
    return day != other_day or bool(part and other_part and part != other_part)
