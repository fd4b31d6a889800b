"""Photographs as arrays: decoded, upright, size-limited, normalised. Semantics of the published loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from retrieval.describe.options import Box
from storage.pictures.decoding import CEILING_MEGAPIXELS, Rejected, Unsupported, decode, open_picture

if TYPE_CHECKING:
    from torch import Tensor

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class UnreadablePhotograph(ValueError):
    """A file cannot be decoded as a photograph."""


def load_photograph(
    path: Path | str,
    image_size: int | None,
    box: Box | None = None,
    *,
    as_reference: bool = False,
    draft: bool = False,
    max_megapixels: float = CEILING_MEGAPIXELS,
) -> NDArray[np.uint8]:
    """Decode an RGB photograph whose longer side has at most image_size pixels, upright.

    -> [H, W, 3] uint8. Lanczos, never enlarged. box (left, top, right, bottom) in pixels of the full
    photograph: the crop is limited to image_size * max(crop) / max(full), so that it has the resolution it
    would have in the whole photograph. draft: let the JPEG decoder skip resolution that is not needed
    (faster, other rounding). as_reference: of an official benchmark, see `_as_reference`. Raises
    UnreadablePhotograph. Source: cirtorch ImagesFromList, imresize.
    """
    # twice the wanted size, so that Lanczos still has something to filter
    halved_to = 2 * image_size if draft and image_size is not None and box is None else None
    try:
        if as_reference:
            photograph = _as_reference(path, halved_to)
        else:
            decoded = decode(Path(path), halved_to=halved_to, max_megapixels=max_megapixels)
            photograph = decoded.upright().convert("RGB")
    except (Rejected, Unsupported, OSError) as error:
        raise UnreadablePhotograph(
            f"photograph {str(path)!r}: {error}; leave it out or convert it to JPEG or PNG"
        ) from error
    return np.asarray(_limited(photograph, image_size, box))


def limit_array(photograph: NDArray[np.uint8], image_size: int | None) -> NDArray[np.uint8]:
    """The same limit for a photograph that is decoded already: [H, W, 3] uint8 -> [h, w, 3] uint8."""
    if photograph.ndim != 3 or photograph.shape[2] != 3 or photograph.dtype != np.uint8:
        raise UnreadablePhotograph(
            f"array of shape {photograph.shape}, {photograph.dtype}: a photograph is [H, W, 3] uint8, RGB"
        )
    if image_size is None or max(photograph.shape[:2]) <= image_size:
        return photograph
    return np.asarray(_limited(Image.fromarray(photograph), image_size, None))


def normalise(photograph: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x / 255 - mean) / std per channel: [H, W, 3] uint8 -> tensor [1, 3, H, W] float32."""
    import torch

    # A copy: decoded photographs are shared between threads and may be read-only.
    pixels = torch.from_numpy(np.array(photograph)).permute(2, 0, 1).to(torch.float32).div_(255)
    centre, width = (torch.tensor(each).view(-1, 1, 1) for each in (mean, std))
    return pixels.sub_(centre).div_(width).unsqueeze(0).contiguous()


def loaded_ahead(
    keys: Iterable[_Key], load: Callable[[_Key], _Value], *, threads: int = 1, ahead: int = 4
) -> Iterator[_Value]:
    """load(key) for every key in order, computed by `threads` threads up to `ahead` keys before they are
    asked for.

    An error of load is raised when its key is reached. With threads=0 nothing runs beside the caller.
    """
    if threads == 0:
        yield from map(load, keys)
        return
    waiting: list[Future[_Value]] = []
    remaining = iter(keys)
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        try:
            waiting.extend(pool.submit(load, key) for key in islice(remaining, ahead))
            while waiting:
                value = waiting.pop(0).result()
                waiting.extend(pool.submit(load, key) for key in islice(remaining, 1))
                yield value
        finally:
            for future in waiting:
                future.cancel()


class PhotographCache(Generic[_Key]):
    """load(key) with the results kept in memory up to `limit` bytes; what does not fit is loaded every
    time. For photographs, and for what is made of them once."""

    def __init__(self, load: Callable[[_Key], NDArray[Any]], limit: int) -> None:
        self._load = load
        self._free = limit
        self._kept: dict[_Key, NDArray[Any]] = {}
        self._lock = Lock()

    def __call__(self, image: _Key) -> NDArray[Any]:
        photograph = self._kept.get(image)
        if photograph is None:
            photograph = self._load(image)
            with self._lock:
                if photograph.nbytes <= self._free and image not in self._kept:
                    self._kept[image] = photograph
                    self._free -= photograph.nbytes
        return photograph


def _limited(photograph: Image.Image, image_size: int | None, box: Box | None) -> Image.Image:
    limit: float | None = image_size
    if box is not None:
        longest = max(photograph.size)
        photograph = photograph.crop(box)  # type: ignore[arg-type]
        if min(photograph.size) == 0:
            raise UnreadablePhotograph(f"box {box}: empty crop; expected left, top, right, bottom in pixels")
        if image_size is not None:
            limit = image_size * max(photograph.size) / longest
    if limit is not None:
        photograph.thumbnail((limit, limit), Image.Resampling.LANCZOS)
    return photograph


def _as_reference(path: Path | str, halved_to: int | None) -> Image.Image:
    """As the references of the official benchmarks read their images: not turned, what Pillow calls RGB.

    16-bit greys are scaled, where Pillow's own conversion would clip them to white. Raises Rejected, OSError.
    """
    with open(path, "rb") as file:
        try:
            with open_picture(file) as opened:
                if halved_to is not None:
                    opened.draft("RGB", (halved_to, halved_to))
                if not opened.mode.startswith("I;16"):
                    return opened.convert("RGB")
                deep = np.asarray(opened, dtype=np.uint16)
        except UnidentifiedImageError:
            raise Rejected("not an image of a format that is read") from None
        except Exception as error:  # of many kinds, as in storage.pictures
            raise Rejected(f"cannot be decoded: {error}") from error
    return Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB")
