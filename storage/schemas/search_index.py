"""A collection that can be searched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from storage.schemas.layout import Dataset, Layout
from storage.schemas.rules import UNIT_SLACK, Columns, first, rises


def unit_rows(columns: Columns) -> Iterator[tuple[str, str]]:
    """The descriptors of a search index have length 1; read in slices."""
    path = "descriptors"
    if path in columns.broken or path not in columns or (columns.max_rows or np.inf) < columns.rows_of(path):
        return
    for start, block in columns.blocks(path):
        length = np.linalg.norm(block, axis=1)
        at = first(np.abs(length - 1) > UNIT_SLACK)
        if at is not None:
            yield path, f"has length {length[at]:.4g} at [{start + at}]; descriptors are L2-normalised"
            return


SEARCH_INDEX = Layout(
    name="search_index",
    version=1,
    description="Descriptors of a collection, names, and what finds the nearest of them quickly.",
    groups={
        "photos": "one row per photograph",
        "whitening": "what whitens a descriptor of the network: (x - mean) @ projection.T, then L2",
        "recall": "share of the exact first 10 that stand among the first found, over held queries",
    },
    attributes={
        "kind": "exact, ivf_pq or hnsw",
        "network": "content digest of the network",
        "whitening": "content digest of the whitening; empty = none",
        "dimension": "dimensions of a descriptor",
        "about": "JSON: how photographs were described",
        "faiss_sha256": "digest of the dataset faiss; empty = none",
        "descriptors_sha256": "digest of the dataset descriptors",
    },
    datasets=(
        Dataset("photos/name", ("N",), "str", "path below the root of the photographs", unique=True),
        Dataset("photos/sha256", ("N",), "S64", "sha256 of the file's bytes, hexadecimal", optional=True),
        Dataset("descriptors", ("N", "D"), "float32", "one descriptor per photograph", mapped=True),
        Dataset(
            "faiss",
            ("B",),
            "uint8",
            "faiss index without descriptors, serialised",
            optional=True,
            mapped=True,
        ),
        Dataset("whitening/mean", ("W",), "float64", "subtracted first", optional=True),
        Dataset("whitening/projection", ("D", "W"), "float64", "rows = output dimensions", optional=True),
        Dataset("recall/depth", ("T",), "int64", "how many found are looked at", minimum=1),
        Dataset("recall/value", ("T",), "float64", "recall at that depth", minimum=0, maximum=1),
    ),
    rules=(
        unit_rows,
        rises("recall/depth"),
    ),
)


LAYOUTS = (SEARCH_INDEX,)
