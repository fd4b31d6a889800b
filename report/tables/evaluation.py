"""The table that an evaluation is read by: its rows, paired differences, and how a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from report.tables.plain import plain_table
from retrieval.evaluation.bootstrap import Estimate, bootstrap_difference, bootstrap_mean
from retrieval.whitening.methods import METHODS
from storage.hdf5.open import open_artifact

if TYPE_CHECKING:
    from rich.table import Table

BASELINE, TUNED = "off-the-shelf", "fine-tuned"
WHITENINGS = {"raw": "raw", **METHODS}
"""As stored -> as shown."""
HARDER = "detail alone, half and quarter size, dark; among the photographs of all splits"
"""What the harder rows are, in a few words."""
WIDE = 118
"""Columns of a terminal from which intervals have decimals and the mean over clusters is shown."""
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
    """mAP of one network minus another's at equal scales and expansion; paired interval.

    whitening: of the network; baseline_whitening: of the other one.
    """

    network: str
    baseline: str
    whitening: str
    scales: str
    expansion: str
    protocol: str
    difference: Estimate
    baseline_whitening: str


@dataclass(frozen=True)
class HarderRow:
    """A configuration with altered queries of one split among all photographs: medium mAP in 0..1."""

    split: str
    network: str
    whitening: str
    change: str
    mean_average_precision: Estimate


@dataclass(frozen=True)
class EvaluationTable:
    """All rows of one evaluation.h5, the differences at equal whitening, and what the whole chain gains.

    gains: the tuned network with Lw minus the baseline raw; num_database: photographs that are searched;
    confidence: of all intervals; harder: of test, then val, none in files of earlier versions; verdict: what
    is used and why, in a sentence; empty = none.
    """

    benchmark: str
    rows: tuple[TableRow, ...]
    differences: tuple[DifferenceRow, ...]
    gains: tuple[DifferenceRow, ...] = ()
    num_database: int = 0
    confidence: float = 0.95
    harder: tuple[HarderRow, ...] = ()
    verdict: str = ""


def read_table(path: Path) -> EvaluationTable:
    """The rows of an evaluation.h5, and fine-tuned minus off-the-shelf wherever both are there.

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
    return EvaluationTable(
        benchmark,
        rows,
        tuple(_differences(arrays, options)),
        tuple(_differences(arrays, options, ("lw", "raw"))),
        len(arrays["database/name"]),
        _resampling(options)["confidence"],
        tuple(_harder(arrays, options)),
        str(next(iter(arrays.get("verdict/sentence", ())), "")),
    )


def _harder(arrays: dict[str, Any], options: dict[str, Any]) -> Iterator[HarderRow]:
    if "harder/change" not in arrays:
        return
    columns = [arrays[f"harder/{name}"].tolist() for name in ("network", "whitening", "change")]
    for split in ("test", "val"):
        precisions, clusters = (arrays[f"harder/{split}/{name}"] for name in ("average_precision", "cluster"))
        for network, whitening, change, values in zip(*columns, precisions, strict=True):
            estimate = bootstrap_mean(values, clusters, **_resampling(options))
            yield HarderRow(split, network, whitening, change, estimate)


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
    arrays: dict[str, Any], options: dict[str, Any], whitenings: tuple[str, str] | None = None
) -> Iterator[DifferenceRow]:
    """Fine-tuned minus off-the-shelf: at equal whitening, or with the first one minus with the second."""
    columns = [arrays[f"configurations/{name}"] for name in _COLUMNS]
    names = {
        tuple(map(str, key)): str(name)
        for *key, name in zip(*columns, arrays["configurations/name"], strict=True)
    }
    for (network, whitening, scales, expansion, protocol), name in names.items():
        other_whitening = whitening if whitenings is None else whitenings[1]
        other = names.get((BASELINE, other_whitening, scales, expansion, protocol))
        asked = whitenings is None or whitening == whitenings[0]
        if network == TUNED and asked and other is not None:
            first, second = (arrays[f"average_precisions/{each}"] for each in (name, other))
            difference = bootstrap_difference(first, second, _clusters(arrays), **_resampling(options))
            row = (TUNED, BASELINE, whitening, scales, expansion, protocol, difference, other_whitening)
            yield DifferenceRow(*row)


def _clusters(arrays: dict[str, Any]) -> Any:
    return arrays.get("queries/cluster", np.arange(len(arrays["queries/name"])))


def _resampling(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "generator": np.random.default_rng(options.get("seed", 0)),
        "resamples": options.get("resamples", 2000),
        "confidence": options.get("confidence", 0.95),
    }


def render(table: EvaluationTable, width: int = WIDE) -> tuple[Table, ...]:
    """Tables for `width` columns (80 suffice): mAP in % per configuration and protocol, the differences in
    points of mAP, and the harder rows of test where there are any.
    """
    protocols = list(dict.fromkeys(row.protocol for row in table.rows))
    names = scale_names([row.scales for row in table.rows])
    wide = width >= WIDE
    harder = [_harder_table(table)] if table.harder else []
    return _map_table(table, protocols, names, wide), _difference_table(table, protocols, names), *harder


def _harder_table(table: EvaluationTable) -> Table:
    rows = harder_cells(table, "test")
    changes = list(dict.fromkeys(row.change for row in table.harder))
    grid = plain_table(f"harder queries of test, mAP in %: {HARDER}")
    for name in ("network", "whitening"):
        grid.add_column(name, no_wrap=True)
    for name in changes:
        grid.add_column(name, justify="right")
    for (network, whitening), cells in rows.items():
        texts = [_interval(cells[name], ".0f") for name in changes]
        grid.add_row(network, whitening_shown(whitening), *texts)
    return grid


def harder_cells(table: EvaluationTable, split: str) -> dict[tuple[str, str], dict[str, Estimate]]:
    """(network, whitening) -> change -> mAP, of the harder rows of a split."""
    cells: dict[tuple[str, str], dict[str, Estimate]] = {}
    for row in table.harder:
        if row.split == split:
            cells.setdefault((row.network, row.whitening), {})[row.change] = row.mean_average_precision
    return cells


def _map_table(table: EvaluationTable, protocols: Sequence[str], names: dict[str, str], wide: bool) -> Table:
    estimates = {row.protocol: row.mean_average_precision for row in table.rows}
    columns = [f"{name}\n{_count(estimates[name].num_queries, 'query')}" for name in protocols]
    clusters = max((estimate.num_clusters for estimate in estimates.values()), default=0)
    title = f"mAP in %, {table.benchmark}: {_count(clusters, 'cluster')}, {table.num_database} photographs"
    legend = [f"In brackets: {100 * table.confidence:g} % interval over clusters."]
    legend += ["c: mean over clusters."] if wide else []
    legend += [f"{short}: scales {scales}." for scales, short in names.items() if short == "multi"]
    grid = _grid(
        title,
        ["network", "whitening" if wide else "whit-\nening", "scales"],
        table.rows,
        columns,
        " ".join(legend),
    )
    for (network, whitening, scales, expansion), cells in _by_configuration(table.rows).items():
        texts = [_map_cell(cells.get(name), wide) for name in protocols]
        labels = [network, whitening_shown(whitening), names[scales]]
        grid.add_row(*labels, *_expansion(table.rows, expansion), *texts)
    return grid


def _difference_table(table: EvaluationTable, protocols: Sequence[str], names: dict[str, str]) -> Table:
    rows = [*table.differences, *table.gains]
    title = f"{rows[0].network} minus {rows[0].baseline}, points of mAP" if rows else "nothing to compare"
    grid = _grid(title, ["whitening", "scales"], rows, protocols, "")
    for each in (table.differences, table.gains):
        for (_, whitening, scales, expansion), cells in _by_configuration(each).items():
            first = next(iter(cells.values()))
            compared = whitening_shown(whitening)
            if first.baseline_whitening != whitening:
                compared += f" vs {whitening_shown(first.baseline_whitening)}"
            texts = [_difference_cell(cells.get(name)) for name in protocols]
            grid.add_row(compared, names[scales], *_expansion(rows, expansion), *texts)
        grid.add_section()
    return grid


def _by_configuration(rows: Sequence[Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    grouped: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        grouped.setdefault((row.network, row.whitening, row.scales, row.expansion), {})[row.protocol] = row
    return grouped


def whitening_shown(stored: str) -> str:
    """A whitening as tables call it."""
    return WHITENINGS.get(stored, stored)


def scale_names(scales: Sequence[str]) -> dict[str, str]:
    """Scales as stored -> short names: '1' is single, one longer set is multi; several keep their text."""
    several = [each for each in dict.fromkeys(scales) if each != "1"]
    names = {each: "multi" if len(several) == 1 else each for each in several}
    return {"1": "single", **names}


def _grid(title: str, labels: list[str], rows: Sequence[Any], columns: Sequence[str], legend: str) -> Table:
    table = plain_table(title, caption=legend)
    for name in (*labels, *(["expansion"] if any(row.expansion for row in rows) else [])):
        table.add_column(name, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")  # wraps at the interval rather than losing digits
    return table


def _expansion(rows: Sequence[Any], expansion: str) -> list[str]:
    """The cell of the expansion column, which is there only where a row has one."""
    return [expansion or "none"] if any(row.expansion for row in rows) else []


def _count(number: int, what: str) -> str:
    plural = what[:-1] + "ies" if what.endswith("y") else what + "s"
    return f"{number} {what if number == 1 else plural}"


def _map_cell(row: TableRow | None, wide: bool) -> str:
    if row is None or not row.mean_average_precision.num_queries:
        return "no query"
    text = _interval(row.mean_average_precision, ".1f" if wide else ".0f")
    return f"{text} c {_number(row.mean_average_precision.over_clusters, '.1f')}" if wide else text


def _interval(estimate: Estimate, form: str) -> str:
    """mAP in % with its interval, whose ends have this form."""
    if not estimate.num_queries:
        return "no query"
    text = _number(estimate.value, ".1f")
    if np.isnan(estimate.low):
        return text
    low, high = (_number(end, form) for end in (estimate.low, estimate.high))
    return f"{text} ({low}–{high})"


def _difference_cell(row: DifferenceRow | None) -> str:
    if row is None or not row.difference.num_queries:
        return "no query"
    found = row.difference
    value, low, high = (
        _number(found.value, "+.1f"),
        *(_number(each, ".1f") for each in (found.low, found.high)),
    )
    return value if np.isnan(found.low) else f"{value} ({low}..{high})"


def _number(share: float, form: str) -> str:
    """A share in percent; no minus before zero."""
    text = format(100 * share, form)
    return text if float(text) else format(0.0, form)
