"""What is measured on an official benchmark, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from retrieval.describe.options import ExtractionOptions
from retrieval.nearest.expansion import Reranking
from retrieval.official.readers.common import ProtocolOptions
from retrieval.official.registry import BenchmarkName
from retrieval.whitening.methods import dimensions_of_a_whitening
from storage.keys.options import ContentPath, Options


class BenchmarkOptions(Options):
    """One line of a table: which benchmark, how its images are described, what is done to descriptors."""

    benchmark: BenchmarkName = Field(description="name of the benchmark")
    protocol: ProtocolOptions = Field(ProtocolOptions(), description="what the benchmark leaves open")
    description: ExtractionOptions = Field(
        ExtractionOptions(image_size=1024), description="how images are described"
    )
    whitening: ContentPath | None = Field(
        None, description="whitening.h5, or a published .pth that holds one; none: raw descriptors"
    )
    dimensions: int | None = Field(None, ge=1, description="of the whitened descriptor; none: all")
    expansion_neighbours: int = Field(0, ge=0, description="images that expand a query; 0: no expansion")
    expansion_alpha: float = Field(3.0, ge=0, description="exponent of the similarity that weighs them")
    reranking: Reranking | None = Field(
        None, description="how the first images of each list are put in another order; none: not at all"
    )
    ranks: ContentPath | None = Field(None, description="score these ranks; nothing is described then")
    depth: int = Field(100, ge=1, description="images of each list that are stored")

    _ordered = model_validator(mode="after")(dimensions_of_a_whitening)

    @property
    def expansion(self) -> str:
        """In the table: empty for none."""
        return expansion_text(self.model_dump())


def expansion_text(settings: Mapping[str, Any]) -> str:
    """What a table says of expansion and re-ranking, from the dumped options: empty for none."""
    count, order = settings["expansion_neighbours"], settings.get("reranking")
    parts = [f"alpha={settings['expansion_alpha']:g}, k={count}"] if count else []
    parts += [Reranking(**order).text] if order else []
    return "; ".join(parts)
