"""How a collection is described and indexed. Light: faiss and torch are imported by the step only."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from retrieval.describe.options import ExtractionOptions
from retrieval.whitening.methods import dimensions_of_a_whitening
from storage.keys.options import ContentPath, Options

Kind = Literal["exact", "ivf_pq", "hnsw"]


class IndexOptions(Options):
    """The kind of an index and its trade of memory and time against recall."""

    kind: Kind = Field(
        "exact",
        description="exact: every descriptor is compared, from the disk; ivf_pq: short codes in memory, for "
        "millions; hnsw: a graph over the descriptors in memory, the quickest",
    )
    lists: int | None = Field(
        None, ge=1, description="ivf_pq: cells of the coarse quantiser; none: 4 times the root of the rows"
    )
    probes: int | None = Field(
        None, ge=1, description="ivf_pq: cells that a query visits; none: as many as wanted_recall takes"
    )
    wanted_recall: float = Field(
        0.97, gt=0, le=1, description="ivf_pq: share of the exact first 10 among the first 100, at least"
    )
    code_bytes: int = Field(64, ge=1, le=1024, description="ivf_pq: bytes of a descriptor's code")
    reduced: int = Field(
        256, ge=1, description="ivf_pq: dimensions (of largest second moment) that are coded, at most"
    )
    rerank: int = Field(
        200,
        ge=0,
        description="ivf_pq: first candidates that are compared anew with descriptors from the disk; 0: none",
    )
    links: int = Field(32, ge=2, le=256, description="hnsw: neighbours of a node")
    build_effort: int = Field(128, ge=1, description="hnsw: candidates held while a node is placed")
    search_effort: int = Field(128, ge=1, description="hnsw: candidates held while a query is answered")
    training_sample: int = Field(
        131_072, ge=256, description="ivf_pq: descriptors that the quantisers are learnt from, at most"
    )
    recall_queries: int = Field(
        100, ge=1, description="descriptors drawn as queries to measure the recall; they train nothing"
    )
    seed: int = Field(0, ge=0, description="of the draws and of k-means")


class IndexingOptions(Options):
    """How a collection is described and made searchable."""

    description: ExtractionOptions = Field(ExtractionOptions(), description="how photographs are described")
    whitening: ContentPath | None = Field(
        None, description="whitening.h5 of the network; none: raw descriptors"
    )
    dimensions: int | None = Field(None, ge=1, description="of the whitened descriptor; none: all")
    augmentation_neighbours: int = Field(
        0, ge=0, description="photographs that augment each one's descriptor; 0: none"
    )
    augmentation_alpha: float = Field(3.0, ge=0, description="exponent of the similarity that weighs them")
    index: IndexOptions = Field(IndexOptions(), description="kind and settings of the index")

    _ordered = model_validator(mode="after")(dimensions_of_a_whitening)
