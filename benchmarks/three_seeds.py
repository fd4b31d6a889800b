"""How much of the gain is chance: everything for several seeds of the split and the training, one cache.

    python -m benchmarks.three_seeds PHOTOS --store DIR [--seeds 0 1 2] [--set KEY=VALUE] [--markdown FILE]

Each seed draws its own split of the clusters and its own training; the reconstruction is shared. Printed: the
table of every seed with its intervals, then mean and spread over the seeds, fine-tuned minus off-the-shelf at
equal whitening, and the evidence that training trained. The interval behind a mean resamples the clusters
that any seed tested, each with its queries of all seeds: a cluster that two seeds test counts once. Exit code
1 unless the mean over seeds of fine-tuned + Lw is above off-the-shelf raw (single scale, medium) on test.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.acceptance_runs import Bench, text_of
from report.tables.evaluation import BASELINE, TUNED, EvaluationTable, TableRow, read_table, render
from retrieval.evaluation.bootstrap import Estimate, bootstrap_mean
from storage.hdf5 import file as hdf5
from storage.store.ledger import RunRecord
from storage.store.store import Store

SINGLE, JUDGED = "1", "medium"
COLUMNS = ("network", "whitening", "scales", "expansion")
Name = tuple[str, str, str, str]
Grid = list[list[str]]


@dataclass(frozen=True)
class Training:
    """What training.h5 says. Columns per epoch from 0; shift: 1 - cosine of descriptors before and after."""

    epochs: dict[str, NDArray[np.float64]]
    best_epoch: int
    shift: NDArray[np.float32]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class SeedQueries:
    """The queries of one seed's test: cluster [Q]; AP [Q] by configuration and protocol, nan = left out."""

    clusters: NDArray[np.int64]
    average_precisions: dict[tuple[str, ...], NDArray[np.float64]]


@dataclass(frozen=True)
class SeedResult:
    """What one seed gave."""

    seed: int
    seconds: float
    ran: dict[str, int]
    table: EvaluationTable
    tested: SeedQueries
    training: Training
    split: dict[str, str]


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    results = []
    for seed in asked.seeds:
        print(f"seed {seed} ...", file=sys.stderr, flush=True)
        results.append(run_seed(asked.photos, asked.store, tuple(asked.set), seed))
        print(f"seed {seed}: {results[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    show(results)
    if asked.markdown:
        asked.markdown.write_text(markdown(results), encoding="utf-8")
    return 0 if mean_gain(results)[0] > 0 else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Mean and spread over seeds of split and training.")
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("--store", type=Path, required=True, help="store, shared by the seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of every run")
    parser.add_argument("--markdown", type=Path, help="file to write the report to")
    return parser


def run_seed(photos: Path, store: Path, sets: tuple[str, ...], seed: int) -> SeedResult:
    """The whole flow with this seed of the split and of the training."""
    sets = (*sets, f"selection.seed={seed}", f"training.seed={seed}")
    outcome = Bench(photos.absolute(), store.absolute(), sets).run()
    record = outcome.record
    assert record is not None
    opened = Store.open(store)
    evaluation = opened.path(record.refs_of("evaluation")[0])
    return SeedResult(
        seed,
        outcome.seconds,
        outcome.ran(),
        read_table(evaluation),
        read_tested(evaluation),
        read_training(opened, record),
        split_sizes(opened, record),
    )


def read_tested(path: Path) -> SeedQueries:
    """Every query's average precision, from an evaluation.h5."""
    with hdf5.open_artifact(path, "evaluation") as artifact:
        columns = [artifact[f"configurations/{name}"] for name in (*COLUMNS, "protocol")]
        names = artifact["configurations/name"]
        found = {
            tuple(map(str, key)): artifact[f"average_precisions/{name}"]
            for name, *key in zip(names, *columns, strict=True)
        }
        return SeedQueries(artifact["queries/cluster"], found)


def read_training(store: Store, record: RunRecord) -> Training:
    """training.h5 of a run."""
    arrays = hdf5.read(store.path(record.refs_of("finetune")[0]) / "training.h5", "training")
    epochs = {name.split("/")[1]: values for name, values in arrays.items() if name.startswith("epochs/")}
    return Training(
        epochs,
        int(arrays["best_epoch"]),
        arrays["descriptor_shift/cosine_distance"],
        tuple(str(text) for text in arrays.get("warnings/text", ())),
    )


def split_sizes(store: Store, record: RunRecord) -> dict[str, str]:
    """Per split: photographs, queries, clusters that have queries."""
    fields = ["images/split", "images/cluster", "queries/image", "queries/split"]
    arrays = hdf5.read(store.path(record.refs_of("training_set")[0]), "training_set", fields)
    sizes = {}
    for number, name in enumerate(("train", "val", "test")):
        photographs = int((arrays["images/split"] == number).sum())
        queries = arrays["queries/image"][arrays["queries/split"] == number]
        clusters = len(set(arrays["images/cluster"][queries].tolist()))
        sizes[name] = f"{photographs} photographs, {len(queries)} queries of {clusters} clusters"
    return sizes


def mean_gain(results: Sequence[SeedResult]) -> tuple[float, float, float]:
    """Mean over seeds, in points: fine-tuned + Lw minus off-the-shelf raw, then the two themselves."""
    tuned = values(results, (TUNED, "lw", SINGLE, ""), JUDGED)
    raw = values(results, (BASELINE, "raw", SINGLE, ""), JUDGED)
    return float(tuned.mean() - raw.mean()), float(tuned.mean()), float(raw.mean())


def values(results: Sequence[SeedResult], name: Name, protocol: str) -> NDArray[np.float64]:
    """[seeds] mAP in % of one configuration."""
    found = [100 * _row(result.table, name, protocol).mean_average_precision.value for result in results]
    return np.array(found, np.float64)


def _row(table: EvaluationTable, name: Name, protocol: str) -> TableRow:
    return next(row for row in table.rows if _name(row) == name and row.protocol == protocol)


def _name(row: TableRow) -> Name:
    return row.network, row.whitening, row.scales, row.expansion


def names_and_protocols(results: Sequence[SeedResult]) -> tuple[list[Name], list[str]]:
    """Configurations and protocols in the order of the first table."""
    rows = results[0].table.rows
    return list(dict.fromkeys(map(_name, rows))), list(dict.fromkeys(row.protocol for row in rows))


def pooled(results: Sequence[SeedResult], name: Name, protocol: str, minus: Name | None = None) -> Estimate:
    """AP of a configuration, or its difference to another on the same queries, with an interval over the
    clusters that any seed tested."""
    values_ = []
    for result in results:
        found = result.tested.average_precisions
        other = 0 if minus is None else found[(*minus, protocol)]
        values_.append(found[(*name, protocol)] - other)
    clusters = np.concatenate([result.tested.clusters for result in results])
    return bootstrap_mean(np.concatenate(values_), clusters, np.random.default_rng(0))


def change(results: Sequence[SeedResult], name: Name, minus: Name, protocol: str) -> str:
    """One configuration minus another in points: mean and spread over seeds, interval over clusters."""
    found = values(results, name, protocol) - values(results, minus, protocol)
    return f"{spread(found, '+.1f')} {interval(pooled(results, name, protocol, minus), '+.1f')}"


def interval(estimate: Estimate, form: str = ".1f") -> str:
    """'[low..high]' in points, '[one cluster]' where there is none."""
    if np.isnan(estimate.low):
        return "[one cluster]"
    return f"[{format(100 * estimate.low, form)}..{format(100 * estimate.high, form)}]"


def spread(found: NDArray[np.float64], form: str = ".1f") -> str:
    """'mean (min..max, sd s)': the standard deviation over seeds is that of a sample."""
    deviation = float(found.std(ddof=1)) if len(found) > 1 else float("nan")
    low, high = format(found.min(), form), format(found.max(), form)
    return f"{format(found.mean(), form)} ({low}..{high}, sd {deviation:.1f})"


def over_seeds(results: Sequence[SeedResult]) -> Grid:
    """Rows: configuration, then mean and spread of mAP in % per protocol."""
    names, protocols = names_and_protocols(results)
    grid = [[*COLUMNS, *protocols]]
    for name in names:
        cells = [
            f"{spread(values(results, name, each))} {interval(pooled(results, name, each))}"
            for each in protocols
        ]
        grid.append([*name, *cells])
    return grid


def equal_whitening(results: Sequence[SeedResult]) -> Grid:
    """Rows: whitening and scales, then mean and spread of fine-tuned minus off-the-shelf per protocol."""
    names, protocols = names_and_protocols(results)
    grid = [[*COLUMNS[1:], *protocols]]
    for name in (name for name in names if name[0] == TUNED):
        cells = [change(results, name, (BASELINE, *name[1:]), each) for each in protocols]
        grid.append([*name[1:], *cells])
    return grid


def required(results: Sequence[SeedResult]) -> Grid:
    """Fine-tuned + Lw against off-the-shelf raw, at equal scales, per seed and in the mean."""
    names, protocols = names_and_protocols(results)
    grid = [["scales", "protocol", *(f"seed {result.seed}" for result in results), "mean of the difference"]]
    for scales in dict.fromkeys(name[2] for name in names):
        for protocol in protocols:
            names_ = (TUNED, "lw", scales, ""), (BASELINE, "raw", scales, "")
            after, before = (values(results, name, protocol) for name in names_)
            cells = [f"{high:.1f} - {low:.1f}" for high, low in zip(after, before, strict=True)]
            grid.append([scales, protocol, *cells, change(results, *names_, protocol)])
    return grid


def trainings(results: Sequence[SeedResult]) -> Grid:
    """One row per seed and epoch: losses, val mAP in %, p, distance of the mined negatives."""
    columns = ("loss_train", "loss_val", "map_val", "gem_p", "mean_negative_distance")
    grid = [["seed", "epoch", "loss train", "loss val", "val mAP %", "GeM p", "negative distance"]]
    for result in results:
        epochs = result.training.epochs
        for row, epoch in enumerate(epochs["epoch"].tolist()):
            cells = [epochs[name][row] * (100 if name == "map_val" else 1) for name in columns]
            kept = " (kept)" if epoch == result.training.best_epoch else ""
            grid.append([str(result.seed), f"{epoch}{kept}", *(f"{cell:.4g}" for cell in cells)])
    return grid


def shifts(results: Sequence[SeedResult]) -> Grid:
    """Per seed how far training moved the descriptors, the split and the time."""
    grid = [["seed", "median cosine distance", "train", "val", "test", "wall", "tasks that ran"]]
    for each in results:
        median = f"{float(np.median(each.training.shift)):.4g}"
        sizes = [each.split[name] for name in ("train", "val", "test")]
        grid.append([str(each.seed), median, *sizes, f"{each.seconds:.0f} s", text_of(each.ran)])
    return grid


def seed_tables(result: SeedResult) -> Grid:
    """A seed's full table with the intervals over clusters."""
    names, protocols = names_and_protocols([result])
    grid = [[*COLUMNS, *protocols]]
    for name in names:
        found = [_row(result.table, name, protocol).mean_average_precision for protocol in protocols]
        grid.append([*name, *(f"{100 * each.value:.1f} {interval(each)}" for each in found)])
    return grid


def sections(results: Sequence[SeedResult]) -> Iterator[tuple[str, Grid]]:
    """Title and table of every part of the report that covers all seeds."""
    seeds = f"{len(results)} seeds of split and training"
    yield (
        f"mAP in %, {results[0].table.benchmark}, {seeds}: mean (min..max, sd) [interval]",
        over_seeds(results),
    )
    yield f"{TUNED} + lw minus {BASELINE} raw, points of mAP (required: above 0, {JUDGED})", required(results)
    yield f"{TUNED} minus {BASELINE} at equal whitening, points of mAP", equal_whitening(results)
    yield "training, epoch by epoch (0 = before training)", trainings(results)
    yield "descriptors before against after training, and the splits", shifts(results)


def verdict(results: Sequence[SeedResult]) -> str:
    """The one line that counts."""
    gain, tuned, raw = mean_gain(results)
    held = f"{TUNED} + lw {tuned:.2f} is {'above' if gain > 0 else 'NOT above'} {BASELINE} raw {raw:.2f}"
    return f"{held} ({gain:+.2f} points of mAP, {JUDGED}, one scale)"


def show(results: Sequence[SeedResult]) -> None:
    """Everything on the terminal."""
    console = Console()
    for result in results:
        console.print(f"\nseed {result.seed}", style="bold")
        for table in render(result.table):
            console.print(table)
        for text in result.training.warnings:
            console.print(f"warning: {text}", highlight=False, markup=False)
    for title, grid in sections(results):
        grid = _without_empty_columns(grid)
        table = Table(*grid[0], title=title)
        for row in grid[1:]:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
    console.print(verdict(results), highlight=False)


def markdown(results: Sequence[SeedResult]) -> str:
    """The report as markdown: over all seeds first, then every seed."""
    parts = ["# Several seeds", "", verdict(results), ""]
    for title, grid in sections(results):
        parts += [f"## {title}", "", *_markdown_table(grid), ""]
    for result in results:
        title = f"## seed {result.seed}: mAP in % [interval over clusters]"
        parts += [title, "", *_markdown_table(seed_tables(result)), ""]
        parts += [*(f"- warning: {text}" for text in result.training.warnings), ""]
    return "\n".join(parts).rstrip() + "\n"


def _without_empty_columns(grid: Grid) -> Grid:
    """A table without the columns that have a title and nothing below it."""
    kept = [number for number in range(len(grid[0])) if any(row[number] for row in grid[1:])]
    return [[row[number] for number in kept] for row in grid]


def _markdown_table(grid: Grid) -> Iterator[str]:
    grid = _without_empty_columns(grid)
    for number, row in enumerate(grid):
        yield "| " + " | ".join(row) + " |"
        if number == 0:
            yield "|" + "---|" * len(row)


if __name__ == "__main__":
    sys.exit(main())
