"""A collection's descriptors, block by block, as a search index: a stage. Light: faiss is imported later."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.describe.options import STAGE as EXTRACTION
from retrieval.describe.rows import Files, row_blocks
from retrieval.nearest.expansion import database_augmentation
from retrieval.nearest.topk import InvalidDescriptors
from retrieval.search.index import SearchIndex
from retrieval.search.options import IndexingOptions
from retrieval.whitening.whitening import Whitening
from storage.files.scratch import scratch_rows
from storage.hdf5.digests import cached_content_sha256
from storage.keys.stages import Stage

logger = logging.getLogger(__name__)
ROWS_PER_BLOCK = 10_000

Blocks = Callable[[], Iterable[NDArray[np.float32]]]
"""Gives the rows of a collection, from the first to the last."""

STAGE = Stage(
    name="search_index",
    schema_name="search_index",
    suffix=".h5",
    packages=("faiss-cpu", "scipy", *EXTRACTION.packages),
    code=__name__,
)


def index_files(
    files: Files,
    names: Sequence[str],
    sha256: Sequence[str],
    options: IndexingOptions,
    *,
    out: Path,
    network: str,
    inputs: Sequence[str],
) -> dict[str, Any]:
    """`build_index` of the photographs' descriptors in files."""
    blocks = row_blocks(files, sha256, ROWS_PER_BLOCK)
    return build_index(blocks, names, sha256, options, out=out, network=network, inputs=inputs)


def build_index(
    blocks: Blocks,
    names: Sequence[str],
    sha256: Sequence[str],
    options: IndexingOptions,
    *,
    out: Path,
    network: str,
    inputs: Sequence[str] = (),
) -> dict[str, Any]:
    """Whiten, augment and index the rows of a collection; writes `out` in the layout `search_index`.

    blocks: the N rows; names, sha256: of the photographs [N]; network: content digest. Rows lie in a
    temporary file beside `out` while this works, so that a collection may be more than memory. Returns facts
    for the log. Raises InvalidDescriptors, ValueError.
    """
    started = perf_counter()
    transform = _transform(options)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f"{out.name}-rows-") as folder:
        rows = _gathered(blocks, len(names), transform, Path(folder) / "rows")
        if options.augmentation_neighbours:
            rows = _augmented(rows, options, Path(folder) / "augmented")
        index = SearchIndex.build(
            rows,
            names,
            network=network,
            whitening=cached_content_sha256(options.whitening) if options.whitening else "",
            sha256=sha256,
            options=options.index,
            transform=transform,
            about=_about(options),
        )
        index.save(out, inputs=inputs)
    logger.info(
        "%s index of %d photographs, recall %s, %.1f s",
        options.index.kind, len(names), dict(index.recall), perf_counter() - started,
    )  # fmt: skip
    return {"recall": {str(depth): value for depth, value in index.recall.items()}}


def _transform(options: IndexingOptions) -> Whitening | None:
    if options.whitening is None:
        return None
    whole = Whitening.from_outside(options.whitening)
    weight, _ = whole.as_linear(options.dimensions)
    return Whitening(whole.mean, weight)


def _about(options: IndexingOptions) -> Mapping[str, Any]:
    """What a query needs to be described alike, and what was done to the rows."""
    facts = options.model_dump(mode="json", include={"description", "dimensions"})
    if options.augmentation_neighbours:
        facts["augmentation"] = [options.augmentation_neighbours, options.augmentation_alpha]
    return facts


def _gathered(blocks: Blocks, num_rows: int, transform: Whitening | None, file: Path) -> NDArray[np.float32]:
    """The rows, whitened, in a file that is mapped."""
    rows: NDArray[np.float32] | None = None
    start = 0
    for block in blocks():
        block = np.asarray(block if transform is None else transform.apply(block), dtype=np.float32)
        if rows is None:
            rows = scratch_rows(file, (num_rows, block.shape[1]))
        rows[start : start + len(block)] = block
        start += len(block)
    if rows is None or start != num_rows:
        raise InvalidDescriptors(f"{start} descriptors for {num_rows} photographs; describe all of them")
    return rows


def _augmented(rows: NDArray[np.float32], options: IndexingOptions, file: Path) -> NDArray[np.float32]:
    out = scratch_rows(file, (len(rows), rows.shape[1]))
    count = min(options.augmentation_neighbours, len(rows))
    database_augmentation(rows, count, options.augmentation_alpha, out=out)
    return out
