"""A training set as a person wants to see it: each split, how alike positives are, what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from report.tables.plain import plain_table
from sfm.training_set.splits import SPLIT_NAMES
from sfm.training_set.training_set import TrainingSet
from storage.files.escaping import shown
from storage.schemas.training_set import Dropped

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

LARGEST_SHOWN = 10
_OVERLAP_EDGES = np.linspace(0, 1, 11)
_SCALE_EDGES = np.array([1, 1.1, 1.25, 1.5, 2, 3, 5, np.inf])
_BAR = 40


@dataclass(frozen=True)
class SplitRow:
    """Counts of one split. largest: photographs of its largest clusters, at most LARGEST_SHOWN."""

    name: str
    photographs: int
    registered: int
    clusters: int
    alone: int
    models: int
    queries: int
    benchmark_queries: int
    largest: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Histogram:
    """counts [B] of values between edges [B + 1]; the last edge may be infinite."""

    title: str
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SelectionReport:
    """What `render` shows. without: strategy -> queries without a positive under it; reasons: of photographs
    that are no queries; negatives: how a verdict came out, or how many images are excluded; matched: pairs
    that matching verified, none where they are not listed."""

    splits: tuple[SplitRow, ...]
    histograms: tuple[Histogram, ...]
    without: Mapping[str, int]
    reasons: Mapping[str, int]
    negatives: Mapping[str, int]
    warnings: tuple[str, ...]
    dropped: Dropped | None
    matched: Mapping[str, int]


def report(chosen: TrainingSet) -> SelectionReport:
    """The numbers of a training set."""
    candidates, positives, negatives = chosen.candidates, chosen.positives, chosen.negatives
    shared = candidates.shared_points > 0
    scale = candidates.scale_change[np.isfinite(candidates.scale_change)]
    m3 = _of_positives(chosen)
    histograms = (
        _histogram("overlap of candidates", candidates.overlap[shared], _OVERLAP_EDGES),
        _histogram("overlap of m3 positives", candidates.overlap[m3], _OVERLAP_EDGES),
        _histogram("scale change of candidates", scale, _SCALE_EDGES),
    )
    facts = {
        "allowed verdicts": int(negatives.allowed.sum()),
        "refused verdicts": int((~negatives.allowed).sum()),
    }
    if negatives.excluded is not None:
        facts = {"excluded (query, photograph)": int(negatives.excluded.image.size)}
    return SelectionReport(
        tuple(_split(chosen, number) for number in range(len(SPLIT_NAMES))),
        tuple(each for each in histograms if each.counts.sum()),
        {
            "m1": int((np.diff(positives.m1_pool.indptr) == 0).sum()),
            "m2": int((positives.m2 < 0).sum()),
            "m3": int((np.diff(positives.m3.indptr) == 0).sum()),
        },
        {str(why): int(count) for why, count in dict(chosen.summary.get("not_queries", {})).items()},
        facts,
        tuple(map(str, chosen.summary.get("warnings", ()))),
        chosen.dropped,
        _matched(chosen),
    )


def _matched(chosen: TrainingSet) -> dict[str, int]:
    """How many pairs, and of photographs that no model holds."""
    if chosen.matched is None:
        return {}
    ends = np.stack([chosen.matched.first, chosen.matched.second])
    model = chosen.images.model[ends]
    alone = np.unique(ends[model < 0])
    return {
        "pairs": int(ends.shape[1]),
        "of them in no one model": int(((model[0] != model[1]) | (model[0] < 0)).sum()),
        "photographs without a model in a pair": int(alone.size),
    }


def render(found: SelectionReport) -> Iterator[RenderableType]:
    """Tables and lines for a terminal."""
    yield _split_table(found.splits)
    for histogram in found.histograms:
        yield _bars(histogram)
    total = sum(row.queries for row in found.splits)
    counts = ", ".join(f"{name} {count}" for name, count in found.without.items())
    yield f"queries without a positive, of {total}: {counts}"
    before = " (before clusters were dropped)" if found.dropped is not None else ""
    reasons = "".join(f"\n  {count:6d}  {why}" for why, count in found.reasons.items() if count)
    if reasons:
        yield f"photographs that are no queries{before}:{reasons}"
    yield "negatives: " + ", ".join(f"{count} {what}" for what, count in found.negatives.items())
    if found.matched:
        yield "matched: " + ", ".join(f"{count} {what}" for what, count in found.matched.items())
    yield from (f"note: {text}" for text in found.warnings)
    if found.dropped is not None:
        yield dropped_table(found.dropped)


def dropped_table(dropped: Dropped) -> Table:
    """The clusters that a decontamination took out, and why."""
    title = f"{dropped.cluster.size} clusters that show what the benchmark shows, dropped"
    numbers = ("cluster", "split", "photographs", "inliers", "similarity")
    table = plain_table(title, right=numbers, title_justify="left")
    for name in ("benchmark image", "photograph"):
        table.add_column(name)
    for row in range(dropped.cluster.size):
        inliers = int(dropped.inliers[row])
        table.add_row(
            str(dropped.cluster[row]),
            SPLIT_NAMES[dropped.split[row]],
            str(dropped.photographs[row]),
            "same file" if inliers < 0 else str(inliers),
            f"{dropped.similarity[row]:.3f}",
            shown(dropped.benchmark_image[row]),
            shown(dropped.photograph[row]),
        )
    return table


def _split(chosen: TrainingSet, number: int) -> SplitRow:
    images, name = chosen.images, SPLIT_NAMES[number]
    mine = images.split == number
    sizes = np.unique(images.cluster[mine], return_counts=True)[1]
    labels = chosen.benchmark.get(name)
    return SplitRow(
        name,
        int(mine.sum()),
        int((mine & images.registered).sum()),
        sizes.size,
        int((sizes == 1).sum()),
        int(np.unique(images.model[mine & (images.model >= 0)]).size),
        int((chosen.queries.split == number).sum()),
        0 if labels is None else labels.queries.size,
        tuple(np.sort(sizes)[::-1][:LARGEST_SHOWN].tolist()),
    )


def _of_positives(chosen: TrainingSet) -> NDArray[np.bool_]:
    """[C] whether a candidate is an m3 positive of its query."""
    count = np.int64(chosen.images.cluster.size)
    m3 = chosen.positives.m3
    query = np.repeat(np.arange(len(m3)), np.diff(m3.indptr))
    return np.isin(chosen.candidates.query * count + chosen.candidates.image, query * count + m3.image)


def _histogram(title: str, values: NDArray[np.float32], edges: NDArray[np.float64]) -> Histogram:
    return Histogram(title, edges, np.histogram(values, edges)[0].astype(np.int64))


def _split_table(rows: tuple[SplitRow, ...]) -> Table:
    columns = ("photographs", "registered", "clusters", "of one", "models", "queries", "benchmark\nqueries")
    table = plain_table("training set", ["split"], columns, title_justify="left")
    table.add_column("largest clusters, photographs")
    for row in rows:
        counts = (row.photographs, row.registered, row.clusters, row.alone, row.models, row.queries)
        numbers = map(str, (*counts, row.benchmark_queries))
        table.add_row(row.name, *numbers, ", ".join(map(str, row.largest)))
    return table


def _bars(histogram: Histogram) -> Table:
    table = plain_table(histogram.title, right=("from", "to", "count"), title_justify="left")
    table.add_column("")
    most = int(histogram.counts.max())
    for low, high, count in zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts, strict=True):
        bar = "█" * -(-_BAR * int(count) // most)
        table.add_row(f"{low:.4g}", "" if np.isinf(high) else f"{high:.4g}", str(count), bar)
    return table
