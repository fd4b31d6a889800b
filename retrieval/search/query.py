"""A photograph, or a part of one, as a query of an index: described as the index's own photographs were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from retrieval.describe.describe import Passes, iterate_descriptors
from retrieval.describe.images import Box, load_photograph
from retrieval.describe.options import ExtractionOptions
from retrieval.networks.network import RetrievalNetwork
from retrieval.search.index import SearchIndex, UnusableIndex
from storage.pictures.decoding import MOST_MEGAPIXELS


class UnusableBox(ValueError):
    """A box that does not lie on its photograph."""


def describe_query(
    network: RetrievalNetwork,
    index: SearchIndex,
    photograph: Path,
    box: Box | None = None,
    *,
    device: str = "cpu",
    threads: int | None = None,
) -> NDArray[np.float32]:
    """The descriptor [1, D] of a photograph in the space of an index, whitened as its own.

    box: (left, top, right, bottom) in pixels of the upright photograph; the part has the resolution that it
    would have in the whole. Raises UnusableBox, UnreadablePhotograph, UnusableIndex
    where the network gives other descriptors.
    """
    options = _description(index)
    if box is not None:
        check_box(photograph, box)
    described = iterate_descriptors(
        network,
        lambda path: load_photograph(
            path, options.image_size, box, draft=options.draft, max_megapixels=MOST_MEGAPIXELS
        ),
        [photograph],
        Passes(
            options.scales, options.precision, device=device, threads=threads, loader_threads=0, alone=True
        ),
    )
    row = next(iter(described))[1][None]
    wanted = index.descriptors.shape[1] if index.transform is None else len(index.transform.mean)
    if row.shape[1] != wanted:
        raise UnusableIndex(
            f"the network gives {row.shape[1]} dimensions, the index was made from {wanted}; give the "
            "network that made it"
        )
    return np.asarray(row if index.transform is None else index.transform.apply(row), dtype=np.float32)


def check_box(photograph: Path, box: Box) -> None:
    """Raise UnusableBox unless the box has an area and lies on the upright photograph."""
    height, width = load_photograph(photograph, None, max_megapixels=MOST_MEGAPIXELS).shape[:2]
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        shown = ",".join(f"{value:g}" for value in box)
        raise UnusableBox(
            f"box {shown} on {str(photograph)!r} of {width} x {height} px: give left,top,right,bottom with "
            f"0 <= left < right <= {width} and 0 <= top < bottom <= {height}"
        )


def _description(index: SearchIndex) -> ExtractionOptions:
    try:
        return ExtractionOptions.model_validate(index.about.get("description", {}))
    except ValidationError as error:
        raise UnusableIndex(
            f"the index says of its photographs {index.about.get('description')!r}, which this version does "
            "not know; build it again with `retrieval-sfm index`"
        ) from error
