"""Backbones off the shelf: how well they find a site again, and seconds a photograph.

    python -m benchmarks.backbones PHOTOS LABELS.csv [--backbones efficientnet_lite0 ...] [--tokens patches]
        [--image-size 362] [--photographs N] [--threads 1] [--cpu-time] [--json FILE]

LABELS.csv has the columns file, kind, site. Every photograph with a site is a query; right are the others of
its site, wrong all other photographs, those without a site (distractors) too. Descriptors are raw: GeM, one
scale, no whitening. --photographs N takes whole sites in the order of their names until N photographs are
there, then as many distractors as a tenth of N.

Seconds are those of the network alone, the photograph decoded already. Every photograph goes through all
backbones, one after the other, the first of them another one each time, so that what else the machine does
meets all alike; medians. --cpu-time counts the seconds of the processor in place of those of the clock, for a
machine that others use meanwhile.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.site_labels import average_precisions
from retrieval.describe.describe import Describer
from retrieval.describe.images import load_photograph, normalise
from retrieval.networks.network import RetrievalNetwork, build_network
from retrieval.networks.options import LITE, NetworkOptions

WARMING_UP = 3  # photographs that are not timed


@dataclass(frozen=True)
class Measured:
    """Of one backbone. map in 0..1 over the queries; seconds a photograph: median and 95th percentile."""

    backbone: str
    dimension: int
    parameters: int
    queries: int
    photographs: int
    map: float
    seconds: float
    seconds_p95: float


def chosen_rows(rows: Sequence[Mapping[str, str]], most: int | None) -> list[Mapping[str, str]]:
    """Rows of the labels: all, or whole sites up to `most` photographs and a tenth of that in distractors."""
    ordered = sorted(rows, key=lambda row: (row["site"] == "", row["site"], row["file"]))
    if most is None:
        return ordered
    placed = [row for row in ordered if row["site"]]
    taken: list[Mapping[str, str]] = []
    for site in dict.fromkeys(row["site"] for row in placed):
        own = [row for row in placed if row["site"] == site]
        if len(taken) + len(own) <= most:
            taken += own
    return taken + [row for row in ordered if not row["site"]][: most // 10]


def describe(
    networks: Mapping[str, RetrievalNetwork], files: Sequence[Path], size: int, *, cpu_time: bool
) -> tuple[dict[str, NDArray[np.float32]], dict[str, list[float]]]:
    """Descriptors [N, D] and seconds [N - WARMING_UP] of each network, photograph by photograph in turn."""
    now = time.process_time if cpu_time else time.perf_counter
    describers = {name: Describer(network) for name, network in networks.items()}
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in networks}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    names = list(networks)
    for number, file in enumerate(files):
        photograph = load_photograph(file, size)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            description = networks[name].description
            batch = normalise(photograph, description.mean, description.std)
            started = now()
            rows[name].append(describers[name](batch)[0])
            if number >= WARMING_UP:
                seconds[name].append(now() - started)
    return {name: np.stack(each) for name, each in rows.items()}, seconds


def measure(asked: argparse.Namespace) -> list[Measured]:
    """Every backbone on the labelled photographs."""
    with asked.labels.open(encoding="utf-8", newline="") as file:
        rows = chosen_rows(list(csv.DictReader(file)), asked.photographs)
    sites = np.array([row["site"] for row in rows])
    queries = np.flatnonzero(sites != "")
    networks = {
        name: build_network(NetworkOptions(backbone=name, tokens=asked.tokens, weights=asked.weights))
        for name in asked.backbones
    }
    files = [asked.photos / row["file"] for row in rows]
    described, seconds = describe(networks, files, asked.image_size, cpu_time=asked.cpu_time)
    return [
        Measured(
            backbone=name,
            dimension=described[name].shape[1],
            parameters=sum(each.numel() for each in network.parameters()),
            queries=int(np.isfinite(precisions).sum()),
            photographs=len(files),
            map=float(np.nanmean(precisions)),
            seconds=float(np.median(seconds[name])),
            seconds_p95=float(np.percentile(seconds[name], 95)),
        )
        for name, network in networks.items()
        for precisions in [average_precisions(described[name], queries, sites)]
    ]


def table(found: Sequence[Measured]) -> Table:
    """A row per backbone."""
    first = found[0]
    result = Table(
        *("backbone", "dimensions", "million parameters", "mAP %", "s a photograph", "95th percentile"),
        title=f"{first.queries} queries among {first.photographs} photographs",
    )
    for each in found:
        result.add_row(
            *(each.backbone, str(each.dimension), f"{each.parameters / 1e6:.1f}", f"{100 * each.map:.2f}"),
            *(f"{each.seconds:.4f}", f"{each.seconds_p95:.4f}"),
        )
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="mAP by site labels and seconds a photograph of backbones.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("labels", type=Path, help="CSV file: file, kind, site")
    parser.add_argument("--backbones", nargs="+", default=list(LITE))
    parser.add_argument("--tokens", default="patches", choices=["patches", "class", "both"])
    parser.add_argument("--weights", default="imagenet", choices=["imagenet", "random"])
    parser.add_argument("--image-size", type=int, default=362)
    parser.add_argument("--photographs", type=int, help="about how many; none: all that are labelled")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    found = measure(asked)
    Console(width=120).print(table(found))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
