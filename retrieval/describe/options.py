"""Global descriptors of photographs as a stage, in chunks. Light: torch is imported by the step only."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from retrieval.networks.options import STAGE as NETWORK
from storage.keys.options import Options, Resources
from storage.keys.stages import Stage

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the whole photograph."""
Precision = Literal["float32", "bfloat16"]
SINGLE_SCALE = (1.0,)
PAPER_SCALES = (1.0, 2**-0.5, 0.5)  # networks that are whitened afterwards
PAPER_SCALES_UP = (1.0, 2**0.5, 2**-0.5)  # networks with a whitening layer


class ExtractionOptions(Options):
    """How a network describes a photograph."""

    image_size: int = Field(480, ge=32, description="longer side of the photograph in px; never enlarged")
    scales: tuple[float, ...] = Field(
        SINGLE_SCALE, description="factors of that size; several descriptors become one by a generalised mean"
    )
    precision: Precision = Field(
        "float32", description="arithmetic inside the trunk; bfloat16 is faster where supported"
    )
    draft: bool = Field(False, description="let the JPEG decoder skip resolution that is not needed")

    @field_validator("scales")
    @classmethod
    def _some_positive_scales(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if not scales or min(scales) <= 0 or len(set(scales)) < len(scales):
            raise ValueError(
                f"scales {scales}: give at least one, each positive and once, such as 1, 0.7071, 0.5"
            )
        return scales


class ExtractionResources(Resources):
    """What an extraction may use; no influence on the result, on a GPU beyond rounding."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    threads: int | None = Field(
        None, ge=1, description="photographs described at a time on a CPU; None: one per thread of torch"
    )
    batch_size: int = Field(
        8, ge=1, description="photographs of equal size per forward pass on a GPU; a CPU takes one"
    )
    loader_threads: int = Field(1, ge=0, description="threads that decode ahead; 0: decode in between")


STAGE = Stage(
    name="descriptors",
    schema_name="descriptors",
    suffix=".h5",
    packages=(*NETWORK.packages, "pillow", "pillow-heif"),
    code="retrieval.describe.chunk",
)
