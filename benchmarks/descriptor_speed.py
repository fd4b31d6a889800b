"""Extraction, whitening and mining beside the straightforward way: medians of turns in one process.

    python -m benchmarks.descriptor_speed PHOTOS --oracles DIR [--labels labels.csv] [--network resnet101]
        [--only extraction whitening mining] [--rounds 3] [--threads 2] [--cpu-time]

Extraction: photographs per second at 362 and 1024 px (smaller photographs are enlarged first; the fraction of
a second in which the network is folded is counted), and with --labels (columns file, kind, site) the mAP of
both, every other photograph of a query's site being right. Without published weights at hand the network has
random ones: its speed is the same, its mAP that of a random network. Whitening: Lw of 2048-D descriptors with
10,000 pairs. Mining: 2,000 queries, a pool of 22,000, 2048-D, five negatives of different clusters. The plain
way reproduces the oracles first and has the same threads. --cpu-time counts the seconds of the processor in
place of those of the clock, for a machine that others use meanwhile: with --threads 1, as threads that wait
for each other count too; decoding beside the network then counts in full.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks import plain_description, plain_training
from benchmarks.site_labels import average_precisions
from retrieval.describe.describe import extract
from retrieval.learning.mining import hard_negatives
from retrieval.networks.files import NetworkDescription
from retrieval.networks.network import RetrievalNetwork, build_network
from retrieval.networks.options import NetworkOptions
from retrieval.networks.pooling import GeM
from retrieval.whitening.whitening import learn_whitening

DIMENSION, PAIRS = 2048, 10_000
QUERIES, POOL, CLUSTERS, NEGATIVES = 2_000, 22_000, 700, 5
Way = Callable[[], Any]


def turns(ways: dict[str, Way], asked: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds and last result of each way, run in turn."""
    now = time.process_time if asked.cpu_time else time.perf_counter
    seconds: dict[str, list[float]] = defaultdict(list)
    results = {}
    for _ in range(asked.rounds):
        for name, way in ways.items():
            started = now()
            results[name] = way()
            seconds[name].append(now() - started)
    return {name: statistics.median(each) for name, each in seconds.items()}, results


def extraction(asked: argparse.Namespace, table: Table) -> None:
    """Both ways on a part of the photographs; the mAP on all that are labelled."""
    options = NetworkOptions(backbone=asked.network, weights=asked.weights)
    network = build_network(options).eval()
    paths = sorted(path for path in asked.photos.rglob("*") if path.is_file())
    for size, count in ((362, asked.photographs), (1024, max(4, asked.photographs // 4))):
        chosen = paths[:: max(1, len(paths) // count)][:count]
        with tempfile.TemporaryDirectory() as folder:
            enlarged = [_at_least(path, size, Path(folder)) for path in chosen]
            seconds, _ = turns(_extractions(network, enlarged, size, asked.threads), asked)
        for name, each in seconds.items():
            table.add_row(
                f"{asked.network} {size} px, {name}", f"{len(chosen) / each:.2f} photographs/s",
                f"{seconds['plain'] / each:.2f} x",
            )  # fmt: skip
    if asked.labels:
        labelled = [
            (asked.photos / row["file"], row["site"])
            for row in csv.DictReader(asked.labels.open(encoding="utf-8"))
            if row["kind"] == "scene"
        ]
        files, sites = zip(*labelled, strict=True)
        ways = _extractions(network, files, 362, asked.threads)
        for name, way in ways.items():
            value = 100 * np.nanmean(average_precisions(way(), np.arange(len(files)), np.array(sites)))
            table.add_row(f"{asked.network} 362 px, {name}: mAP", f"{value:.2f} %", "")


def _at_least(path: Path, size: int, folder: Path) -> Path:
    """The photograph, or where its longer side is below `size` px a JPEG of it with twice as many."""
    with Image.open(path) as opened:
        if max(opened.size) >= size:
            return path
        factor = 2 * size / max(opened.size)
        larger = opened.convert("RGB").resize((round(factor * opened.width), round(factor * opened.height)))
    larger.save(folder / f"{path.stem}.jpg", quality=90)
    return folder / f"{path.stem}.jpg"


def _extractions(network: RetrievalNetwork, paths: Sequence[Path], size: int, threads: int) -> dict[str, Way]:
    description = network.description
    load = plain_training.loader(paths, size, description.mean, description.std)

    def ours(precision: Any) -> Way:
        return lambda: extract(
            network, paths, image_size=size, precision=precision, threads=threads, draft=True, device="cpu"
        )

    return {
        "plain": lambda: plain_training.describe(network, load, range(len(paths))),
        "float32": ours("float32"),
        "bfloat16": ours("bfloat16"),
    }


def whitening(asked: argparse.Namespace, table: Table) -> None:
    """Lw of correlated descriptors."""
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(DIMENSION, DIMENSION)) * np.linspace(0.2, 2, DIMENSION)
    centres = generator.normal(size=(PAIRS, DIMENSION)) @ mixing / DIMENSION**0.5
    rows = np.concatenate([centres, centres + 0.3 * generator.normal(size=centres.shape)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first = np.arange(PAIRS)
    seconds, results = turns(
        {
            "plain": lambda: plain_description.whiten(rows, first, first + PAIRS),
            "ours": lambda: learn_whitening(rows, first, first + PAIRS),
        },
        asked,
    )
    mean, projection = results["plain"]
    wanted = (rows[:200] - mean) @ np.real(projection).T
    found = results["ours"].apply(rows[:200])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    difference = np.abs(found @ found.T - wanted @ wanted.T).max()
    for name, each in seconds.items():
        table.add_row(f"whitening, {name}", f"{each:.2f} s", f"{seconds['plain'] / each:.2f} x")
    table.add_row("greatest difference of similarities", f"{difference:.1e}", "")


def mining(asked: argparse.Namespace, table: Table) -> None:
    """Hard negatives of clustered descriptors."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLUSTERS, DIMENSION))

    def drawn(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        cluster = generator.integers(0, CLUSTERS, count)
        rows = centres[cluster] + generator.normal(size=(count, DIMENSION))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), cluster

    (query, own), (pool, of_pool) = drawn(QUERIES), drawn(POOL)
    seconds, results = turns(
        {
            "plain": lambda: plain_training.mine(query, pool, own.tolist(), of_pool.tolist(), NEGATIVES),
            "ours": lambda: hard_negatives(query, pool, own, of_pool, NEGATIVES),
            "products alone": lambda: query @ pool.T,
        },
        asked,
    )
    for name, each in seconds.items():
        table.add_row(f"mining, {name}", f"{each:.2f} s", f"{seconds['plain'] / each:.2f} x")
    same = float((results["plain"] == results["ours"]).mean())
    table.add_row("equal negatives", f"{100 * same:.2f} %", "")


def _tiny() -> RetrievalNetwork:
    features = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
    return RetrievalNetwork(features, GeM(3.0), NetworkDescription("tiny", 16))


PARTS = {"extraction": extraction, "whitening": whitening, "mining": mining}


def main() -> None:
    parser = argparse.ArgumentParser(description="Describing, whitening and mining beside the plain way.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--oracles", type=Path, required=True, help="folder with extract/, whiten/, mining/")
    parser.add_argument("--labels", type=Path, help="CSV with the columns file, kind, site: for mAP")
    parser.add_argument("--network", default="resnet101")
    parser.add_argument("--weights", default="random", choices=["random", "imagenet"])
    parser.add_argument("--photographs", type=int, default=32, help="at 362 px; a quarter of them at 1024 px")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor, not of the clock")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    plain_description.reproduces_the_oracles(asked.oracles, _tiny)
    clock = "processor time" if asked.cpu_time else "time"
    title = f"medians of {asked.rounds} turns of {clock}, {asked.threads} threads"
    table = Table("", "", "over plain", title=title)
    for part in asked.only:
        PARTS[part](asked, table)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
