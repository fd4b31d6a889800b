"""Official benchmarks: anybody's network, descriptors of a benchmark's images, its score."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from retrieval.describe.options import ExtractionOptions, ExtractionResources
from retrieval.networks import importing
from retrieval.networks.importing import NetworkImportOptions
from retrieval.official import description, scoring
from retrieval.official.readers.common import BenchmarkImage, Box, MissingBenchmarkFile
from retrieval.official.registry import read_benchmark
from retrieval.official.scoring import BenchmarkOptions, DescribedBenchmark
from storage.files.digests import json_sha256
from storage.files.whole import read_json, write_json
from storage.photographs.scanning import PhotoSource, scan_names
from storage.photographs.tables import load_scan
from storage.store.store import Store
from tasks.describing import network_file
from tasks.engine.caching import artifact_path, running, stage_task
from tasks.engine.chunks import Chunk, Items, Known, Part, file_of_items
from tasks.engine.progress import reporter

SHARD = 20_000
"""Images that are listed, digested and planned at a time, so that a million of them need no more memory."""


@dataclass(frozen=True)
class Shard:
    """Some images of a benchmark: table: file with the digest of each; items: their ids in order."""

    table: Path
    images: tuple[BenchmarkImage, ...]
    sha256: tuple[str, ...]

    @property
    def items(self) -> list[str]:
        pairs = zip(self.sha256, self.images, strict=True)
        return [description.item_of(sha, image.box) for sha, image in pairs]

    def wanted(self, network: str) -> dict[str, str]:
        """Item -> digest of what it is made from."""
        pairs = list(zip(self.sha256, self.images, strict=True))
        inputs = (description.input_of(sha, image.box, network) for sha, image in pairs)
        return dict(zip(self.items, inputs, strict=True))


def shards(store: Store, root: Path, images: Sequence[BenchmarkImage]) -> Iterator[Shard]:
    """The images, SHARD at a time, each with its digest; only new or touched files are read.

    Raises MissingBenchmarkFile for one that cannot be read.
    """
    report = reporter("digests")
    for start in range(0, len(images), SHARD):
        part = tuple(images[start : start + SHARD])
        names = list(dict.fromkeys(image.file for image in part))
        key = json_sha256([str(root.resolve()), start, names[0], names[-1], len(names)])
        path = store.root / "scans" / f"benchmark-{key[:16]}.json"
        table = scan_names(root, names, path, lambda done, total: report(done, total, "files"))
        found = {entry.name: entry for entry in table.entries}
        for name in names:
            if name not in found or found[name].status != "ok":
                why = found[name].reason if name in found else "its name is not UTF-8"
                raise MissingBenchmarkFile(f"'{root / name}' cannot be read: {why}")
        yield Shard(path, part, tuple(found[image.file].sha256 for image in part))


@stage_task(importing.STAGE)
def import_network(out: Path, options: NetworkImportOptions) -> dict[str, Any]:
    """A network file as an artifact."""
    return {"sidecar": importing.import_network(options, out=out)}


@stage_task(description.STAGE, labels=("images", "root", "table"))
def describe_images(
    out: Path,
    options: ExtractionOptions,
    chunk: Chunk,
    images: list[tuple[str, Box | None]],
    root: str,
    table: str,
    resources: ExtractionResources | None = None,
) -> dict[str, Any]:
    """Descriptors of a chunk of images by a network (images: file below root, and box, of each item)."""
    (network,) = chunk.refs
    source = PhotoSource(Path(root), _scan(table, Path(table).stat().st_mtime_ns))
    report = reporter("descriptors")
    return description.describe_chunk(
        network_file(artifact_path(network)),
        [(item, source.path(file), box) for item, (file, box) in zip(chunk.made_from, images, strict=True)],
        options,
        out=out,
        input_digests=chunk.made_from,
        resources=resources,
        progress=lambda done, total: report(done, total, "images"),
    )


@lru_cache(maxsize=2)
def _scan(table: str, mtime_ns: int) -> Any:
    return load_scan(Path(table))


@stage_task(scoring.STAGE)
def score_benchmark(
    out: Path, options: BenchmarkOptions, data: Known, listing: Known, descriptors: Items | Part, facts: Known
) -> None:
    """A benchmark's score. data: its folder; listing: file with the items in order, none where ranks are
    scored; facts: what the result says of itself."""
    call = running()
    benchmark = read_benchmark(
        options.benchmark, Path(data.value), options.protocol, images=options.ranks is None
    )
    common: dict[str, Any] = {"out": out, "inputs": call.inputs, "attributes": facts.value}
    if options.ranks is not None:
        scoring.score_ranks(benchmark, options, **common)
    else:
        files, items = file_of_items(call.store, descriptors.refs), read_json(Path(listing.value))
        described = DescribedBenchmark.of(files, items, benchmark.database_frames)
        scoring.score_descriptors(benchmark, described, options, **common)


def write_listing(
    store: Store, queries: Sequence[str], database: Sequence[str], distractors: dict[str, list[str]]
) -> Known:
    """Items of queries, database and distractors in order, in a file of the store.

    distractors: names and items.
    """
    content = {"queries": list(queries), "database": list(database), **distractors}
    digest = json_sha256(content)
    path = store.root / "scans" / f"listing-{digest[:16]}.json"
    write_json(path, content)
    return Known(str(path), [digest])
