"""Harder queries: how a photograph is altered, and descriptors of such photographs as a stage, in chunks.

Light: torch is imported by the step only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.describe.chunk import describe_into
from retrieval.describe.images import limit_array, load_photograph
from retrieval.describe.options import STAGE as EXTRACTION
from retrieval.describe.options import Box, ExtractionOptions, ExtractionResources

STAGE = EXTRACTION.model_copy(update={"name": "altered_descriptors", "code": __name__})
SHARES = {"half": 2, "quarter": 4}
LEAST_PX = 64
"""A shorter side is not made smaller than this, because some networks cannot describe less."""
DARK_GAMMA = 2.0
DARK_CAST = (1.0, 0.85, 0.7)
"""dark: a value v of 0..255 becomes 255 (v / 255)^2, times 1, 0.85, 0.7 in red, green and blue, rounded."""


def altered(
    photograph: NDArray[np.uint8], change: str, box: Box | None, image_size: int
) -> NDArray[np.uint8]:
    """A photograph [H, W, 3] as one of CHANGES leaves it, [h, w, 3], to be described as it is.

    box: as of `AlteredQuery`; image_size: longer side in px at which the whole photograph is described.
    """
    if change == "detail":
        assert box is not None
        return _detail(photograph, box, image_size)
    small = limit_array(photograph, image_size)
    if change == "dark":
        values = (np.arange(256) / 255) ** DARK_GAMMA * 255
        table = np.rint(values[:, None] * np.array(DARK_CAST)).astype(np.uint8)
        return np.stack([table[small[:, :, channel], channel] for channel in range(3)], axis=2)
    longer, shorter = max(small.shape[:2]), min(small.shape[:2])
    least = min(longer, -(-LEAST_PX * longer // shorter))
    return limit_array(photograph, max(longer // SHARES[change], least))


def _detail(photograph: NDArray[np.uint8], box: Box, image_size: int) -> NDArray[np.uint8]:
    """The box, enlarged or reduced (Lanczos) to the longer side that the whole photograph is described at."""
    height, width = photograph.shape[:2]
    ends = np.rint(np.array(box) * (width, height, width, height)).astype(int).tolist()
    left, top = min(ends[0], width - 1), min(ends[1], height - 1)
    crop = Image.fromarray(photograph[top : max(ends[3], top + 1), left : max(ends[2], left + 1)])
    scale = min(image_size, max(height, width)) / max(crop.size)
    size = [max(1, round(side * scale)) for side in crop.size]
    return np.asarray(crop.resize((size[0], size[1]), Image.Resampling.LANCZOS))


def describe_chunk(
    network: Path,
    queries: Sequence[tuple[str, Path, str, Box | None]],
    options: ExtractionOptions,
    *,
    out: Path,
    input_digests: Mapping[str, str],
    resources: ExtractionResources | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Describe altered photographs (item, path, change, box) and write them to `out` in the layout
    `descriptors`.

    A photograph is decoded once for changes of it that follow each other, whole: `draft` is not used.
    Returns {"items": {id: {"input", "content"}}}, as a store's chunk wants it. Raises UnreadablePhotograph,
    UnreadableNetwork, DeviceUnavailable.
    """
    used = resources or ExtractionResources()
    whole = lru_cache(maxsize=used.loader_threads + 1)(lambda path: load_photograph(path, None))
    return describe_into(
        out,
        STAGE.name,
        network,
        lambda query: altered(whole(query[0]), query[1], query[2], options.image_size),
        [(item, (path, change, box)) for item, path, change, box in queries],
        input_digests,
        options,
        used,
        progress,
    )
