"""Ways to train, on the folds of `benchmarks.folds`: what val says of each, and once the left-out sites.

    python -m benchmarks.recipes FOLDS PHOTOS --store DIR [--recipes NAME ...] [--folds 0 1 2] [--seeds 0]
        [--test] [--out benchmarks/results/recipes] [--report]

FOLDS is what `benchmarks.folds` made of PHOTOS. Of every fold, recipe and seed (of the split and of the
training) the pipeline runs on the photographs of the fold, one scale, to `evaluate` on val: the AP of every
val query, by configuration. --test adds what recipes are not chosen by: queries and database are the sites
and distractors that the fold leaves out, judged by their labels, which the pipeline never sees. A cell is a
JSON file under --out and is not done again; --report reads them alone. A difference is the mean over sites
(val: clusters) of the mean over seeds, its interval resamples them; `best` is the whitening, or none, that is
best on val of the cell, `reranked` after `rerank_by_neighbours`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.acceptance_runs import Bench
from benchmarks.cells import nullable, write_cell
from benchmarks.claims import over_sites
from benchmarks.site_labels import average_precisions
from benchmarks.three_seeds import read_tested
from flows.options.loading import default_config
from flows.options.names import METHODS, NETWORKS
from flows.steps.whitenings import Learnt, whitenings
from retrieval.describe.describe import extract
from retrieval.networks.network import load_network
from retrieval.whitening.whitening import Whitening
from storage.files.whole import read_json
from storage.hdf5 import file as hdf5
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tasks.describing import network_file

ACCEPT = "--accept-older-code"
BASE = (
    "selection.val_fraction=0.2",
    "selection.test_fraction=0",
    "description.image_size=362",
    "description.multi_scales=[1]",
    "evaluation.split=val",
    "training.image_size=362",
)
CONFIGS = {path.stem: path for path in default_config().parent.glob("*.yaml")}
RECIPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "landmarks": (),
    "mixed": ("training.off_the_shelf_shares=[0,0.25,0.5,0.75]",),
    "projection": ("training.trainable=projection", "training.learning_rate=1e-4", "training.epochs=10"),
    "light": ("training.augment_scale=0.5", "training.augment_crop=0.4", "training.augment_colour=0.4"),
    "memory": ("training.memory=2000", "training.positives_per_tuple=3", "training.negatives=3"),
    "smooth_ap": ("training.loss=smooth_ap", "training.memory=2000", "training.positives_per_tuple=3"),
    "through": ("training.through_model=0.3",),
    "overlap": ("training.positive_weights=overlap",),
    "bands": ("training.overlap_order=easy_to_hard",),
}
"""Beside the file of `configs/` that has the recipe's name, or `default.yaml`."""
BASELINE, TUNED = NETWORKS
NEIGHBOURS, RERANKED = 200, "reranked"
"""Of a list of left-out sites so many of the first are put in a new order by their neighbours."""
BEST = "best"
OFF, OFF_BEST, TUNED_BEST = f"{BASELINE} raw", f"{BASELINE} {BEST}", f"{TUNED} {BEST}"


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    if not asked.report:
        for fold in asked.folds:
            for seed in asked.seeds:
                for recipe in asked.recipes:
                    measure(asked, fold, recipe, seed)
    for judge in ("val", "test"):
        grid = list(gains(asked, judge))
        table = Table(
            *grid[0], title=f"{judge}: mAP in points, mean over {'clusters' if judge == 'val' else 'sites'}"
        )
        for row in grid[1:]:
            table.add_row(*row)
        Console(width=180).print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Ways to train, by val and by left-out sites.")
    parser.add_argument("made", type=Path, metavar="FOLDS", help="folder that benchmarks.folds made")
    parser.add_argument("photos", type=Path, help="folder with collection, landmarks")
    parser.add_argument("--store", type=Path, required=True, help="store of the runs")
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recipes"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of every run")
    parser.add_argument(ACCEPT, nargs="+", default=[], metavar="STAGE", help="as of the pipeline")
    parser.add_argument("--test", action="store_true", help="judge by the sites that are left out, too")
    parser.add_argument("--report", action="store_true", help="read the cells alone")
    return parser


def cell_path(out: Path, fold: int, recipe: str, seed: int) -> Path:
    return out / f"{recipe}-{fold}-{seed}.json"


def measure(asked: argparse.Namespace, fold: int, recipe: str, seed: int) -> None:
    """One cell, as far as it is not there yet."""
    path = cell_path(asked.out, fold, recipe, seed)
    told: dict[str, Any] = read_json(path) or {}
    if "val" in told and ("test" in told or not asked.test):
        return
    began = time.monotonic()
    seeds = (f"selection.seed={seed}", f"training.seed={seed}")
    photos = (asked.made / f"fold{fold}").absolute()
    bench = Bench(photos, asked.store.absolute(), (*BASE, *RECIPES[recipe], *seeds, *asked.set))
    config = CONFIGS.get(recipe, CONFIGS["default"])
    accepted = (part for stage in asked.accept_older_code for part in (ACCEPT, stage))
    record = bench.run("--config", str(config), *accepted).record
    assert record is not None
    store = Store.open(asked.store)
    if "val" not in told:
        told |= {"fold": fold, "recipe": recipe, "seed": seed, "val": val_of(store, record)}
        told |= chosen_of(store, record)
        told["seconds"] = time.monotonic() - began
    if asked.test:
        told["test"] = test_of(store, record, asked.made / "folds.csv", asked.photos, fold)
    write_cell(path, told, indent=None)
    print(f"{recipe}, fold {fold}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True)


def val_of(store: Store, record: RunRecord) -> dict[str, Any]:
    """Clusters of the val queries and, by configuration, their medium AP."""
    tested = read_tested(store.path(record.refs_of("evaluation")[0]))
    found = {
        f"{network} {whitening}": values.tolist()
        for (network, whitening, _, expansion, protocol), values in tested.average_precisions.items()
        if protocol == "medium" and not expansion
    }
    return {"groups": tested.clusters.tolist(), "ap": found}


def chosen_of(store: Store, record: RunRecord) -> dict[str, Any]:
    """What the verdict of the run names, and the whitening, or none, that val chose for each network."""
    verdict = hdf5.read(store.path(record.refs_of("evaluation")[0]), "evaluation")
    candidates = [str(each) for each in verdict["verdict/candidate"]]
    of_network: dict[str, tuple[float, str]] = {}
    for network, whitening, value in zip(
        *(verdict[f"verdict/{column}"] for column in ("network", "whitening", "estimate")), strict=True
    ):
        of_network[str(network)] = max(
            of_network.get(str(network), (-1.0, "")), (float(value), str(whitening))
        )
    return {
        "verdict": candidates[int(verdict["verdict/chosen"])],
        "chosen": {network: whitening for network, (_, whitening) in of_network.items()},
    }


def test_of(store: Store, record: RunRecord, made: Path, photos: Path, fold: int) -> dict[str, Any]:
    """Sites of the queries that the fold leaves out and, by configuration, their AP among all left out."""
    table = pd.read_csv(made, dtype=str, keep_default_na=False)
    table = table[table["fold"] == str(fold)]
    sites = np.where(table["site"] == "", table["file"], table["site"]).astype(str)
    queries = np.flatnonzero(table["site"] != "")
    paths = [photos / str(row.collection) / str(row.file) for row in table.itertuples()]
    found = {}
    for name, rows in described(store, record, paths):
        found[name] = average_precisions(rows, queries, sites)
        found[f"{name} {RERANKED}"] = average_precisions(rows, queries, sites, NEIGHBOURS)
    return {
        "groups": sites[queries].tolist(),
        "ap": {name: nullable(each) for name, each in found.items()},
    }


def described(
    store: Store, record: RunRecord, paths: Sequence[Path]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Configuration, and descriptors of photographs by it, one scale."""
    size, learnt = record.options["description"]["image_size"], whitenings(record)
    for network, artifact in NETWORKS.items():
        weights = load_network(network_file(store.path(record.refs_of(artifact)[0])))
        rows = extract(weights, paths, image_size=size, device="cpu")
        yield f"{network} raw", rows
        for method in METHODS:
            whitening = Whitening.load(store.path(learnt[Learnt(network, "1", method)]))
            yield f"{network} {method}", whitening.apply(rows)


def gains(asked: argparse.Namespace, judge: str) -> Iterator[list[str]]:
    """Rows: recipe, what it rests on, the mAP, and the differences that count."""
    columns = [OFF, OFF_BEST, TUNED_BEST]
    differences = [(TUNED_BEST, OFF_BEST), (TUNED_BEST, OFF), (OFF_BEST, OFF)]
    if judge == "test":
        differences += [(f"{name} {RERANKED}", name) for name in (OFF_BEST, TUNED_BEST)]
        differences.append((f"{TUNED_BEST} {RERANKED}", f"{OFF_BEST} {RERANKED}"))
    yield ["recipe", "cells", *columns, *(f"{first} - {second}" for first, second in differences)]
    for recipe in asked.recipes:
        paths = [cell_path(asked.out, fold, recipe, seed) for fold in asked.folds for seed in asked.seeds]
        cells = [found for found in map(read_json, paths) if found and judge in found]
        if not cells:
            continue
        groups = np.concatenate([np.array(each[judge]["groups"]).astype(str) for each in cells])
        if judge == "val":  # clusters of two folds have nothing to do with each other
            owners = np.repeat(np.arange(len(cells)), [len(each[judge]["groups"]) for each in cells])
            groups = np.array([f"{owner}/{group}" for owner, group in zip(owners, groups, strict=True)])
        wanted = dict.fromkeys([*columns, *(name for pair in differences for name in pair)])
        values = {name: np.concatenate([column(each, judge, name) for each in cells]) for name in wanted}
        means = [f"{100 * estimate(values[name], groups).value:.2f}" for name in columns]
        gained = [estimate(values[first] - values[second], groups) for first, second in differences]
        yield [recipe, str(len(cells)), *means, *map(in_points, gained)]


def column(cell: Mapping[str, Any], judge: str, name: str) -> NDArray[np.float64]:
    """AP of each query by a configuration; `best` stands for the whitening that val chose."""
    name = name.replace(BEST, cell["chosen"][name.split()[0]])
    return np.array(cell[judge]["ap"][name], dtype=np.float64)


def estimate(values: NDArray[np.float64], groups: NDArray[np.str_]) -> Any:
    known = np.isfinite(values)
    return over_sites(values[known], groups[known])


def in_points(found: Any) -> str:
    return f"{100 * found.value:+.2f} [{100 * found.low:+.2f}..{100 * found.high:+.2f}]"


if __name__ == "__main__":
    main()
