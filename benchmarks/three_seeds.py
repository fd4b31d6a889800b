"""How much of the gain is chance: everything for several seeds of the split and the training, one cache.

    python -m benchmarks.three_seeds PHOTOS --store DIR [--seeds 0 1 2] [--set KEY=VALUE] [--markdown FILE]

Each seed draws its own split of the clusters and its own training; the reconstruction is shared. Printed: the
table of every seed with its intervals, then mean and spread over the seeds, fine-tuned minus off-the-shelf at
equal whitening, and the evidence that training trained. Exit code 1 unless the mean over seeds of fine-tuned
+ Lw is above off-the-shelf raw (single scale, medium) on the test benchmark.
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
from rich.table import Table

from benchmarks.acceptance_runs import Bench, text_of
from retrieval.bootstrap import Estimate
from retrieval.evaluation_table import BASELINE, TUNED, EvaluationTable, TableRow, read_table, render
from storage import hdf5
from storage.runs import RunRecord
from storage.store import Store

SINGLE, JUDGED = "1", "medium"
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
class SeedResult:
    """What one seed gave."""

    seed: int
    seconds: float
    ran: dict[str, int]
    table: EvaluationTable
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
    table = read_table(opened.path(record.refs_of("evaluation")[0]))
    training = read_training(opened, record)
    return SeedResult(seed, outcome.seconds, outcome.ran(), table, training, split_sizes(opened, record))


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


def spread(found: NDArray[np.float64], form: str = ".1f") -> str:
    """'mean (min..max, sd s)': the standard deviation over seeds is that of a sample."""
    deviation = float(found.std(ddof=1)) if len(found) > 1 else float("nan")
    low, high = format(found.min(), form), format(found.max(), form)
    return f"{format(found.mean(), form)} ({low}..{high}, sd {deviation:.1f})"


def estimate_text(estimate: Estimate, form: str = ".1f") -> str:
    """A mAP or a difference in points with its interval over clusters."""
    text = format(100 * estimate.value, form)
    return f"{text} ({format(100 * estimate.low, form)}..{format(100 * estimate.high, form)})"


def over_seeds(results: Sequence[SeedResult]) -> Grid:
    """Rows: configuration, then mean and spread of mAP in % per protocol."""
    names, protocols = names_and_protocols(results)
    grid = [["network", "whitening", "scales", "expansion", *protocols]]
    for name in names:
        grid.append([*name, *(spread(values(results, name, protocol)) for protocol in protocols)])
    return grid


def equal_whitening(results: Sequence[SeedResult]) -> Grid:
    """Rows: whitening and scales, then mean and spread of fine-tuned minus off-the-shelf per protocol."""
    names, protocols = names_and_protocols(results)
    grid = [["whitening", "scales", "expansion", *protocols]]
    for name in (name for name in names if name[0] == TUNED):
        baseline = (BASELINE, *name[1:])
        changes = [values(results, name, each) - values(results, baseline, each) for each in protocols]
        grid.append([*name[1:], *(spread(change, "+.1f") for change in changes)])
    return grid


def required(results: Sequence[SeedResult]) -> Grid:
    """Fine-tuned + Lw against off-the-shelf raw, at equal scales, per seed and in the mean."""
    names, protocols = names_and_protocols(results)
    grid = [["scales", "protocol", *(f"seed {result.seed}" for result in results), "mean of the difference"]]
    for scales in dict.fromkeys(name[2] for name in names):
        for protocol in protocols:
            tuned = values(results, (TUNED, "lw", scales, ""), protocol)
            raw = values(results, (BASELINE, "raw", scales, ""), protocol)
            cells = [f"{after:.1f} - {before:.1f}" for after, before in zip(tuned, raw, strict=True)]
            grid.append([scales, protocol, *cells, spread(tuned - raw, "+.1f")])
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
    grid = [["network", "whitening", "scales", "expansion", *protocols]]
    for name in names:
        found = [_row(result.table, name, protocol).mean_average_precision for protocol in protocols]
        grid.append([*name, *(estimate_text(each) for each in found)])
    return grid


def sections(results: Sequence[SeedResult]) -> Iterator[tuple[str, Grid]]:
    """Title and table of every part of the report that covers all seeds."""
    seeds = f"{len(results)} seeds of split and training"
    yield (
        f"mAP in %, {results[0].table.benchmark}, {seeds}: mean (min..max, standard deviation)",
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
        table = Table(*grid[0], title=title)
        for row in grid[1:]:
            table.add_row(*row)
        console.print(table)
    console.print(verdict(results), highlight=False)


def markdown(results: Sequence[SeedResult]) -> str:
    """The report as markdown: over all seeds first, then every seed."""
    parts = ["# Several seeds", "", verdict(results), ""]
    for title, grid in sections(results):
        parts += [f"## {title}", "", *_markdown_table(grid), ""]
    for result in results:
        title = f"## seed {result.seed}: mAP in % (interval over clusters)"
        parts += [title, "", *_markdown_table(seed_tables(result)), ""]
        parts += [f"- warning: {text}" for text in result.training.warnings]
    return "\n".join(parts).rstrip() + "\n"


def _markdown_table(grid: Grid) -> Iterator[str]:
    for number, row in enumerate(grid):
        yield "| " + " | ".join(row) + " |"
        if number == 0:
            yield "|" + "---|" * len(row)


if __name__ == "__main__":
    sys.exit(main())
