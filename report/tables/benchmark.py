"""A benchmark's result for people and programs: terminal table, CSV, LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from report.tables.plain import plain_table
from retrieval.official.options import expansion_text
from retrieval.official.readers.common import Ids, ScoreRow
from storage.files.escaping import shown
from storage.hdf5.open import open_artifact

if TYPE_CHECKING:
    from rich.table import Table

CSV_COLUMNS = (
    "benchmark", "network", "whitening", "image_size", "scales", "dimensions", "expansion", "notes",
    "protocol", "metric", "value", "queries",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class BenchmarkResult:
    """What a benchmark.h5 holds. facts: the columns of CSV_COLUMNS before the protocol, as text.

    rows: values in 0..1; per_query: [Q] by measure, the main one first; names of queries and database;
    ranks: [Q, K] ids, those beyond the database named in distractors.
    """

    facts: dict[str, str]
    rows: tuple[ScoreRow, ...]
    per_query: dict[str, NDArray[np.float64]]
    query_names: tuple[str, ...]
    database_names: tuple[str, ...]
    distractors: dict[int, str]
    ranks: Ids


def read_result(path: Path) -> BenchmarkResult:
    """The content of a benchmark.h5. Raises storage.hdf5's errors."""
    with open_artifact(path, "benchmark") as file:
        arrays = {name: file[name] for name in file.paths()}
        facts, options = dict(file.attributes), file.options
    columns = (arrays[f"rows/{name}"] for name in ("protocol", "metric", "value", "num_queries"))
    rows = tuple(ScoreRow(str(a), str(b), float(c), int(d)) for a, b, c, d in zip(*columns, strict=True))
    measures = json.loads(str(facts.get("measures", "[]")))
    beyond = zip(arrays["distractors/position"].tolist(), arrays["distractors/name"], strict=True)
    return BenchmarkResult(
        _facts(facts, options),
        rows,
        {name: arrays[f"per_query/{name}"] for name in measures},
        tuple(map(str, arrays["queries/name"])),
        tuple(map(str, arrays["database/name"])),
        {position: str(name) for position, name in beyond},
        arrays["ranks"],
    )


def _facts(facts: dict[str, Any], options: dict[str, Any]) -> dict[str, str]:
    number = int(facts.get("distractors", 0))
    theirs = options["ranks"] is not None
    description = options["description"]
    return {
        "benchmark": str(facts["benchmark"]) + (f" + {number} distractors" if number else ""),
        "network": "ranks " + Path(options["ranks"]).name if theirs else str(facts.get("network", "")),
        "whitening": "" if theirs else str(facts.get("whitening", "raw")),
        "image_size": "" if theirs else str(description["image_size"]),
        "scales": "" if theirs else "+".join(f"{scale:.4g}" for scale in description["scales"]),
        "dimensions": "" if theirs else str(options["dimensions"] or "all"),
        "expansion": "" if theirs else expansion_text(options),
        "notes": str(facts.get("notes", "")),
    }


def render(result: BenchmarkResult) -> Table:
    """One line per protocol, one column per metric, values in %."""
    metrics = _metrics(result.rows)
    table = plain_table(shown(title(result)), ["protocol"], [*metrics, "queries"], gap=2)
    for protocol in _protocols(result.rows):
        cells, count = _line(result.rows, protocol)
        table.add_row(protocol or "all", *(_percent(cells.get(name)) for name in metrics), str(count))
    return table


def title(result: BenchmarkResult) -> str:
    """What was measured, in one line."""
    facts = result.facts
    what = [facts["benchmark"], facts["network"], facts["whitening"]]
    if facts["scales"]:
        what += [
            f"{facts['image_size']} px",
            f"scales {facts['scales']}",
            f"dimensions {facts['dimensions']}",
        ]
    return ", ".join(part for part in (*what, facts["expansion"], facts["notes"]) if part) + ", in %"


def table_rows(result: BenchmarkResult) -> list[dict[str, Any]]:
    """One row per protocol for a Prefect table: the facts, then each metric in %."""
    rows = []
    for protocol in _protocols(result.rows):
        cells, count = _line(result.rows, protocol)
        values: dict[str, Any] = {name: _percent(value) for name, value in cells.items()}
        rows.append({**result.facts, "protocol": protocol, **values, "queries": count})
    return rows


def to_csv(result: BenchmarkResult) -> str:
    """One line per number: CSV_COLUMNS, value in %."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in result.rows:
        value = "nan" if np.isnan(row.value) else f"{100 * row.value:.6f}"
        writer.writerow([*result.facts.values(), row.protocol, row.metric, value, row.num_queries])
    return text.getvalue()


def to_latex(result: BenchmarkResult) -> str:
    """A tabular (package booktabs): one line per protocol, values in %."""
    metrics = _metrics(result.rows)
    lines = [
        f"% {_ascii(title(result))}",
        rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        r"\toprule",
        " & ".join(["protocol", *map(_escaped, metrics)]) + r" \\",
        r"\midrule",
    ]
    for protocol in _protocols(result.rows):
        cells, _ = _line(result.rows, protocol)
        values = [_percent(cells.get(name)) for name in metrics]
        lines.append(" & ".join([_escaped(protocol or "all"), *values]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _protocols(rows: Sequence[ScoreRow]) -> list[str]:
    return list(dict.fromkeys(row.protocol for row in rows))


def _metrics(rows: Sequence[ScoreRow]) -> list[str]:
    return list(dict.fromkeys(row.metric for row in rows))


def _line(rows: Sequence[ScoreRow], protocol: str) -> tuple[dict[str, float], int]:
    mine = [row for row in rows if row.protocol == protocol]
    return {row.metric: row.value for row in mine}, mine[0].num_queries


def _percent(value: float | None) -> str:
    return "" if value is None else "–" if np.isnan(value) else f"{100 * value:.2f}"


def _escaped(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, f"\\{sign}")
    return text


def _ascii(text: str) -> str:
    return " ".join(text.encode("ascii", "replace").decode().split())
