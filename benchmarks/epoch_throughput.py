"""One epoch, mining and training, beside the straightforward way: throughput, breakdown, and the limit.

    python -m benchmarks.epoch_throughput TRAINING_SET.h5 PHOTOS --oracles DIR [--networks resnet18 resnet101]
        [--queries 100] [--rounds 3] [--threads 2] [--precision bfloat16|float32] [--together N] [--json FILE]

TRAINING_SET.h5 of a finished run on PHOTOS. Both ways train the same network (random weights) on the same
queries, positives and pool, with the same number of threads, turn by turn in one process; medians over the
rounds. Throughput: photographs through the network per second, mining and training together. The limit is
measured too: the network's convolutions alone, each on an input of its size, in ours' precision, channels
last, nothing between them; `forward / limit` says how far forward passes are from it. Denormal numbers are
flushed for both ways (random weights give gradients full of them: without, the plain way takes several times
as long). The plain way reproduces the oracles first.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks import plain_training
from retrieval.describe.describe import Describer
from retrieval.learning.processes import ALONE
from retrieval.networks.files import NetworkDescription
from retrieval.networks.network import RetrievalNetwork, build_network
from retrieval.networks.options import NetworkOptions
from retrieval.networks.pooling import GeM
from retrieval.training.epoch_tuples import Draw, draw_epoch, mine, plan_of
from retrieval.training.options import TrainingCall, TrainingOptions, TrainingResources
from retrieval.training.step import Learner, Stepping, TrainingPhotographs, train_tuples
from retrieval.training.subject import whole_network
from storage.hdf5 import file as hdf5

Seconds = dict[str, float]
NEGATIVES = 5


class Epoch:
    """The same epoch for both ways. names: of the images, and of their files below `photos`."""

    def __init__(self, arrays: Mapping[str, Any], photos: Path, options: TrainingOptions) -> None:
        self.arrays, self.options = arrays, options
        self.names = [str(name) for name in arrays["images/name"]]
        self.photos = photos
        self.drawn: Draw = draw_epoch(arrays, options, 1)
        self.cluster = np.asarray(arrays["images/cluster"], dtype=np.int64)

    def path(self, name: str) -> Path:
        return self.photos / name

    def ours(
        self, network: RetrievalNetwork, resources: TrainingResources
    ) -> tuple[Seconds, NDArray[np.int64]]:
        """As `retrieval.training.trainer` does it."""
        network = copy.deepcopy(network).to(memory_format=torch.channels_last)
        options = self.options
        call = TrainingCall(
            Path(), Path(), self, options, Path(), Path(), resources, matcher=None, inputs=()
        )  # passes of the network read photographs alone, and write nothing
        subject = whole_network(call, network, self.names, ALONE)
        learner = Learner.of(network, options)
        clock = [time.perf_counter()]
        described = subject.describe(self.drawn.images, 1, lambda done, total: None)
        clock.append(time.perf_counter())
        plan = plan_of(self.arrays, self.drawn, NEGATIVES, True)
        mined = mine(self.arrays, self.drawn, described, plan)
        clock.append(time.perf_counter())
        photographs = TrainingPhotographs(subject.load, tensor=subject.tensor, name=self.names.__getitem__)
        train_tuples(learner, mined.tuples, photographs, Stepping.of(options, resources))
        clock.append(time.perf_counter())
        return _seconds(clock), mined.tuples

    def plain(self, network: RetrievalNetwork) -> tuple[Seconds, NDArray[np.int64]]:
        """The straightforward way."""
        network = copy.deepcopy(network)
        description, options = network.description, self.options
        paths = [self.path(name) for name in self.names]
        load = plain_training.loader(paths, options.image_size, description.mean, description.std)
        optimizer = plain_training.adam(network, options.learning_rate, options.weight_decay)
        queries, pool = self.drawn.queries, self.drawn.pool
        positives = np.array([int(choice[0]) for choice in self.drawn.choices])
        clock = [time.perf_counter()]
        images = self.drawn.images.tolist()
        rows = plain_training.describe(network, load, images)
        place = {image: position for position, image in enumerate(images)}
        clock.append(time.perf_counter())
        found = plain_training.mine(
            rows[[place[q] for q in queries.tolist()]], rows[[place[p] for p in pool.tolist()]],
            self.cluster[queries].tolist(), self.cluster[pool].tolist(), NEGATIVES,
        )  # fmt: skip
        tuples = np.column_stack([queries, positives, pool[found]])
        clock.append(time.perf_counter())
        margin = options.margin_for(description.architecture)
        plain_training.train(network, optimizer, load, tuples, margin, options.tuples_per_step)
        clock.append(time.perf_counter())
        return _seconds(clock), tuples


def _seconds(clock: Sequence[float]) -> Seconds:
    return dict(zip(("describe", "mine", "train"), np.diff(clock).tolist(), strict=True))


def measure(name: str, epoch: Epoch, resources: TrainingResources, rounds: int) -> dict[str, Any]:
    """Medians of both ways, turn by turn."""
    network = build_network(NetworkOptions(backbone=name, weights="random"))
    ours: list[Seconds] = []
    plain: list[Seconds] = []
    same = 1.0
    for _ in range(rounds):
        seconds, tuples = epoch.ours(network, resources)
        ours.append(seconds)
        seconds, other = epoch.plain(network)
        plain.append(seconds)
        same = float((tuples == other).mean())
    photographs = len(epoch.drawn.images) + (2 + NEGATIVES) * len(epoch.drawn.queries)
    forward, limit = forward_and_limit(network, epoch)
    middle = {way: _medians(rows) for way, rows in (("ours", ours), ("plain", plain))}
    total = {way: sum(parts.values()) for way, parts in middle.items()}
    ratios = [sum(slow.values()) / sum(fast.values()) for fast, slow in zip(ours, plain, strict=True)]
    return {
        "network": name, "photographs": photographs, "rounds": rounds, "ours": middle["ours"],
        "plain": middle["plain"],
        "throughput": {way: photographs / seconds for way, seconds in total.items()},
        "ratio": float(np.median(ratios)), "ratios": ratios, "same_tuples": same,
        "forward_ms": 1e3 * forward, "limit_ms": 1e3 * limit,
    }  # fmt: skip


def _medians(rows: Sequence[Seconds]) -> Seconds:
    return {name: float(np.median([row[name] for row in rows])) for name in rows[0]}


def forward_and_limit(network: RetrievalNetwork, epoch: Epoch, repeats: int = 5) -> tuple[float, float]:
    """Seconds of a forward pass of ours at the full image size, and of its convolutions alone."""
    size = epoch.options.image_size
    photograph = torch.randn(1, 3, size * 3 // 4, size)
    describe = Describer(network, precision=epoch.options.precision)
    describe(photograph)
    forward = min(_time(lambda: describe(photograph)) for _ in range(repeats))
    inputs: list[tuple[nn.Conv2d, tuple[int, ...]]] = []
    hooks = [
        module.register_forward_pre_hook(lambda conv, given: inputs.append((conv, tuple(given[0].shape))))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        network.eval()(photograph)
    for hook in hooks:
        hook.remove()
    limit, dtype = 0.0, getattr(torch, epoch.options.precision)
    with torch.inference_mode():
        for convolution, shape in inputs:
            conv = copy.deepcopy(convolution).to(dtype=dtype)
            conv = conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            given = torch.randn(shape).to(dtype=dtype, memory_format=torch.channels_last)
            conv(given)
            limit += min(_time(lambda conv=conv, given=given: conv(given)) for _ in range(repeats))
    return forward, limit


def _time(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def tiny() -> RetrievalNetwork:
    """The network of the training oracles."""
    features = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()), *(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())
    )
    description = NetworkDescription("tiny", 8, whitening=True)
    return RetrievalNetwork(features, GeM(3), description, whiten=nn.Linear(8, 8))


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """A row per network and way."""
    result = Table(
        "network", "way", "describe s", "mine s", "train s", "photographs/s", "ratio", "forward / limit"
    )
    for each in found:
        for way in ("plain", "ours"):
            own = way == "ours"
            result.add_row(
                each["network"], way, *(f"{each[way][part]:.2f}" for part in ("describe", "mine", "train")),
                f"{each['throughput'][way]:.2f}", f"{each['ratio']:.2f}" if own else "",
                f"{each['forward_ms']:.0f} / {each['limit_ms']:.0f} ms" if own else "",
            )  # fmt: skip
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="One epoch beside the straightforward way.")
    parser.add_argument("training_set", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--oracles", type=Path, required=True, help="folder with train/ and mining/")
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet101"])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"], help="of ours")
    parser.add_argument("--together", type=int, help="negatives of equal size per forward pass; none: ours")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    torch.set_flush_denormal(
        True
    )  # as retrieval.describe.compute.without_denormals does; the plain way gains as well
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    plain_training.reproduces_the_oracles(asked.oracles, tiny)
    options = TrainingOptions(
        queries_per_epoch=asked.queries, pool_size=None, positives="m2", precision=asked.precision, draft=True
    )
    epoch = Epoch(hdf5.read(asked.training_set, "training_set"), asked.photos, options)
    resources = TrainingResources(threads=asked.threads, negatives_at_a_time=asked.together)
    console, found = Console(), []
    for name in asked.networks:
        found.append(measure(name, epoch, resources, asked.rounds))
        console.print(found[-1])
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1) + "\n")
    console.print(table(found))
    return 0 if all(each["ratio"] >= 1.5 for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
