"""The best and the worst queries of a benchmark as a contact sheet: what was asked, what came first."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.common import Benchmark, Ids
from retrieval.benchmarks.report import BenchmarkResult

Verdict = Literal["query", "positive", "ignored", "wrong"]
QUERIES, SHOWN = 5, 6
_TILE_PX, _CAPTION_PX, _GAP_PX, _HEADER_PX = 150, 14, 6, 22
_COLOURS = {
    "query": (40, 40, 40),
    "positive": (20, 110, 60),
    "ignored": (130, 130, 130),
    "wrong": (170, 40, 30),
}
_PAPER, _BACK = (255, 255, 255), (225, 225, 225)


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
    from PIL import Image, ImageDraw, ImageFont

    step = (_TILE_PX + _GAP_PX, _TILE_PX + _CAPTION_PX + _GAP_PX)
    width = max(map(len, rows)) * step[0] + _GAP_PX
    sheet = Image.new("RGB", (max(width, 420), len(rows) * step[1] + _HEADER_PX + _GAP_PX), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    header = "query, then its list: green positive, red wrong, grey ignored; best queries, then the worst"
    pen.text((_GAP_PX, 5), header, fill=_COLOURS["query"], font=font)
    for line, tiles in enumerate(rows):
        top = _HEADER_PX + line * step[1]
        for place, tile in enumerate(tiles):
            left = _GAP_PX + place * step[0]
            frame = (left, top, left + _TILE_PX - 1, top + _TILE_PX - 1)
            picture = Image.fromarray(load(tile))
            picture.thumbnail((_TILE_PX, _TILE_PX))
            pen.rectangle(frame, fill=_BACK)
            middle = (left + (_TILE_PX - picture.width) // 2, top + (_TILE_PX - picture.height) // 2)
            sheet.paste(picture, middle)
            pen.rectangle(frame, outline=_COLOURS[tile.verdict], width=3)
            pen.text((left, top + _TILE_PX + 1), tile.caption, fill=_COLOURS[tile.verdict], font=font)
    partial = out.with_name(f".{out.name}.partial")
    try:
        sheet.save(partial, format="PNG")
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)


def write_sheet(
    result: BenchmarkResult, benchmark: Benchmark, out: Path, distractors: Path | None = None
) -> int:
    """The contact sheet of a result; how many rows it has. Raises NothingMeasured, UnreadablePhotograph."""
    from retrieval.images import load_photograph

    rows = sheet_rows(result, benchmark)

    def load(tile: SheetTile) -> NDArray[np.uint8]:
        if tile.verdict == "query":
            image = benchmark.queries[tile.index * benchmark.query_frames]
            return load_photograph(benchmark.root / image.file, 2 * _TILE_PX, image.box, exif=False)
        position = tile.index * benchmark.database_frames
        if position < len(benchmark.database):
            path = benchmark.root / benchmark.database[position].file
        elif distractors is not None:
            path = distractors / result.distractors[tile.index]
        else:
            return np.full((_TILE_PX, _TILE_PX, 3), 200, dtype=np.uint8)
        return load_photograph(path, 2 * _TILE_PX, exif=False)

    draw(rows, load, out)
    return len(rows)
