"""Networks as artifacts, and global descriptors of photographs in chunks."""

from pathlib import Path
from typing import Any

from retrieval.describe import altered, harder_queries
from retrieval.describe import options as extraction
from retrieval.describe.harder_queries import NEEDED, SPLITS, AlteredQuery
from retrieval.describe.options import ExtractionOptions, ExtractionResources
from retrieval.networks import options as network_options
from retrieval.networks.options import NetworkOptions
from retrieval.training.options import NETWORK_FILE
from storage.hdf5.open import open_artifact
from storage.keys.artifacts import ArtifactRef
from storage.store.store import Store
from tasks.engine.caching import artifact_path, running, stage_task
from tasks.engine.chunks import Chunk
from tasks.engine.progress import reporter
from tasks.engine.slots import held
from tasks.engine.torch_process import with_torch
from tasks.photographs import files_of


def network_file(path: Path) -> Path:
    """The weights of a network artifact: the file itself, or the one in a training's folder."""
    return path / NETWORK_FILE if path.is_dir() else path


def network_digest(store: Store, network: ArtifactRef) -> str:
    """Content digest of a network artifact's weights alone: what descriptors depend on."""
    if store.path(network).is_dir():
        return store.member_digest(network, NETWORK_FILE)
    return network.content_sha256


@stage_task(network_options.STAGE)
def make_network(out: Path, options: NetworkOptions) -> dict[str, Any]:
    """The network of the options, before any training."""
    return {"sidecar": with_torch("retrieval.networks.make:make_network", options, out=out)}


@stage_task(extraction.STAGE, labels=("photos", "slot"))
def describe_photographs(
    out: Path,
    options: ExtractionOptions,
    chunk: Chunk,
    photos: str,
    resources: ExtractionResources | None = None,
    slot: str | None = None,
) -> Any:
    """Global descriptors of a chunk of photographs (sha256) by a network (slot: see tasks.engine.slots)."""
    (network,) = chunk.refs
    report = reporter("descriptors")
    with held(slot):
        return with_torch(
            "retrieval.describe.chunk:extract_chunk",
            network_file(artifact_path(network)),
            files_of(running().store, photos, chunk.made_from),
            options,
            out=out,
            input_digests=chunk.made_from,
            resources=resources,
            on_news=lambda done, total: report(done, total, "photographs"),
        )


def altered_queries(store: Store, training_set: ArtifactRef) -> list[AlteredQuery]:
    """The queries of val and test that are described altered, in order; none where no 3D model says what they
    show."""
    with open_artifact(store.path(training_set), "training_set") as file:
        arrays = {path: file[path] for path in NEEDED if path in file}
    return [query for split in SPLITS for _, _, query in harder_queries.altered_queries(arrays, split)]


@stage_task(altered.STAGE, labels=("queries", "photos", "slot"))
def describe_altered(
    out: Path,
    options: ExtractionOptions,
    chunk: Chunk,
    queries: list[AlteredQuery],
    photos: str,
    resources: ExtractionResources | None = None,
    slot: str | None = None,
) -> Any:
    """Global descriptors of a chunk of altered photographs by a network (queries: those of the chunk's
    items, in order; slot: see tasks.engine.slots)."""
    (network,) = chunk.refs
    report = reporter("descriptors")
    files = dict(files_of(running().store, photos, {query.sha256 for query in queries}))
    with held(slot):
        return with_torch(
            "retrieval.describe.altered:describe_chunk",
            network_file(artifact_path(network)),
            [(query.item, files[query.sha256], query.change, query.box) for query in queries],
            options,
            out=out,
            input_digests=chunk.made_from,
            resources=resources,
            on_news=lambda done, total: report(done, total, "altered photographs"),
        )
