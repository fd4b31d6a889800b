"""Is the verdict right? Random small collections, and what their verdict names on all sites that they lack.

    python -m benchmarks.subsets PHOTOS --store DIR [--subsets 0 1 ...] [--out benchmarks/results/subsets]
        [--report]

PHOTOS holds `collection` and `landmarks` with their label files. A subset is 3 or 10 places of one of them,
up to 300 photographs of these, half as many distractors, and at least 40 in all; sites that show each other
come together. The pipeline runs on it to `evaluate`, one scale, without a test split. Judged: all photographs
of both but those of the subset's places and distractors, AP of every one with a site, by the network off the
shelf and by what the run's verdict names. A cell is a JSON file under --out and is not done again; --report
reads them alone.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.acceptance_runs import Bench
from benchmarks.cells import nullable, write_cell
from benchmarks.folds import TOGETHER, labels, place
from benchmarks.recipes import estimate, in_points
from benchmarks.site_labels import average_precisions
from flows.options.names import NETWORKS
from flows.run.networks import Used, used_by
from flows.steps.whitenings import Learnt, whitenings
from report.tables.evaluation import read_table
from retrieval.describe.describe import extract
from retrieval.evaluation.verdict import BASELINE
from retrieval.networks.network import load_network
from retrieval.whitening.whitening import Whitening
from storage.files.whole import read_json
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tasks.describing import network_file

KINDS = (("collection", 3), ("landmarks", 3), ("collection", 10), ("landmarks", 10))
SUBSETS = 20
LEAST_PHOTOGRAPHS, MOST_PHOTOGRAPHS = 40, 300
SIZE = 362
"""Longer side of a described photograph, px."""
BASE = (
    "selection.val_fraction=0.3",
    "selection.test_fraction=0",
    f"description.image_size={SIZE}",
    "description.multi_scales=[1]",
    "evaluation.split=val",
    f"training.image_size={SIZE}",
)
UNDER = 0.002
"""Loss of mAP by site that counts as none."""


class Subset(NamedTuple):
    """Rows of the table of labels: photographs to run on, and those that judge."""

    collection: str
    places: int
    chosen: pd.DataFrame
    judging: pd.DataFrame


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The verdict of small collections, by the sites they lack.")
    parser.add_argument("photos", type=Path, help="folder with collection, landmarks and their label files")
    parser.add_argument("--store", type=Path, required=True, help="store of the runs")
    parser.add_argument("--subsets", type=int, nargs="+", default=list(range(SUBSETS)))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/subsets"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of every run")
    parser.add_argument("--report", action="store_true", help="read the cells alone")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    if not asked.report:
        table = labels(asked.photos)
        for number in asked.subsets:
            if not (asked.out / f"{number}.json").exists():
                measure(asked, subset(table, number), number)
    report(asked.out, asked.subsets)


def subset(table: pd.DataFrame, number: int) -> Subset:
    """Drawn by its number; places: groups of sites that are seen together."""
    collection, places = KINDS[number % len(KINDS)]
    generator = np.random.default_rng(number)
    of = {site: sites[0] for sites in TOGETHER for site in sites}
    group = table["site"].map(lambda site: of.get(site, site))
    mine = table["collection"] == collection
    names = np.unique(group[mine & (group != "")])
    drawn = generator.choice(names, places, replace=False)
    seen = np.flatnonzero(mine & group.isin(drawn))
    count = int(generator.integers(LEAST_PHOTOGRAPHS, MOST_PHOTOGRAPHS + 1))
    shown = generator.permutation(seen)[:count]
    others = np.flatnonzero(group == "")
    beside = generator.permutation(others)[: max(len(shown) // 2, LEAST_PHOTOGRAPHS - len(shown))]
    chosen = table.iloc[np.sort(np.concatenate([shown, beside]))]
    left = ~group.isin(drawn).to_numpy()
    left[beside] = False
    return Subset(collection, places, chosen, table[left])


def measure(asked: argparse.Namespace, found: Subset, number: int) -> None:
    """One cell."""
    began = time.monotonic()
    folder = asked.store.absolute().parent / "subsets" / str(number)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for row in found.chosen.itertuples():
        place(asked.photos / str(row.collection) / str(row.file), folder / str(row.file))
    told: dict[str, Any] = {
        "collection": found.collection,
        "places": found.places,
        "photographs": len(found.chosen),
    }
    run = Bench(folder, asked.store.absolute(), (*BASE, *asked.set)).run(check=False)
    if run.code or run.record is None:
        told["failed"] = run.output[-500:]
    else:
        told |= judged(Store.open(asked.store), run.record, found.judging, asked.photos)
    told["seconds"] = time.monotonic() - began
    write_cell(asked.out / f"{number}.json", told, indent=None)
    print(f"subset {number}: {told.get('sentence', told.get('failed'))}", flush=True)


def judged(store: Store, record: RunRecord, table: pd.DataFrame, photos: Path) -> dict[str, Any]:
    """What the verdict says, and AP by both ways of every photograph with a site; sites as groups."""
    (evaluation,) = record.refs_of("evaluation")
    used = used_by(store, record) or Used(BASELINE, "raw")
    sites = np.where(table["site"] == "", table["file"], table["site"]).astype(str)
    queries = np.flatnonzero(table["site"] != "")
    paths = tuple(photos / str(row.collection) / str(row.file) for row in table.itertuples())
    found = {}
    for name, way in (("off the shelf", Used(BASELINE, "raw")), ("used", used)):
        rows = described(store, record, way, paths)
        found[name] = nullable(average_precisions(rows, queries, sites))
    return {
        "used": list(used),
        "sentence": read_table(store.path(evaluation)).verdict,
        "groups": sites[queries].tolist(),
        "ap": found,
    }


def described(store: Store, record: RunRecord, way: Used, paths: tuple[Path, ...]) -> NDArray[np.float32]:
    """[N, D] photographs by one network and its whitening, one scale."""
    (weights,) = record.refs_of(NETWORKS[way.network])
    file = network_file(store.path(weights))
    rows = np.stack([_row(file, path) for path in paths]) if way.network == BASELINE else _rows(file, paths)
    if way.whitening == "raw":
        return rows
    learnt = whitenings(record)[Learnt(way.network, "1", way.whitening)]
    return Whitening.load(store.path(learnt)).apply(rows)


def _rows(file: Path, paths: Sequence[Path]) -> NDArray[np.float32]:
    return extract(load_network(file), paths, image_size=SIZE, device="cpu")


@lru_cache(maxsize=10_000)
def _row(file: Path, path: Path) -> NDArray[np.float32]:
    """Of the network off the shelf, which is the same in every subset."""
    return extract(_network(file), [path], image_size=SIZE, device="cpu")[0]


@lru_cache(maxsize=1)
def _network(file: Path) -> Any:
    return load_network(file)


def report(out: Path, subsets: Sequence[int]) -> None:
    """A line for each subset, and the bars."""
    table = Table("subset", "from", "photographs", "used", "minus off the shelf", title="mAP by site, points")
    gains: dict[int, tuple[str, float, bool]] = {}
    for number in subsets:
        cell = read_json(out / f"{number}.json")
        if not cell:
            continue
        kind = f"{cell['places']} places of {cell['collection']}"
        if "failed" in cell:
            table.add_row(str(number), kind, str(cell["photographs"]), "", "no completed run: not counted")
            continue
        first, second = (np.array(cell["ap"][name], dtype=np.float64) for name in ("used", "off the shelf"))
        gain = estimate(first - second, np.array(cell["groups"]))
        table.add_row(str(number), kind, str(cell["photographs"]), " ".join(cell["used"]), in_points(gain))
        gains[number] = kind, float(gain.value), cell["used"] != [BASELINE, "raw"]
    console = Console(width=140)
    console.print(table)
    held = [gain >= -UNDER for _, gain, _ in gains.values()]
    console.print(f"at most {100 * UNDER:.1f} points under off the shelf: {sum(held)} of {len(held)}")
    ten = [(gain, changed) for kind, gain, changed in gains.values() if kind == "10 places of landmarks"]
    if ten:
        changed = [changed for _, changed in ten]
        mean = 100 * float(np.mean([gain for gain, _ in ten]))
        console.print(f"10 places of landmarks: a change in {sum(changed)} of {len(ten)}, mean {mean:+.2f}")


if __name__ == "__main__":
    main()
