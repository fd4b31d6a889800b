"""Networks as artifacts, and global descriptors of photographs in chunks."""

from pathlib import Path
from typing import Any

from retrieval.describe import options as extraction
from retrieval.describe.options import ExtractionOptions, ExtractionResources
from retrieval.networks import options as network_options
from retrieval.networks.options import NetworkOptions
from retrieval.training.options import NETWORK_FILE
from storage.keys.artifacts import ArtifactRef
from storage.store.store import Store
from tasks.engine.caching import artifact_path, publish, running, stage_task
from tasks.engine.progress import reporter
from tasks.engine.slots import holding
from tasks.engine.torch_process import with_torch
from tasks.photographs import photo_source


def network_file(path: Path) -> Path:
    """The weights of a network artifact: the file itself, or the one in a training's folder."""
    return path / NETWORK_FILE if path.is_dir() else path


def network_digest(store: Store, network: ArtifactRef) -> str:
    """Content digest of a network artifact's weights alone: what descriptors depend on."""
    if store.path(network).is_dir():
        return store.member_digest(network, NETWORK_FILE)
    return network.content_sha256


@stage_task(network_options.STAGE)
def make_network(store: str, options: NetworkOptions) -> ArtifactRef:
    """The network of the options, before any training."""
    return publish(
        lambda out: {"sidecar": with_torch("retrieval.networks.make:make_network", options, out=out)}
    )


@stage_task(extraction.STAGE, labels=("items", "network", "photos", "digest", "slot"))
def describe_photographs(
    store: str,
    options: ExtractionOptions,
    inputs: list[str],
    items: list[str],
    network: ArtifactRef,
    digest: str,
    photos: str,
    resources: ExtractionResources | None = None,
    slot: str | None = None,
) -> ArtifactRef:
    """Global descriptors of a chunk of photographs (items: sha256; digest: of the network's weights; slot:
    see tasks.engine.slots)."""
    source = photo_source(running().store, photos)
    names = {entry.sha256: entry.name for entry in source.table.entries if entry.status == "ok"}
    report = reporter("descriptors")

    def build(out: Path) -> Any:
        return with_torch(
            "retrieval.describe.chunk:extract_chunk",
            network_file(artifact_path(network)),
            [(sha, source.path(names[sha])) for sha in items],
            options,
            out=out,
            input_digests=dict.fromkeys(items, digest),
            resources=resources,
            on_news=lambda done, total: report(done, total, "photographs"),
        )

    return publish(holding(slot, build))
