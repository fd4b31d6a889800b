"""Layout of what a collection is searched with."""

from __future__ import annotations

from storage.schemas import Dataset, Layout

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
)

LAYOUTS = (SEARCH_INDEX,)
