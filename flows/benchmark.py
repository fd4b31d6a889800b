"""An official benchmark: describe its images with anybody's network, or take somebody's ranks, and score."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.aside import harmless
from flows.forms import Help, ResourcesField, StoreField
from flows.networks import chosen_network
from flows.options import PipelineResources
from flows.work import recorded
from retrieval.benchmarks import description
from retrieval.benchmarks.common import Benchmark
from retrieval.benchmarks.distractors import distractor_images
from retrieval.benchmarks.registry import read_benchmark
from retrieval.benchmarks.report import read_result, table_rows
from retrieval.benchmarks.scoring import BenchmarkOptions
from storage import runs
from storage.artifacts import ArtifactRef
from storage.digests import json_sha256
from storage.runs import RunRecord
from storage.store import Store
from tasks.benchmarking import Shard, describe_images, score_benchmark, shards, write_listing
from tasks.chunks import chunk_calls, items_input
from tasks.describing import network_digest
from tasks.runtime import fan_out

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
    record = runs.start(
        opened,
        options.benchmark,
        options=options.model_dump(mode="json"),
        resources=used.model_dump(mode="json"),
        kind="benchmark",
    )
    with recorded(opened, record.id):
        refs = _measured(opened, Path(data), options, network, distractors, used)
        runs.save(opened, record.with_refs(refs))
    record = runs.load(opened, record.id)
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
    common = {"store": str(store.root), "options": options, "data": str(data)}
    if options.ranks is not None:
        inputs = [found.digest, shown_as(ranks=options.ranks.name)]
        return {"benchmark": score_benchmark(**common, inputs=inputs, listing="", descriptors=[], facts={})}
    weights, name = chosen_network(store, network)
    digest = network_digest(store, weights)
    own = [_describe(store, shard, found.root, weights, digest, options, resources)
           for shard in shards(store, found.root, [*found.queries, *found.database])]  # fmt: skip
    refs = [ref for part, _ in own for ref in part]
    items = [item for _, part in own for item in part]
    more, names = _distractors(store, distractors, found, weights, digest, options, resources, refs)
    listing, listed = write_listing(
        store, items[: len(found.queries)], items[len(found.queries) :], {"items": more, "names": names}
    )
    refs = list({ref.path: ref for ref in refs}.values())
    facts = {"network": name, "whitening": options.whitening.name if options.whitening else "raw"}
    inputs = [found.digest, listed, items_input(store, refs, sorted({*items, *more})), shown_as(**facts)]
    scored = score_benchmark(
        **common,
        inputs=inputs,
        listing=str(listing),
        descriptors=refs,
        facts=facts,
    )
    return {"evaluated_network": weights, "benchmark_descriptors": refs, "benchmark": scored}


def shown_as(**names: str) -> str:
    """Digest of the names in a result: the same weights under another name are another line of a table."""
    return json_sha256(names)


def _distractors(
    store: Store,
    folder: str | None,
    found: Benchmark,
    weights: ArtifactRef,
    digest: str,
    options: BenchmarkOptions,
    resources: PipelineResources,
    refs: list[ArtifactRef],
) -> tuple[list[str], list[str]]:
    """(items, names) of the distractors; the chunks that hold them are added to refs."""
    if folder is None:
        return [], []
    images = distractor_images(Path(folder), found)
    items: list[str] = []
    for shard in shards(store, Path(folder), images):
        part, ids = _describe(store, shard, Path(folder), weights, digest, options, resources)
        refs += part
        items += ids
    return items, [image.file for image in images]


def _describe(
    store: Store,
    shard: Shard,
    root: Path,
    weights: ArtifactRef,
    digest: str,
    options: BenchmarkOptions,
    resources: PipelineResources,
) -> tuple[list[ArtifactRef], list[str]]:
    """The chunks that hold a shard's descriptors, and its items in order."""
    wanted, items = shard.wanted(digest), shard.items
    image_of = dict(zip(items, shard.images, strict=True))
    size = max(resources.photographs_per_task, -(-len(wanted) // MAX_CHUNKS))
    calls = chunk_calls(store, description.STAGE, options.description, wanted, size)
    for call in calls:
        mine = [image_of.get(item) for item in call["items"]]
        call["names"] = [image.file if image else "" for image in mine]
        call["boxes"] = [image.box if image else None for image in mine]
        call["input_digests"] = {item: wanted.get(item, "") for item in call["items"]}
    refs = fan_out(
        describe_images,
        calls,
        workers=1,
        store=str(store.root),
        options=options.description,
        root=str(root),
        table=str(shard.table),
        network=weights,
        resources=resources.extraction(),
    )
    return refs, items
