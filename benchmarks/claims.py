"""The claims of the paper, one by one: holds, does not hold, cannot be told.

    python -m benchmarks.claims PHOTOS --store DIR [--collections landmarks collection] [--seeds 0 1 2]
        [--out benchmarks/results/claims] [--markdown FILE] [--report]

PHOTOS holds the folders `collection` and `landmarks` and their label files. For each collection and seed the
pipeline reconstructs and selects (the seed is that of the split; 40 % of the clusters are test), then every
change of CHANGES is trained. Judged by site labels on the sites that neither train nor val has a photograph
of, among all photographs of the collection; labels never reach the pipeline. A cell (collection, change,
seed) is a JSON file under --out and is not done again; --report only reads them. A difference is the mean
over sites of the mean over seeds, its interval resamples sites.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.acceptance_runs import Bench
from benchmarks.cells import write_cell
from benchmarks.folds import LABELS
from benchmarks.site_labels import average_precisions
from retrieval.benchmarks.val import Val
from retrieval.describe.describe import extract
from retrieval.describe.options import PAPER_SCALES, SINGLE_SCALE
from retrieval.evaluation.bootstrap import Estimate, bootstrap_mean
from retrieval.networks.network import build_network, load_network, save_network
from retrieval.networks.options import NetworkOptions
from retrieval.training.finetune import finetune
from retrieval.training.options import NETWORK_FILE, TrainingOptions, TrainingResources
from retrieval.whitening.whitening import (
    Whitening,
    WhiteningOptions,
    choose_shrinkage,
    learn_pca_whitening,
    pair_statistics,
    training_pairs,
)
from storage.files.whole import read_json
from storage.hdf5 import file as hdf5
from storage.photographs.scanning import PhotoSource
from storage.store.store import Store

SHORT = {"image_size": 224, "epochs": 2, "queries_per_epoch": 100, "learning_rate": 2e-5}
OPTIONS = {"landmarks": SHORT, "collection": SHORT}
CHANGES: dict[str, dict[str, Any]] = {
    "base": {},
    "m1": {"positives": "m1"},
    "m2": {"positives": "m2"},
    "N1": {"one_per_cluster": False},
    "random": {"negative_mining": "random"},
    "triplet": {"loss": "triplet"},
    "mac": {"pooling": "mac"},
    "spoc": {"pooling": "spoc"},
}
"""Of the training or of the network, beside the default: m3, N2, contrastive, GeM."""
OF_COLLECTION = ("base",)
SCALES = {"1": SINGLE_SCALE, "3": PAPER_SCALES}
DIMENSIONS = (512, 256, 128, 64, 32)
Place = tuple[str, str]  # change of a cell, column in it


@dataclass(frozen=True)
class Claim:
    """One row: `first` is better than `second` by what the paper says. Of which collections."""

    text: str
    first: Place
    second: Place
    collections: tuple[str, ...] = ("landmarks",)


BOTH = ("landmarks", "collection")
CLAIMS = (
    Claim("fine-tuned over off the shelf", ("base", "tuned raw 1"), ("base", "off raw 1"), BOTH),
    Claim("fine-tuned + Lw over off the shelf + Lw", ("base", "tuned lw 1"), ("base", "off lw 1"), BOTH),
    Claim("fine-tuned + Lw over off the shelf", ("base", "tuned lw 1"), ("base", "off raw 1"), BOTH),
    Claim("m2 over m1, as positives", ("m2", "tuned raw 1"), ("m1", "tuned raw 1")),
    Claim("m3 over m1, as positives", ("base", "tuned raw 1"), ("m1", "tuned raw 1")),
    Claim("m3 over m2, as positives", ("base", "tuned raw 1"), ("m2", "tuned raw 1")),
    Claim("hard negatives (N2) over random ones", ("base", "tuned raw 1"), ("random", "tuned raw 1")),
    Claim("one negative a cluster (N2) over any (N1)", ("base", "tuned raw 1"), ("N1", "tuned raw 1")),
    Claim("GeM over MAC, fine-tuned", ("base", "tuned raw 1"), ("mac", "tuned raw 1")),
    Claim("GeM over SPoC, fine-tuned", ("base", "tuned raw 1"), ("spoc", "tuned raw 1")),
    Claim("Lw over PCAw, fine-tuned", ("base", "tuned lw 1"), ("base", "tuned pcaw 1"), BOTH),
    Claim("Lw over no whitening, fine-tuned", ("base", "tuned lw 1"), ("base", "tuned raw 1")),
    Claim("PCAw over no whitening, fine-tuned", ("base", "tuned pcaw 1"), ("base", "tuned raw 1")),
    Claim("Lw over PCAw, off the shelf", ("base", "off lw 1"), ("base", "off pcaw 1")),
    Claim("contrastive over triplet", ("base", "tuned raw 1"), ("triplet", "tuned raw 1")),
    Claim("three scales over one, fine-tuned + Lw", ("base", "tuned lw 3"), ("base", "tuned lw 1")),
    *(
        Claim(f"{d} dimensions of Lw over all", ("base", f"tuned lw 1 {d}"), ("base", "tuned lw 1"))
        for d in DIMENSIONS
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    if not asked.report:
        for collection in asked.collections:
            for seed in asked.seeds:
                measure(asked, collection, seed)
    grid = rows(asked.out, asked.collections, asked.seeds)
    table = Table(*grid[0])
    for row in grid[1:]:
        table.add_row(*row)
    Console(width=160).print(table)
    if asked.markdown:
        lines = [grid[0], ["---"] * len(grid[0]), *grid[1:]]
        asked.markdown.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The paper's claims, measured.")
    parser.add_argument("photos", type=Path, help="folder with collection, landmarks and their label files")
    parser.add_argument("--store", type=Path, required=True, help="store of the reconstructions")
    parser.add_argument("--collections", nargs="+", choices=list(LABELS), default=list(BOTH))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/claims"))
    parser.add_argument("--markdown", type=Path, help="file to write the table to")
    parser.add_argument("--report", action="store_true", help="read the cells alone")
    return parser


def measure(asked: argparse.Namespace, collection: str, seed: int) -> None:
    """Every cell of a collection and seed that is not there yet."""
    changes = CHANGES if collection == "landmarks" else {name: CHANGES[name] for name in OF_COLLECTION}
    left = [name for name in changes if not cell_path(asked.out, collection, name, seed).exists()]
    if not left:
        return
    photos = (asked.photos / collection).absolute()
    training_set = selected(photos, asked.store, seed)
    for name in left:
        began = time.monotonic()
        found = cell(training_set, photos, asked.photos / LABELS[collection], OPTIONS[collection], name, seed)
        told = {"collection": collection, "change": name, "seed": seed, "seconds": time.monotonic() - began}
        asked.out.mkdir(parents=True, exist_ok=True)
        write_cell(cell_path(asked.out, collection, name, seed), told | found, indent=None)
        print(f"{collection}, {name}, seed {seed}: {told['seconds']:.0f} s", flush=True)


def cell_path(out: Path, collection: str, change: str, seed: int) -> Path:
    return out / f"{collection}-{change}-{seed}.json"


def selected(photos: Path, store: Path, seed: int) -> Path:
    """training_set.h5 of a split."""
    sets = (f"selection.seed={seed}", "selection.val_fraction=0.1", "selection.test_fraction=0.4")
    record = Bench(photos, store.absolute(), sets).run("--until", "select").record
    assert record is not None
    return Store.open(store).path(record.refs_of("training_set")[0])


def cell(
    training_set: Path, photos: Path, labels: Path, options: Mapping[str, Any], change: str, seed: int
) -> dict[str, Any]:
    """Sites of the queries [Q] and, by column, their AP [Q]."""
    asked = dict(CHANGES[change])
    network = build_network(NetworkOptions(pooling=asked.pop("pooling", "gem")))
    training = TrainingOptions(**{**options, **asked, "seed": seed, "verify_negatives": False})
    arrays = hdf5.read(training_set, "training_set")
    names = [str(name) for name in arrays["images/name"]]
    source = PhotoSource.from_digests(
        photos, dict(zip(names, arrays["images/sha256"].astype(str), strict=True))
    )
    table = pd.read_csv(labels, dtype=str, keep_default_na=False).set_index("file")["site"]
    sites = np.array([table[name] or name for name in names])
    known = set(sites[np.asarray(arrays["images/split"]) < 2])
    queries = np.flatnonzero(
        [table[name] != "" and site not in known for name, site in zip(names, sites, strict=True)]
    )
    paths = [photos / name for name in names]
    columns: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        start = Path(folder) / "start.safetensors"
        save_network(network, start)
        finetune(
            training_set, start, source, training, out=Path(folder) / "out", work_dir=Path(folder) / "work",
            resources=TrainingResources(device="cpu", checkpoint_pause_s=600),
        )  # fmt: skip
        networks = {"off": network, "tuned": load_network(Path(folder) / "out" / NETWORK_FILE)}
        shutil.rmtree(Path(folder) / "work")
    for name, each in networks.items():
        for scales, factors in SCALES.items() if change == "base" else [("1", SINGLE_SCALE)]:
            rows = extract(each, paths, image_size=training.image_size, scales=factors, device="cpu")
            for column, described in whitened(rows, arrays):
                found = average_precisions(described, queries, sites)
                columns[" ".join([name, column.replace("@", scales)])] = found.tolist()
    return {"sites": sites[queries].tolist(), "options": training.model_dump(mode="json"), "ap": columns}


def whitened(
    rows: NDArray[np.float32], arrays: Mapping[str, Any]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Column (@ for the scales) and descriptors: raw, PCAw, Lw, and Lw cut to fewer dimensions."""
    train = np.flatnonzero(np.asarray(arrays["images/split"]) == 0)
    pairs = training_pairs(arrays, "m2+m3")
    statistics = pair_statistics(rows, pairs[:, 0], pairs[:, 1], train)
    choice = choose_shrinkage(statistics, rows, Val.of(arrays), WhiteningOptions().shrinkage_grid)
    lw: Whitening = choice.whitening
    yield "raw @", rows
    yield "pcaw @", learn_pca_whitening(rows[train]).apply(rows)
    yield "lw @", lw.apply(rows)
    for dimensions in DIMENSIONS:
        yield f"lw @ {dimensions}", lw.apply(rows, dimensions)


def rows(out: Path, collections: Sequence[str], seeds: Sequence[int]) -> list[list[str]]:
    """The table: claim, collection, both mAP, the difference with its interval, what it says."""
    grid = [["claim", "photographs", "first", "second", "difference", "sites, seeds", ""]]
    for claim in CLAIMS:
        for collection in (each for each in claim.collections if each in collections):
            places = (claim.first, claim.second)
            cells = [
                [read_json(cell_path(out, collection, change, seed)) for change, _ in places]
                for seed in seeds
            ]
            there = [pair for pair in cells if all(pair)]
            if not there:
                grid.append([claim.text, collection, "", "", "", "", "not measured"])
                continue
            firsts, seconds = (
                np.concatenate([pair[at]["ap"][place[1]] for pair in there])
                for at, place in enumerate(places)
            )
            sites = np.concatenate([first["sites"] for first, _ in there])
            gain = over_sites(firsts - seconds, sites)
            means = [over_sites(values, sites).value for values in (firsts, seconds)]
            interval = f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}..{100 * gain.high:+.1f}]"
            numbers = [f"{100 * mean:.1f}" for mean in means]
            grid.append(
                [claim.text, collection, *numbers, interval, f"{gain.num_clusters}, {len(there)}", says(gain)]
            )
    return grid


def over_sites(values: NDArray[np.float64], sites: NDArray[np.str_]) -> Estimate:
    """Mean over sites of their queries, of all seeds alike, with an interval over sites."""
    names, member = np.unique(sites, return_inverse=True)
    each = np.bincount(member, weights=values) / np.bincount(member)
    return bootstrap_mean(each, np.arange(len(names)), np.random.default_rng(0))


def says(gain: Estimate) -> str:
    """What an interval allows to say."""
    if gain.low > 0:
        return "holds"
    return "does not hold" if gain.high < 0 else "cannot be told"


if __name__ == "__main__":
    main()
