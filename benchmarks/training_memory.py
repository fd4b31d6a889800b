"""Peak memory of a training step with one and with many negatives.

    python -m benchmarks.training_memory PHOTOS [--networks resnet18 resnet101 efficientnet_lite0]
        [--negatives 1 10] [--image-size 362] [--precision float32|bfloat16]
        [--rounds 3] [--threads 1] [--json FILE]

A process of its own per measurement: it builds the network (random weights) and its optimiser, notes its
resident memory, takes two optimiser steps of one tuple each through `retrieval.training.step.train_tuples`
and reads its peak (`ru_maxrss`). All photographs have the most frequent size of the folder, so that only the
number of negatives differs, and every negative lies within the margin: each has its backward pass. Medians
over the rounds; `step` is the peak without what the process held before the first step. Linux and macOS. Exit
code 1 where it grows by more than 15 %.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

TUPLES, TUPLES_PER_STEP = 2, 1
ALLOWED_GROWTH = 1.15
MIB = 2**20
SUFFIXES = {".jpg", ".jpeg", ".png"}
WIDE_MARGIN = 2.0  # descriptors have unit length: no negative lies beyond it


def one_measurement(
    photos: Path, network_name: str, negatives: int, most: int, size: int, precision: str
) -> dict[str, float]:
    """MiB of this process before the first step and at its peak. most: negatives that photographs are drawn
    for."""
    import psutil

    from retrieval.describe.images import load_photograph
    from retrieval.networks.network import build_network
    from retrieval.networks.options import NetworkOptions
    from retrieval.training.options import TrainingOptions
    from retrieval.training.step import Learner, Stepping, TrainingPhotographs, train_tuples

    network = build_network(NetworkOptions(backbone=network_name, weights="random"))
    options = TrainingOptions(margin=WIDE_MARGIN, tuples_per_step=TUPLES_PER_STEP)
    files = of_one_size(photos, TUPLES * (2 + most))
    drawn = np.arange(len(files))
    before = psutil.Process().memory_info().rss / MIB
    losses = train_tuples(
        Learner.of(network, options),
        drawn.reshape(TUPLES, -1)[:, : 2 + negatives],
        TrainingPhotographs(lambda image: load_photograph(files[image], size)),
        Stepping(TUPLES_PER_STEP, precision=precision, loader_threads=1),
    )
    return {"before": before, "peak": _peak_mib(), "loss": float(losses.mean())}


def of_one_size(photos: Path, count: int) -> list[Path]:
    """The first `count` photographs of the most frequent size. Raises ValueError where there are fewer."""
    by_size: dict[tuple[int, int], list[Path]] = {}
    for path in sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES):
        with Image.open(path) as photograph:
            by_size.setdefault(photograph.size, []).append(path)
    found = max(by_size.values(), key=len, default=[])
    if len(found) < count:
        raise ValueError(f"{photos}: {len(found)} photographs of one size, {count} are needed")
    return found[:count]


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def measure(asked: argparse.Namespace, network: str, negatives: int) -> dict[str, Any]:
    """Medians over the rounds, each in a process of its own."""
    command = [
        *(sys.executable, "-m", "benchmarks.training_memory", str(asked.photos), "--networks", network),
        *("--negatives", str(negatives), "--most", str(max(asked.negatives))),
        *("--image-size", str(asked.image_size), "--precision", asked.precision),
        *("--threads", str(asked.threads), "--one"),
    ]
    rounds = [
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        for _ in range(asked.rounds)
    ]
    steps = [each["peak"] - each["before"] for each in rounds]
    return {
        "network": network, "negatives": negatives, "rounds": rounds, "step": median(steps),
        "peak": median(each["peak"] for each in rounds),
    }  # fmt: skip


def growths(found: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Per measurement (of the step, of the whole peak) / those of its network's fewest negatives."""
    least: dict[str, Mapping[str, Any]] = {}
    for each in sorted(found, key=lambda row: row["negatives"]):
        least.setdefault(each["network"], each)
    return [
        (each["step"] / least[each["network"]]["step"], each["peak"] / least[each["network"]]["peak"])
        for each in found
    ]


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """A row per network and number of negatives."""
    result = Table("network", "negatives", "step MiB", "growth", "peak MiB", "growth")
    for each, (of_step, of_peak) in zip(found, growths(found), strict=True):
        result.add_row(
            *(each["network"], str(each["negatives"]), f"{each['step']:.0f}", f"{of_step:.2f}"),
            *(f"{each['peak']:.0f}", f"{of_peak:.2f}"),
        )
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Peak memory of a training step by number of negatives.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet101", "efficientnet_lite0"])
    parser.add_argument("--negatives", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--image-size", type=int, default=362)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--most", type=int, default=10, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        import torch

        torch.set_num_threads(asked.threads)
        torch.set_flush_denormal(True)  # random weights give gradients full of denormal numbers
        found = one_measurement(
            *(
                asked.photos,
                asked.networks[0],
                asked.negatives[0],
                asked.most,
                asked.image_size,
                asked.precision,
            )
        )
        print(json.dumps(found))
        return 0
    results: list[dict[str, Any]] = []
    for network in asked.networks:
        for negatives in asked.negatives:
            results.append(measure(asked, network, negatives))
            if asked.json:
                asked.json.write_text(json.dumps(results, indent=1) + "\n")
    Console().print(table(results))
    return 0 if all(of_step <= ALLOWED_GROWTH for of_step, _ in growths(results)) else 1


if __name__ == "__main__":
    sys.exit(main())
