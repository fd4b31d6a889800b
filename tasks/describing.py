"""Networks as artifacts, and global descriptors of photographs in chunks."""

from pathlib import Path
from typing import Any

from retrieval import extraction, network_options
from retrieval.extraction import ExtractionOptions, ExtractionResources
from retrieval.finetuning import NETWORK_FILE
from retrieval.network_options import NetworkOptions
from storage.artifacts import ArtifactRef
from storage.store import Store
from tasks.caching import artifact_path, publish, running, stage_task
from tasks.photographs import photo_source
from tasks.progress import reporter
from tasks.slots import holding
from tasks.torch_process import with_torch


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
        lambda out: {"sidecar": with_torch("retrieval.network_options:make_network", options, out=out)}
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
    see tasks.slots)."""
    source = photo_source(running().store, photos)
    names = {entry.sha256: entry.name for entry in source.table.entries if entry.status == "ok"}
    report = reporter("descriptors")

    def build(out: Path) -> Any:
        return with_torch(
            "retrieval.extraction:extract_chunk",
            network_file(artifact_path(network)),
            [(sha, source.path(names[sha])) for sha in items],
            options,
            out=out,
            input_digests=dict.fromkeys(items, digest),
            resources=resources,
            on_news=lambda done, total: report(done, total, "photographs"),
        )

    return publish(holding(slot, build))
