"""A collection made searchable: its descriptors, by one network, as an index."""

from pathlib import Path
from typing import Any

from retrieval.search import stage
from retrieval.search.stage import IndexingOptions
from sfm.photographs.catalogue import read_catalogue
from storage.files.digests import json_sha256
from storage.keys.artifacts import ArtifactRef
from storage.store.store import Store
from tasks.engine.caching import artifact_path, publish, running, stage_task
from tasks.engine.chunks import file_of_items, items_input


def index_inputs(
    store: Store, catalogue: ArtifactRef, descriptors: list[ArtifactRef], network: str
) -> list[str]:
    """Digests of what an index depends on: names, contents, descriptors, the network's digest."""
    found = read_catalogue(store.path(catalogue))
    named = json_sha256([list(found.names), list(found.shas)])
    return [named, items_input(store, descriptors, found.shas), network]


@stage_task(stage.STAGE, labels=("catalogue", "descriptors", "network"))
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

    def build(out: Path) -> dict[str, Any]:
        facts = stage.index_files(
            files, found.names, found.shas, options, out=out, network=network, inputs=running().inputs
        )
        return {"sidecar": facts}

    return publish(build)
