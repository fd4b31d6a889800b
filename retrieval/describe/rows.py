"""Descriptors that were made in chunks, as rows. Files: item (sha256 of a photograph, or an id) -> file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.hdf5 import file as hdf5

Files = Mapping[str, Path]
ROWS_PER_BLOCK = 20_000
CACHED_BYTES = 1 << 30
"""Descriptors of a database up to this size stay in memory between passes over it."""


def descriptor_rows(files: Files, items: Sequence[str]) -> NDArray[np.float32]:
    """[N, D] float32: global descriptor of each item, zeros where it has none."""
    by_file: dict[Path, list[int]] = {}
    for row, item in enumerate(items):
        if item in files:
            by_file.setdefault(files[item], []).append(row)
    rows: NDArray[np.float32] | None = None
    for file, positions in by_file.items():
        found = hdf5.read_items(file, [items[position] for position in positions], ["global_descriptor"])
        for position, (_, arrays) in zip(positions, found, strict=True):
            if rows is None:
                rows = np.zeros((len(items), len(arrays["global_descriptor"])), np.float32)
            rows[position] = arrays["global_descriptor"]
    return np.zeros((len(items), 1), np.float32) if rows is None else rows


def images_of(training_set: Path) -> list[str]:
    """sha256 of a training set's images."""
    column = hdf5.read(training_set, "training_set", ["images/sha256"])["images/sha256"]
    return [str(sha) for sha in column.astype(str)]


def training_rows(training_set: Path, files: Files) -> NDArray[np.float32]:
    """[N, D] float32: descriptors in the order of a training set's images."""
    return descriptor_rows(files, images_of(training_set))


def row_blocks(
    files: Files, items: Sequence[str], step: int = ROWS_PER_BLOCK, *, cached_bytes: int = 0
) -> Callable[[], Iterator[NDArray[np.float32]]]:
    """Rows of items in blocks of `step`, as often as it is called; read once where they fit cached_bytes."""
    kept: dict[int, NDArray[np.float32]] = {}

    def blocks() -> Iterator[NDArray[np.float32]]:
        held = sum(rows.nbytes for rows in kept.values())
        for start in range(0, len(items), step):
            rows = kept.get(start)
            if rows is None:
                rows = descriptor_rows(files, items[start : start + step])
                if held + rows.nbytes <= cached_bytes:
                    kept[start] = rows
                    held += rows.nbytes
            yield rows

    return blocks
