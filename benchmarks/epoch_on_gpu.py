"""One epoch on a GPU: photographs per second, and the share of the time in which it waits for photographs.

    python -m benchmarks.epoch_on_gpu TRAINING_SET.h5 PHOTOS [--networks resnet18 resnet101] [--device cuda]
        [--precision bfloat16] [--queries 400] [--loader-threads 8] [--rounds 3]

Mining and training as in `benchmarks.epoch_throughput`, with random weights; decoded photographs are not
kept, so that every one is decoded when it is needed. Waiting: wall seconds in which the loop stood at the
next photograph because no thread had it ready, over all seconds. Medians over the rounds, after one that
warms up.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.epoch_throughput import NEGATIVES, Epoch
from retrieval.describe import describe, images
from retrieval.describe.compute import pick_device
from retrieval.networks.network import build_network
from retrieval.networks.options import NetworkOptions
from retrieval.training import step
from retrieval.training.options import TrainingOptions, TrainingResources
from storage.hdf5 import file as hdf5


class Waiting:
    """`retrieval.describe.images.loaded_ahead` that adds up how long its reader waited. seconds: so far."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, keys: Iterable[Any], load: Callable[[Any], Any], **how: Any) -> Iterator[Any]:
        source = images.loaded_ahead(keys, load, **how)
        while True:
            began = time.perf_counter()
            try:
                value = next(source)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - began
            yield value


def measure(epoch: Epoch, backbone: str, asked: argparse.Namespace) -> list[str]:
    """A row of the table."""
    network = build_network(NetworkOptions(backbone=backbone, weights="random")).to(pick_device(asked.device))
    resources = TrainingResources(
        device=asked.device,
        loader_threads=asked.loader_threads,
        cache_megabytes=0,
        batch_size=asked.batch_size,
    )
    parts: list[dict[str, float]] = []
    waited: list[float] = []
    for _ in range(1 + asked.rounds):
        waiting = Waiting()
        with (
            mock.patch.object(step, "loaded_ahead", waiting),
            mock.patch.object(describe, "loaded_ahead", waiting),
        ):
            seconds, _ = epoch.ours(network, resources)
        parts.append(seconds)
        waited.append(waiting.seconds / sum(seconds.values()))
    middle = {name: statistics.median(each[name] for each in parts[1:]) for name in parts[0]}
    described, trained = len(epoch.drawn.images), (2 + NEGATIVES) * len(epoch.drawn.queries)
    return [
        backbone, f"{(described + trained) / sum(middle.values()):.1f}",
        f"{described / middle['describe']:.1f}", f"{trained / middle['train']:.1f}",
        *(f"{middle[name]:.2f}" for name in ("describe", "mine", "train")),
        f"{100 * statistics.median(waited[1:]):.1f} %",
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="One epoch on a GPU.")
    parser.add_argument("training_set", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet101"])
    parser.add_argument("--device", default="cuda", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--loader-threads", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8, help="photographs per forward pass while mining")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    torch.set_flush_denormal(True)
    options = TrainingOptions(
        queries_per_epoch=asked.queries, pool_size=None, positives="m2", precision=asked.precision, draft=True
    )
    epoch = Epoch(hdf5.read(asked.training_set, "training_set"), asked.photos, options)
    table = Table(
        "network", "photographs/s", "described/s", "trained/s", "describe s", "mine s", "train s", "waiting",
        title=f"{len(epoch.drawn.queries)} queries, {asked.precision}, {asked.device}",
    )  # fmt: skip
    for name in asked.networks:
        table.add_row(*measure(epoch, name, asked))
        Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
