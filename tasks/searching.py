"""A collection made searchable: its descriptors, by one network, as an index."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval import indexing
from retrieval.indexing import IndexingOptions
from sfm.catalogue import read_catalogue
from storage.artifacts import ArtifactRef
from storage.digests import json_sha256
from storage.store import Store
from tasks.caching import artifact_path, publish, running, stage_task
from tasks.chunks import descriptor_rows, file_of_items, items_input

ROWS_PER_BLOCK = 10_000


def index_inputs(
    store: Store, catalogue: ArtifactRef, descriptors: list[ArtifactRef], network: str
) -> list[str]:
    """Digests of what an index depends on: names, contents, descriptors, the network's digest."""
    found = read_catalogue(store.path(catalogue))
    named = json_sha256([list(found.names), list(found.shas)])
    return [named, items_input(store, descriptors, found.shas), network]


@stage_task(indexing.STAGE, labels=("catalogue", "descriptors", "network"))
def build_search_index(
    store: str,
    options: IndexingOptions,
    inputs: list[str],
    catalogue: ArtifactRef,
    descriptors: list[ArtifactRef],
    network: str,
) -> ArtifactRef:
    """The index of a catalogue's usable photographs (network: content digest; inputs: `index_inputs`)."""
    opened = running().store
    found = read_catalogue(artifact_path(catalogue))
    files = file_of_items(opened, descriptors)

    def blocks() -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(found.shas), ROWS_PER_BLOCK):
            yield descriptor_rows(files, found.shas[start : start + ROWS_PER_BLOCK])

    def build(out: Path) -> dict[str, Any]:
        facts = indexing.build_index(
            blocks, found.names, found.shas, options, out=out, network=network, inputs=running().inputs
        )
        return {"sidecar": facts}

    return publish(build)
