"""The best and the worst queries of a benchmark as a contact sheet: what was asked, what came first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from report.sheets.contact_sheet import BLACK, GREEN, GREY, RED, TILE_PX, ContactSheet
from report.tables.benchmark import BenchmarkResult
from retrieval.official.readers.common import Benchmark, Ids

Verdict = Literal["query", "positive", "ignored", "wrong"]
QUERIES, SHOWN = 5, 6
_COLOURS = {"query": BLACK, "positive": GREEN, "ignored": GREY, "wrong": RED}


class NothingMeasured(ValueError):
    """A result in which no query counts."""


@dataclass(frozen=True)
class SheetTile:
    """One image: the query q (index), or what stands in its list (database id)."""

    verdict: Verdict
    index: int
    caption: str


def sheet_rows(result: BenchmarkResult, benchmark: Benchmark, count: int = QUERIES) -> list[list[SheetTile]]:
    """Rows of the `count` best queries by the main measure, then of the worst; each with its first images.

    Of equal queries the earlier ones. Raises NothingMeasured.
    """
    name, values = next(iter(result.per_query.items()), ("", np.empty(0)))
    counted = np.flatnonzero(np.isfinite(values))
    if not counted.size:
        raise NothingMeasured(f"no query of {benchmark.name} counts; there is nothing to show")
    worst = counted[np.argsort(values[counted], kind="stable")]
    best = counted[np.argsort(-values[counted], kind="stable")]
    count = min(count, max(1, counted.size // 2))
    return [_row(result, benchmark, int(q), name) for q in (*best[:count], *worst[:count])]


def _row(result: BenchmarkResult, benchmark: Benchmark, q: int, measure: str) -> list[SheetTile]:
    value = 100 * float(result.per_query[measure][q])
    tiles = [SheetTile("query", q, f"{measure} {value:.1f}")]
    ignored = benchmark.ignored[q] if benchmark.ignored else np.empty(0, np.int64)
    for place, image in enumerate(result.ranks[q, :SHOWN].tolist(), start=1):
        if image >= 0:
            tiles.append(SheetTile(_verdict(image, benchmark.positives[q], ignored), image, f"place {place}"))
    return tiles


def _verdict(image: int, positives: Ids, ignored: Ids) -> Verdict:
    if image in ignored:
        return "ignored"
    return "positive" if image in positives else "wrong"


def draw(rows: list[list[SheetTile]], load: Callable[[SheetTile], NDArray[np.uint8]], out: Path) -> None:
    """Write the sheet as a PNG, whole or not at all; load(tile) -> [H, W, 3] uint8."""
    sheet = ContactSheet(len(rows), max(map(len, rows)), least_width=420)
    header = "query, then its list: green positive, red wrong, grey ignored; best queries, then the worst"
    sheet.head(header, BLACK, size=11)
    for line, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            sheet.tile(line, column, load(tile), _COLOURS[tile.verdict], tile.caption)
    sheet.save(out)


def write_sheet(
    result: BenchmarkResult, benchmark: Benchmark, out: Path, distractors: Path | None = None
) -> int:
    """The contact sheet of a result; how many rows it has. Raises NothingMeasured, UnreadablePhotograph."""
    from retrieval.describe.images import load_photograph

    rows = sheet_rows(result, benchmark)

    def load(tile: SheetTile) -> NDArray[np.uint8]:
        if tile.verdict == "query":
            image = benchmark.queries[tile.index * benchmark.query_frames]
            return load_photograph(benchmark.root / image.file, 2 * TILE_PX, image.box, as_reference=True)
        position = tile.index * benchmark.database_frames
        if position < len(benchmark.database):
            path = benchmark.root / benchmark.database[position].file
        elif distractors is not None:
            path = distractors / result.distractors[tile.index]
        else:
            return np.full((TILE_PX, TILE_PX, 3), 200, dtype=np.uint8)
        return load_photograph(path, 2 * TILE_PX, as_reference=True)

    draw(rows, load, out)
    return len(rows)
