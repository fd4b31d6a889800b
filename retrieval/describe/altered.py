"""Harder queries: how a photograph is altered, and descriptors of such photographs as a stage, in chunks.

Light: torch is imported by the step only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.describe.chunk import describe_into
from retrieval.describe.images import limit_array, load_photograph
from retrieval.describe.options import STAGE as EXTRACTION
from retrieval.describe.options import Box, ExtractionOptions, ExtractionResources
from retrieval.describe.rows import Files, descriptor_rows
from storage.files.digests import json_sha256

STAGE = EXTRACTION.model_copy(update={"name": "altered_descriptors", "code": __name__})
SPLITS = ("val", "test")
NEEDED = (
    "images/sha256",
    *(f"{path.format(split)}" for split in SPLITS for path in ("benchmark/{}/queries", "harder/{}/box")),
)
"""Of training_set.h5: what says which queries are altered and how."""
CHANGES = ("detail", "half", "quarter", "dark")
"""detail: the box alone, as large as the whole photograph is described; half, quarter: described at 1/2 and
1/4 of the size; dark: late light, see DARK_GAMMA."""
SHARES = {"half": 2, "quarter": 4}
LEAST_PX = 64
"""A shorter side is not made smaller than this, because some networks cannot describe less."""
DARK_GAMMA = 2.0
DARK_CAST = (1.0, 0.85, 0.7)
"""dark: a value v of 0..255 becomes 255 (v / 255)^2, times 1, 0.85, 0.7 in red, green and blue, rounded."""


class AlteredQuery(NamedTuple):
    """A photograph (sha256) and what is done to it. box: the detail, as shares of the upright photograph's
    sides; None where the change needs none."""

    sha256: str
    change: str
    box: Box | None

    @property
    def item(self) -> str:
        """Id of its descriptor, 64 hex: the content, the change and the box, whatever the photograph's
        name."""
        return json_sha256([self.change, self.sha256, self.box])

    def made_from(self, network: str) -> str:
        """What its descriptor is made from: the same, and the network's digest."""
        return json_sha256([self.change, self.sha256, self.box, network])


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


def altered_queries(arrays: Mapping[str, Any], split: str) -> Iterator[tuple[str, int, AlteredQuery]]:
    """(change, row of the benchmark's queries, what to describe) of every query that has a detail, in order
    of queries; none where the training set knows no details."""
    path = f"harder/{split}/box"
    if path not in arrays:
        return
    queries = np.asarray(arrays[f"benchmark/{split}/queries"])
    shas = np.asarray(arrays["images/sha256"])[queries].astype(str)
    for row, (sha, box) in enumerate(zip(shas.tolist(), np.asarray(arrays[path]).tolist(), strict=True)):
        if box[0] == box[0]:
            for change in CHANGES:
                yield change, row, AlteredQuery(sha, change, tuple(box) if change == "detail" else None)


def altered_rows(arrays: Mapping[str, Any], files: Files) -> dict[tuple[str, str], NDArray[np.float32]]:
    """(split, change) -> [Q, D] descriptors of the benchmark's queries, zeros where there is no detail; no
    split without details. arrays: of training_set.h5; files: item -> file."""
    found: dict[tuple[str, str], NDArray[np.float32]] = {}
    for split in SPLITS:
        if f"harder/{split}/box" in arrays:
            items = {change: [""] * len(arrays[f"benchmark/{split}/queries"]) for change in CHANGES}
            for change, row, query in altered_queries(arrays, split):
                items[change][row] = query.item
            if any(items[CHANGES[0]]):
                found |= {(split, change): descriptor_rows(files, each) for change, each in items.items()}
    return found


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
