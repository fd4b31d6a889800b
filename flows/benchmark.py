"""An official benchmark: describe its images with anybody's network, or take somebody's ranks, and score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.options.forms import Help, ResourcesField, StoreField
from flows.options.pipeline import PipelineResources
from flows.run.background import harmless
from flows.run.networks import chosen_network
from flows.run.record import recorded, started
from report.tables.benchmark import read_result, table_rows
from retrieval.official import description
from retrieval.official.distractors import distractor_images
from retrieval.official.readers.common import BenchmarkImage
from retrieval.official.registry import read_benchmark
from retrieval.official.scoring import BenchmarkOptions
from storage.files.digests import json_sha256
from storage.keys.artifacts import ArtifactRef
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tasks.benchmarking import Shard, describe_images, score_benchmark, shards, write_listing
from tasks.describing import network_digest
from tasks.engine.chunks import Items, Known, Part, chunks_of
from tasks.engine.runtime import fan_out

MAX_CHUNKS = 500
"""Extraction tasks of one shard, at most: larger shards have larger chunks."""


@flow(name="benchmark", persist_result=False)
def benchmark(
    store: StoreField,
    data: Annotated[str, Help("folder with the official files and images")],
    options: BenchmarkOptions,
    network: Annotated[str | None, Help("a file, or a run of this store; none: off the shelf")] = None,
    distractors: Annotated[str | None, Help("folder of distractor images")] = None,
    resources: ResourcesField = None,
) -> RunRecord:
    """Measure a network on an official benchmark, or score ranks; the store keeps every descriptor.

    data: folder with the official files; network: a file, or a run of this store (its fine-tuned network);
    none: off the shelf. Raises MissingBenchmarkFile and other ValueErrors.
    """
    opened = Store.create(store)
    used = resources or PipelineResources()
    record = started(opened, options.benchmark, options, used, kind="benchmark")
    with recorded(opened, record.id):
        refs = _measured(opened, Path(data), options, network, distractors, used)
        ledger.save(opened, record.with_refs(refs))
    record = ledger.load(opened, record.id)
    with harmless("table of results"):
        (result,) = record.refs_of("benchmark")
        create_table_artifact(
            key=f"benchmark-{options.benchmark}".replace("_", "-"),
            table=table_rows(read_result(opened.path(result))),
            description=f"{options.benchmark}, in %",
        )
    return record


def _measured(
    store: Store,
    data: Path,
    options: BenchmarkOptions,
    network: str | None,
    distractors: str | None,
    resources: PipelineResources,
) -> dict[str, Any]:
    """The artifacts of a measurement, by name."""
    found = read_benchmark(options.benchmark, data, options.protocol, images=options.ranks is None)
    common = {"store": str(store.root), "options": options, "data": Known(str(data), [found.digest])}
    if options.ranks is not None:
        facts = shown_as({}, ranks=options.ranks.name)
        nothing = {"listing": Known("", []), "descriptors": Part([], [])}
        return {"benchmark": score_benchmark(**common, **nothing, facts=facts)}
    weights, name = chosen_network(store, network)
    described = Described(store, weights, options, resources)
    items = described.add(found.root, [*found.queries, *found.database])
    others = [] if distractors is None else distractor_images(Path(distractors), found)
    more = described.add(Path(distractors or data), others)
    behind = {"items": more, "names": [image.file for image in others]}
    queries = len(found.queries)
    refs = list(described.refs.values())
    names = {"network": name, "whitening": options.whitening.name if options.whitening else "raw"}
    scored = score_benchmark(
        **common,
        listing=write_listing(store, items[:queries], items[queries:], behind),
        descriptors=Items(refs, sorted({*items, *more})),
        facts=shown_as(names, **names),
    )
    return {"evaluated_network": weights, "benchmark_descriptors": refs, "benchmark": scored}


def shown_as(facts: dict[str, str], **names: str) -> Known:
    """Facts with the digest of the names in a result: the same weights under another name are another line of
    a table."""
    return Known(facts, [json_sha256(names)])


@dataclass
class Described:
    """Images as one network describes them. refs: the chunks that hold their descriptors, by path."""

    store: Store
    network: ArtifactRef
    options: BenchmarkOptions
    resources: PipelineResources
    refs: dict[str, ArtifactRef] = field(default_factory=dict)

    def add(self, root: Path, images: Sequence[BenchmarkImage]) -> list[str]:
        """Describe more images, of files below a folder; their items in order."""
        digest = network_digest(self.store, self.network)
        items: list[str] = []
        for shard in shards(self.store, root, images):
            self._describe(shard, root, shard.wanted(digest))
            items += shard.items
        return items

    def _describe(self, shard: Shard, root: Path, wanted: Mapping[str, str]) -> None:
        image_of = dict(zip(shard.items, shard.images, strict=True))
        size = max(self.resources.photographs_per_task, -(-len(wanted) // MAX_CHUNKS))
        calls = []
        for chunk in chunks_of(self.store, description.STAGE, self.options.description, wanted, size):
            mine = [image_of.get(item) for item in chunk.made_from]
            images = [(image.file, image.box) if image else ("", None) for image in mine]
            calls.append({"chunk": replace(chunk, refs=[self.network]), "images": images})
        refs = fan_out(
            describe_images,
            calls,
            workers=1,
            store=str(self.store.root),
            options=self.options.description,
            root=str(root),
            table=str(shard.table),
            resources=self.resources.extraction(),
        )
        self.refs |= {ref.path: ref for ref in refs}
