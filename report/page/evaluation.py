"""The measurement: mAP with intervals, what training and whitening gain, best and worst queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from report.page.markup import Safe, details, section, table, tag
from report.page.material import Material, Section
from report.tables.evaluation import HARDER, EvaluationTable, harder_cells, read_table, whitening_shown
from retrieval.evaluation.bootstrap import Estimate
from storage.hdf5 import file as hdf5
from storage.hdf5.open import Artifact

BEST, WORST, RANKED = 3, 6, 10
_PREFERRED = ("fine-tuned", "lw", "medium")


@dataclass(frozen=True)
class Ranking:
    """A query's outcome: its name, average precision, and per ranked photograph (name, right|junk|wrong)."""

    query: str
    average_precision: float
    ranked: tuple[tuple[str, str], ...]


def evaluation_section(material: Material) -> Safe | None:
    """The tables, and queries with the photographs that were found for them."""
    path = material.path("evaluation")
    if path is None:
        return None
    found = read_table(path)
    parts: list[Any] = [
        tag(
            "p",
            f"mAP in % on {found.benchmark or 'the benchmark'}, {found.num_database} photographs searched; "
            f"in brackets the {100 * found.confidence:g} % bootstrap interval over clusters.",
        ),
        _table_of(found),
        *_gains(found),
        *_harder(found),
    ]
    if found.verdict:
        parts.insert(0, tag("p", tag("strong", "Verdict of val: "), found.verdict, "."))
    with hdf5.open_artifact(path, "evaluation") as artifact:
        parts += _queries(material, artifact)
    return section("evaluation", "Evaluation", *parts)


def _table_of(found: EvaluationTable) -> Safe:
    protocols = list(dict.fromkeys(row.protocol for row in found.rows))
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in found.rows:
        key = (row.network, whitening_shown(row.whitening), row.scales, row.expansion or "–")
        cells.setdefault(key, {})[row.protocol] = _estimate(row.mean_average_precision)
    num_keys = 4 if any(row.expansion for row in found.rows) else 3  # without any expansion, no column of it
    lines = [
        (*key[:num_keys], *(values.get(name, "–") for name in protocols)) for key, values in cells.items()
    ]
    header = (*("network", "whitening", "scales", "expansion")[:num_keys], *protocols)
    return table(header, lines)


def _gains(found: EvaluationTable) -> list[Safe]:
    rows = [
        (
            f"{each.network} {whitening_shown(each.whitening)} minus {each.baseline} "
            f"{whitening_shown(each.baseline_whitening)}" + (f", {each.expansion}" if each.expansion else ""),
            each.scales,
            each.protocol,
            _estimate(each.difference, "+.1f"),
        )
        for each in (*found.gains, *found.differences)
    ]
    if not rows:
        return []
    shown = table(("what", "scales", "protocol", "difference in points of mAP"), rows)
    return [details("what fine-tuning and whitening gain, paired", shown, open_=True)]


def _harder(found: EvaluationTable) -> list[Safe]:
    """The harder rows of both splits, where there are any."""
    changes = list(dict.fromkeys(row.change for row in found.harder))
    lines = [
        (split, network, whitening_shown(whitening), *(_estimate(cells[name]) for name in changes))
        for split in ("test", "val")
        for (network, whitening), cells in harder_cells(found, split).items()
    ]
    if not lines:
        return []
    words = (
        f"The same labels with harder queries ({HARDER}), medium mAP in %: where the rows above are full, "
        "these still tell networks apart."
    )
    return [
        tag("h3", "Harder queries"),
        tag("p", words),
        table(("split", "network", "whitening", *changes), lines),
    ]


def _estimate(value: Estimate, form: str = ".1f") -> str:
    if not value.num_queries or value.value != value.value:
        return "no query"
    shown = format(100 * value.value, form)
    return shown if value.low != value.low else f"{shown} ({100 * value.low:.1f} to {100 * value.high:.1f})"


def _queries(material: Material, artifact: Artifact) -> list[Any]:
    known = rankings(material, artifact)
    if known is None:
        return []
    title, protocol, ordered = known
    parts: list[Any] = [
        tag("h3", "Best and worst queries"),
        tag("p", f"{title}. Right, junk (not counted) and wrong under the protocol {protocol}."),
    ]
    best, worst = ordered[:BEST], ordered[BEST:][-WORST:][::-1]
    for words, group in (("best", best), ("worst", worst)):
        if group:
            parts += [tag("h4", f"{len(group)} {words}"), *(_row(material, each) for each in group)]
    return parts


def _row(material: Material, found: Ranking) -> Safe:
    signs = {"right": "✓", "junk": "~", "wrong": "✗"}
    pictures, sha_of = material.pictures, material.sha_of
    first = pictures.show(
        sha_of.get(found.query, ""), f"AP {100 * found.average_precision:.1f} %", "query", "query"
    )
    rest = [
        pictures.show(sha_of.get(name, ""), "", label, f"{rank} {signs[label]} {label}")
        for rank, (name, label) in enumerate(found.ranked, start=1)
    ]
    return tag("div", first, *rest, class_="row", tabindex="0")


def rankings(material: Material, artifact: Artifact) -> tuple[str, str, list[Ranking]] | None:
    """How it was searched, the protocol, and the queries, best first; None where nothing is known."""
    columns = {name: _texts(artifact, f"configurations/{name}") for name in _COLUMNS}
    chosen = _choose(columns)
    if chosen is None:
        return None
    names = {name: columns[name][chosen] for name in _COLUMNS}
    precisions = artifact[f"average_precisions/{names['name']}"]
    known = np.flatnonzero(np.isfinite(precisions))
    order = known[np.argsort(-precisions[known], kind="stable")]
    wanted = [*order[:BEST], *order[BEST:][-WORST:]]
    labels = _labels(material, artifact.options.get("split", "test"), names["protocol"])
    if labels is None:
        return None
    queries, database = artifact["queries/name"], artifact["database/name"]
    ranks = artifact.dataset(f"ranks/{names['ranking']}")
    found = [
        _ranking(str(queries[row]), float(precisions[row]), database[ranks[int(row), : RANKED + 5]], labels)
        for row in wanted
    ]
    title = f"{names['network']}, {whitening_shown(names['whitening'])}, scales {names['scales']}"
    return title, names["protocol"], found


_COLUMNS = ("name", "network", "whitening", "scales", "protocol", "ranking")


def _choose(columns: dict[str, list[str]]) -> int | None:
    """The row that stands for the whole chain: fine-tuned, Lw, medium, most scales; else the last one."""
    rows = range(len(columns["name"]))
    wanted = ("network", "whitening", "protocol")

    def fit(row: int) -> tuple[int, int, int]:
        same = sum(columns[name][row] == value for name, value in zip(wanted, _PREFERRED, strict=True))
        return same, len(columns["scales"][row]), row

    return max(rows, key=fit, default=None)


def _texts(artifact: Artifact, path: str) -> list[str]:
    return [str(each) for each in artifact[path]]


Labels = dict[str, tuple[set[str], set[str]]]  # query -> (right, junk)


def _labels(material: Material, split: str, protocol: str) -> Labels | None:
    """Names that are right and junk for each query, as the protocol takes them."""
    arrays, at = material.training_set, f"benchmark/{split}"
    if f"{at}/queries" not in arrays:
        return None
    names = np.array([str(name) for name in arrays["images/name"]], dtype=object)
    right = {"easy": ("easy",), "hard": ("hard",)}.get(protocol, ("easy", "hard"))
    ignored = ("junk", *({"easy", "hard"} - set(right)))
    found: Labels = {}
    for row, query in enumerate(arrays[f"{at}/queries"].tolist()):
        sets = [_named(arrays, at, group, row, names) for group in (right, ignored)]
        found[names[query]] = (sets[0], sets[1] | {names[query]})
    return found


def _named(
    arrays: dict[str, NDArray[Any]], at: str, labels: Sequence[str], row: int, names: NDArray[Any]
) -> set[str]:
    found: set[str] = set()
    for label in labels:
        begin, end = arrays[f"{at}/{label}/indptr"][row : row + 2]
        found |= set(names[arrays[f"{at}/{label}/image"][begin:end]])
    return found


def _ranking(query: str, precision: float, ranked: NDArray[Any], labels: Labels) -> Ranking:
    right, junk = labels.get(query, (set(), set()))
    marked = [
        (str(name), "right" if str(name) in right else "junk" if str(name) in junk else "wrong")
        for name in ranked
        if str(name) != query
    ]
    return Ranking(query, precision, tuple(marked[:RANKED]))


SECTIONS = (Section("evaluation", "evaluation", place=6, make=evaluation_section, turn=1),)
