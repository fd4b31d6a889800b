"""The table of a sweep: a row per combination; as text, as CSV, as Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from flows.options.sweep import Column, Combination, Sweep, short_names, text_of
from report.tables.evaluation import TableRow, read_table, scale_names
from report.tables.training import read_training
from retrieval.evaluation.bootstrap import Estimate
from storage.files import whole
from storage.store.ledger import RunRecord
from storage.store.store import Store

PROTOCOLS = ("easy", "medium", "hard")
LEGEND = (
    "mAP in % on the held-back places, in brackets the interval over clusters; training s: seconds that the "
    "network was trained, whenever that was."
)


@dataclass(frozen=True)
class Outcome:
    """What came out of a combination. cells: (column, protocol) -> mAP in 0..1; error: why it failed."""

    combination: Combination
    run: str = ""
    cells: Mapping[tuple[Column, str], Estimate] = field(default_factory=dict)
    best_epoch: int | None = None
    seconds: float = math.nan
    error: str = ""


def outcome_of(store: Store, record: Any, sweep: Sweep, combination: Combination) -> Outcome:
    """The numbers of a finished run. Raises storage.hdf5's errors."""
    assert isinstance(record, RunRecord)
    (evaluation,), (tuned,) = record.refs_of("evaluation"), record.refs_of("finetune")
    rows = read_table(store.path(evaluation)).rows
    names = scale_names([row.scales for row in rows])
    cells = {
        (column, row.protocol): row.mean_average_precision
        for column in sweep.columns
        for row in rows
        if _shown(row, names) == column
    }
    sidecar = store.sidecar(tuned)
    parts = sidecar.facts.get("summary", {}).get("seconds", {}) if sidecar else {}
    best = read_training(store.path(tuned) / "training.h5").best_epoch
    seconds = sum(parts.values()) if parts else math.nan
    return Outcome(combination, record.id, cells, best, seconds)


def _shown(row: TableRow, names: Mapping[str, str]) -> Column | None:
    """The column that a row of an evaluation belongs to; rows with query expansion to none."""
    if row.expansion:
        return None
    return Column(row.network, row.whitening, "single" if names[row.scales] == "single" else "multi")


def write_tables(sweep: Sweep, outcomes: Sequence[Outcome], folder: Path) -> tuple[Path, Path]:
    """<name>.csv (every number) and <name>.md (to read) in a folder, each replaced in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header, *_ = rows = plain_rows(sweep, outcomes)
    writer.writerows([header.keys(), *(row.values() for row in rows)])
    whole.write_text(folder / f"{sweep.name}.csv", text.getvalue())
    whole.write_text(folder / f"{sweep.name}.md", markdown(sweep, outcomes))
    return folder / f"{sweep.name}.csv", folder / f"{sweep.name}.md"


def markdown(sweep: Sweep, outcomes: Sequence[Outcome]) -> str:
    """The table as Markdown, the legend and failures below it."""
    lines = list(_markdown_rows(grid(sweep, outcomes)))
    lines += ["", LEGEND]
    if means := seed_means(sweep, outcomes):
        lines += ["", *_markdown_rows([seed_header(sweep), *means])]
    lines += [
        f"\nCombination {each.combination.number}: {_cell(each.error)}" for each in outcomes if each.error
    ]
    return "\n".join(lines) + "\n"


def plain_rows(sweep: Sweep, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A mapping per combination, numbers as numbers: mAP and its interval in %, '' where there is none."""
    return [dict(_plain(sweep, each)) for each in outcomes]


def _plain(sweep: Sweep, outcome: Outcome) -> Iterator[tuple[str, Any]]:
    yield "combination", outcome.combination.number
    yield from ((key, text_of(outcome.combination.values[key])) for key in sweep.keys)
    yield "best epoch", "" if outcome.best_epoch is None else outcome.best_epoch
    yield "training s", "" if math.isnan(outcome.seconds) else round(outcome.seconds, 1)
    for column, protocol in product(sweep.columns, PROTOCOLS):
        found = outcome.cells.get((column, protocol))
        for end, name in (("", "value"), (" low", "low"), (" high", "high")):
            value = getattr(found, name, math.nan)
            yield f"{column} {protocol}{end}", "" if math.isnan(value) else round(100 * value, 2)
    yield "run", outcome.run
    yield "error", outcome.error


def _headings(sweep: Sweep) -> list[str]:
    return [f"{column} {protocol}" for column, protocol in product(sweep.columns, PROTOCOLS)]


def grid(sweep: Sweep, outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Header and rows as text."""
    header = [
        "",
        *short_names(sweep.keys).values(),
        *_headings(sweep),
        "best epoch",
        "training s",
    ]
    return [header, *(_text_row(sweep, each) for each in outcomes)]


def _text_row(sweep: Sweep, outcome: Outcome) -> list[str]:
    values = [text_of(value) for value in outcome.combination.values.values()]
    cells = [
        _estimate(outcome.cells.get(place), bool(outcome.error))
        for place in product(sweep.columns, PROTOCOLS)
    ]
    best = "" if outcome.best_epoch is None else str(outcome.best_epoch)
    seconds = "" if math.isnan(outcome.seconds) else f"{outcome.seconds:.0f}"
    return [str(outcome.combination.number), *values, *cells, best, seconds]


def _estimate(found: Estimate | None, failed: bool) -> str:
    if failed:
        return "failed"
    if found is None or not found.num_queries:
        return "no query"
    text = f"{100 * found.value:.1f}"
    return text if math.isnan(found.low) else f"{text} ({100 * found.low:.0f}–{100 * found.high:.0f})"


def _is_seed(key: str) -> bool:
    return key.rsplit(".", 1)[-1] == "seed"


def seed_means(sweep: Sweep, outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A row per combination of the other options, where seeds differ."""
    if not any(map(_is_seed, sweep.keys)):
        return []
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for each in outcomes:
        if not each.error:
            values = each.combination.values.items()
            groups.setdefault(tuple(text_of(v) for k, v in values if not _is_seed(k)), []).append(each)
    return [
        [
            *labels,
            str(len(members)),
            *(_spread(members, *place) for place in product(sweep.columns, PROTOCOLS)),
        ]
        for labels, members in groups.items()
    ]


def seed_header(sweep: Sweep) -> list[str]:
    """The header of `seed_means`."""
    names = short_names(sweep.keys)
    return [*(name for key, name in names.items() if not _is_seed(key)), "runs", *_headings(sweep)]


def _spread(members: Sequence[Outcome], column: Column, protocol: str) -> str:
    found = [each.cells.get((column, protocol)) for each in members]
    values = [100 * each.value for each in found if each is not None and each.num_queries]
    if not values:
        return "no query"
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _markdown_rows(grid: Sequence[Sequence[str]]) -> Iterator[str]:
    header, *rows = grid
    yield "| " + " | ".join(map(_cell, header)) + " |"
    yield "|" + "---|" * len(header)
    yield from ("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
