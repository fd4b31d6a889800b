"""Descriptors of a chunk of photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
from retrieval.describe.options import STAGE, ExtractionOptions, ExtractionResources


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
    from retrieval.describe.describe import photograph_loader

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
    from retrieval.describe.describe import Passes, iterate_descriptors
    from retrieval.networks.network import load_network
    from storage.hdf5.file import ItemWriter

    passes = Passes.of(options, resources)
    described = iterate_descriptors(load_network(network), load, [each for _, each in sources], passes)
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
