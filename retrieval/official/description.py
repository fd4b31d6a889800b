"""Descriptors of a benchmark's images as a stage, in chunks: cropped, and loaded as the references load them.

Light: torch is imported by the step only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.describe.chunk import describe_into
from retrieval.describe.options import STAGE as EXTRACTION
from retrieval.describe.options import ExtractionOptions, ExtractionResources
from storage.files.digests import json_sha256

if TYPE_CHECKING:
    from retrieval.official.readers.common import Box

STAGE = EXTRACTION.model_copy(update={"name": "benchmark_descriptors", "code": __name__})


def item_of(sha256: str, box: Box | None) -> str:
    """Id of an image, or of a part of it, 64 hex: its content and the box, whatever its name."""
    return sha256 if box is None else json_sha256(["crop", sha256, list(box)])


def input_of(sha256: str, box: Box | None, network: str) -> str:
    """What a descriptor is made from: the content, the box, the network's digest."""
    return json_sha256([sha256, None if box is None else list(box), network])


def describe_chunk(
    network: Path,
    images: Sequence[tuple[str, Path, Box | None]],
    options: ExtractionOptions,
    *,
    out: Path,
    input_digests: Mapping[str, str],
    resources: ExtractionResources | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Describe images (item, path, box) and write them to `out` in the layout `descriptors`.

    Not turned by EXIF, as in the published evaluations; a crop has the resolution that it would have in the
    whole image (cirtorch). Returns {"items": {id: {"input", "content"}}}, as a store's chunk wants it.
    Raises UnreadablePhotograph, UnreadableNetwork, DeviceUnavailable.
    """
    from retrieval.describe.images import load_photograph

    return describe_into(
        out,
        STAGE.name,
        network,
        lambda image: load_photograph(
            image[0], options.image_size, image[1], as_reference=True, draft=options.draft
        ),
        [(item, (path, box)) for item, path, box in images],
        input_digests,
        options,
        resources or ExtractionResources(),
        progress,
    )
