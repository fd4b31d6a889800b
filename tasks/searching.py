"""A collection made searchable: its descriptors, by one network, as an index."""

from pathlib import Path
from typing import Any

from retrieval.search import stage
from retrieval.search.stage import IndexingOptions
from sfm.photographs.catalogue import read_catalogue
from storage.files.digests import json_sha256
from storage.keys.artifacts import ArtifactRef
from storage.store.store import Store
from tasks.engine.caching import artifact_path, running, stage_task
from tasks.engine.chunks import Items, Known, Part, file_of_items


def catalogued(store: Store, catalogue: ArtifactRef) -> Part:
    """What an index depends on in a catalogue: names and contents."""
    found = read_catalogue(store.path(catalogue))
    return Part([catalogue], [json_sha256([list(found.names), list(found.shas)])])


@stage_task(stage.STAGE)
def build_search_index(
    out: Path, options: IndexingOptions, catalogue: Part, descriptors: Items, network: Known
) -> dict[str, Any]:
    """The index of a catalogue's usable photographs (catalogue: see `catalogued`; network: digest)."""
    (listed,) = catalogue.refs
    found, call = read_catalogue(artifact_path(listed)), running()
    files = file_of_items(call.store, descriptors.refs)
    facts = stage.index_files(
        files, found.names, found.shas, options, out=out, network=network.value, inputs=call.inputs
    )
    return {"sidecar": facts}
