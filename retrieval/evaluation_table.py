"""The table that an evaluation is read by: its rows, paired differences, and how a terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.bootstrap import Estimate, bootstrap_difference, bootstrap_mean
from storage.hdf5 import open_artifact

if TYPE_CHECKING:
    from rich.table import Table

BASELINE, TUNED = "off-the-shelf", "fine-tuned"
_COLUMNS = ("network", "whitening", "scales", "expansion", "protocol")


@dataclass(frozen=True)
class TableRow:
    """A configuration under one protocol: mAP in 0..1, its interval, the mean over clusters, the counts.

    num_left_out: queries without a positive under the protocol, not in the mean;
    mean_precision_at: {k: 0..1}.
    """

    network: str
    whitening: str
    scales: str
    expansion: str
    protocol: str
    mean_average_precision: Estimate
    mean_precision_at: dict[int, float]
    num_left_out: int


@dataclass(frozen=True)
class DifferenceRow:
    """mAP of one network minus another's at equal whitening, scales and expansion; paired interval."""

    network: str
    baseline: str
    whitening: str
    scales: str
    expansion: str
    protocol: str
    difference: Estimate


@dataclass(frozen=True)
class EvaluationTable:
    """All rows of one evaluation.h5 and the differences at equal whitening."""

    benchmark: str
    rows: tuple[TableRow, ...]
    differences: tuple[DifferenceRow, ...]


def read_table(path: Path, *, baseline: str = BASELINE, tuned: str = TUNED) -> EvaluationTable:
    """The rows of an evaluation.h5, and tuned minus baseline wherever both are there.

    Intervals follow the options stored in the file: the same numbers on every reading.
    Raises storage.hdf5's errors.
    """
    with open_artifact(path, "evaluation") as artifact:
        options, benchmark = artifact.options, str(artifact.attributes.get("benchmark", ""))
        arrays = {
            name: artifact[name] for name in artifact.paths() if not name.startswith(("ranks", "scores"))
        }
    num_rows = len(arrays["configurations/name"])
    if "configurations/expansion" not in arrays:
        arrays["configurations/expansion"] = np.full(num_rows, "")
    rows = tuple(_row(arrays, options, index) for index in range(num_rows))
    return EvaluationTable(benchmark, rows, tuple(_differences(arrays, options, baseline, tuned)))


def _row(arrays: dict[str, Any], options: dict[str, Any], index: int) -> TableRow:
    values = arrays[f"average_precisions/{arrays['configurations/name'][index]}"]
    estimate = bootstrap_mean(values, _clusters(arrays), **_resampling(options))
    depths = arrays.get("precision_at/k", ())
    precisions = {int(k): float(arrays["precision_at/value"][index, i]) for i, k in enumerate(depths)}
    network, whitening, scales, expansion, protocol = (
        str(arrays[f"configurations/{name}"][index]) for name in _COLUMNS
    )
    left_out = int(np.isnan(values).sum())
    return TableRow(network, whitening, scales, expansion, protocol, estimate, precisions, left_out)


def _differences(
    arrays: dict[str, Any], options: dict[str, Any], baseline: str, tuned: str
) -> Sequence[DifferenceRow]:
    columns = [arrays[f"configurations/{name}"] for name in _COLUMNS]
    names = {
        tuple(map(str, key)): str(name)
        for *key, name in zip(*columns, arrays["configurations/name"], strict=True)
    }
    found = []
    for key, name in names.items():
        other = names.get((baseline, *key[1:]))
        if key[0] == tuned and other is not None:
            first, second = (arrays[f"average_precisions/{each}"] for each in (name, other))
            difference = bootstrap_difference(first, second, _clusters(arrays), **_resampling(options))
            found.append(DifferenceRow(tuned, baseline, key[1], key[2], key[3], key[4], difference))
    return found


def _clusters(arrays: dict[str, Any]) -> Any:
    return arrays.get("queries/cluster", np.arange(len(arrays["queries/name"])))


def _resampling(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "generator": np.random.default_rng(options.get("seed", 0)),
        "resamples": options.get("resamples", 2000),
        "confidence": options.get("confidence", 0.95),
    }


def render(table: EvaluationTable) -> tuple[Table, Table]:
    """Two tables for a terminal: mAP in % per configuration and protocol, and the differences in points."""
    protocols = list(dict.fromkeys(row.protocol for row in table.rows))
    main = _grid(f"mAP in %, {table.benchmark} (interval over clusters; c = mean over clusters)", protocols)
    for (network, *names), cells in _by_configuration(table.rows).items():
        main.add_row(network, *names, *(_map_cell(cells.get(name)) for name in protocols))
    first = table.differences[0] if table.differences else None
    title = (
        f"{first.network} minus {first.baseline}, points of mAP"
        if first
        else "no pair of networks to compare"
    )
    second = _grid(title, protocols)
    for (network, *names), changes in _by_configuration(table.differences).items():
        second.add_row(network, *names, *(_difference_cell(changes.get(name)) for name in protocols))
    return main, second


def _by_configuration(rows: Sequence[Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    grouped: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        grouped.setdefault((row.network, row.whitening, row.scales, row.expansion), {})[row.protocol] = row
    return grouped


def _grid(title: str, protocols: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(title=title)
    for name in ("network", "whitening", "scales", "expansion"):
        table.add_column(name)
    for name in protocols:
        table.add_column(name, justify="right")
    return table


def _map_cell(row: TableRow | None) -> str:
    if row is None or not row.mean_average_precision.num_queries:
        return "no query"
    estimate = row.mean_average_precision
    return f"{_percent(estimate, '.1f')} c {100 * estimate.over_clusters:.1f}"


def _difference_cell(row: DifferenceRow | None) -> str:
    return "no query" if row is None or not row.difference.num_queries else _percent(row.difference, "+.1f")


def _percent(estimate: Estimate, form: str) -> str:
    text = format(100 * estimate.value, form)
    if np.isnan(estimate.low):
        return text
    return f"{text} ({format(100 * estimate.low, form)}..{format(100 * estimate.high, form)})"
