"""What training and whitening give on sites that training never saw, over several splits, judged by labels.

    python -m benchmarks.labelled_splits STORE LABELS.csv [--seeds 0 1 2 3 4] [--markdown FILE]

STORE holds a finished run per seed of `selection.seed` (`python -m benchmarks.three_seeds` makes them).
Queries of a seed: the photographs of a labelled site none of whose photographs is in its train or val split.
Every other photograph of the collection is in the database; right answers are those of the query's site.
LABELS.csv has the columns sha256, kind, site; the pipeline never reads it. Whitenings keep 256, 128 and 64
dimensions as well. An interval resamples the sites that any seed tested, each with its queries of all seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.site_labels import average_precisions
from flows.options.names import METHODS, NETWORKS
from flows.steps.whitenings import Learnt, whitenings
from retrieval.describe.rows import descriptor_rows
from retrieval.evaluation.bootstrap import Estimate, bootstrap_mean
from retrieval.whitening.whitening import Whitening
from storage.hdf5 import file as hdf5
from storage.store import chunks, ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tasks.describing import network_digest

DISTRACTOR = "distractor"
DIMENSIONS = (None, 256, 128, 64)
BASELINE, TUNED = NETWORKS
Cell = tuple[str, str, str, int]  # network, scales, whitening, dimensions


@dataclass(frozen=True)
class Tested:
    """Queries of one seed: site [Q], average precision [Q] by cell."""

    seed: int
    sites: NDArray[np.str_]
    average_precisions: Mapping[Cell, NDArray[np.float64]]


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    store, labels = Store.open(asked.store), pd.read_csv(asked.labels, dtype=str)
    tested = [test(store, record_of(store, seed), labels, seed) for seed in asked.seeds]
    grids = [cells(tested), differences(tested)]
    console = Console(width=200)
    for grid in grids:
        table = Table(*grid[0])
        for row in grid[1:]:
            table.add_row(*row)
        console.print(table)
    if asked.markdown:
        asked.markdown.write_text("\n\n".join(map(_markdown, grids)) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Gain on sites that training never saw, judged by labels.")
    parser.add_argument("store", type=Path, help="store with a finished run per seed")
    parser.add_argument("labels", type=Path, help="CSV file: sha256, kind, site")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--markdown", type=Path, help="file to write the tables to")
    return parser


def record_of(store: Store, seed: int) -> RunRecord:
    """The latest finished run with that seed of the split and of the training."""
    for record in sorted(ledger.records(store), key=lambda each: each.started, reverse=True):
        options = record.options
        if record.refs_of("evaluation") and (options["selection"]["seed"], options["training"]["seed"]) == (
            seed, seed,
        ):  # fmt: skip
            return record
    raise SystemExit(f"{store.root}: no finished run with selection.seed={seed} and training.seed={seed}")


def test(store: Store, record: RunRecord, labels: pd.DataFrame, seed: int) -> Tested:
    """Every query of every cell of a run."""
    shas = labels["sha256"].to_list()
    names = np.where(labels["kind"] == DISTRACTOR, labels["sha256"], labels["site"]).astype(str)
    queries = np.flatnonzero(held_back(store, record, labels))
    found = {cell: average_precisions(rows, queries, names) for cell, rows in described(store, record, shas)}
    return Tested(seed, names[queries], found)


def held_back(store: Store, record: RunRecord, labels: pd.DataFrame) -> NDArray[np.bool_]:
    """[N] photographs of labelled sites that train and val have nothing of."""
    arrays = hdf5.read(
        store.path(record.refs_of("training_set")[0]), "training_set", ["images/sha256", "images/split"]
    )
    seen = {str(sha) for sha, split in zip(*arrays.values(), strict=True) if split != 2}
    sites = set(labels["site"][labels["sha256"].isin(seen)])
    return np.array((labels["kind"] != DISTRACTOR) & ~labels["site"].isin(sites))


def described(
    store: Store, record: RunRecord, shas: Sequence[str]
) -> Iterator[tuple[Cell, NDArray[np.float32]]]:
    """Descriptors [N, d] of every cell."""
    learnt = whitenings(record)
    for network, artifact in NETWORKS.items():
        digest = network_digest(store, record.refs_of(artifact)[0])
        for scales, files in files_by_scales(store, record, digest).items():
            rows = descriptor_rows(files, shas)
            yield (network, scales, "raw", rows.shape[1]), rows
            for method in METHODS:
                whitening = Whitening.load(store.path(learnt[Learnt(network, scales, method)]))
                for dimensions in DIMENSIONS:
                    kept = whitening.apply(rows, dimensions)
                    yield (network, scales, method, kept.shape[1]), kept


def files_by_scales(store: Store, record: RunRecord, digest: str) -> dict[str, dict[str, Path]]:
    """Scales -> photograph -> file of its descriptor by a network, the single scale first."""
    found: dict[str, dict[str, Path]] = {}
    for ref in record.refs_of("descriptors"):
        with hdf5.open_artifact(store.path(ref), "descriptors") as chunk:
            scales = "+".join(f"{each:.4g}" for each in chunk.options["scales"])
        made = {item for item, facts in chunks.read(store.root, ref).items() if facts["input"] == digest}
        found.setdefault(scales, {}).update(dict.fromkeys(made, store.path(ref)))
    return {scales: found[scales] for scales in sorted(found, key=len) if found[scales]}


def estimate(tested: Sequence[Tested], cell: Cell, minus: Cell | None = None) -> Estimate:
    """Mean over all queries of all seeds."""
    values = [
        each.average_precisions[cell] - (0 if minus is None else each.average_precisions[minus])
        for each in tested
    ]
    sites = np.unique(np.concatenate([each.sites for each in tested]), return_inverse=True)[1]
    return bootstrap_mean(np.concatenate(values), sites, np.random.default_rng(0))


def _text(tested: Sequence[Tested], cell: Cell, minus: Cell | None = None) -> list[str]:
    form = ".1f" if minus is None else "+.1f"
    each = [
        100 * float((one.average_precisions[cell] - (one.average_precisions[minus] if minus else 0)).mean())
        for one in tested
    ]
    found = estimate(tested, cell, minus)
    interval = f"{format(100 * found.low, form)}..{format(100 * found.high, form)}"
    deviation = float(np.std(each, ddof=1)) if len(each) > 1 else float("nan")
    return [
        *(format(value, form) for value in each),
        format(np.mean(each), form),
        f"{deviation:.1f}",
        interval,
    ]


def _heads(tested: Sequence[Tested]) -> list[str]:
    seeds = [f"seed {each.seed}: {len(each.sites)} of {len(set(each.sites))}" for each in tested]
    return [*seeds, "mean", "sd", "95 % over sites"]


def cells(tested: Sequence[Tested]) -> list[list[str]]:
    """mAP in % of every cell; the heads have queries and sites."""
    rows = [[*map(str, cell), *_text(tested, cell)] for cell in tested[0].average_precisions]
    return [["network", "scales", "whitening", "dimensions", *_heads(tested)], *rows]


def differences(tested: Sequence[Tested]) -> list[list[str]]:
    """Differences in points at equal scales: whitenings per network and size, then fine-tuned beside off the
    shelf."""
    rows = []
    for cell in tested[0].average_precisions:
        network, scales, whitening, dimensions = cell
        others = []
        if network == TUNED:
            others.append(("off the shelf", (BASELINE, scales, whitening, dimensions)))
        if whitening == "lw":
            others.append(("pcaw", (network, scales, "pcaw", dimensions)))
        if whitening != "raw":
            others.append(("raw", (network, scales, "raw", dimensions)))
        rows += [
            [*map(str, cell), name, *_text(tested, cell, other)]
            for name, other in others
            if other in tested[0].average_precisions
        ]
    return [["network", "scales", "whitening", "dimensions", "minus", *_heads(tested)], *rows]


def _markdown(grid: Sequence[Sequence[str]]) -> str:
    lines = [grid[0], ["---"] * len(grid[0]), *grid[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
