"""What the run cost: seconds, memory and bytes of each stage."""

from __future__ import annotations

import math
from typing import Any

from report.page.markup import Safe, bars, section, table, tag
from report.page.material import Material, Section


def costs_section(material: Material) -> Safe:
    """One row per stage in the order of the run; what came from the cache counts as when it was made."""
    rows: list[tuple[Any, ...]] = []
    labels, seconds_of = [], []
    for name in material.record.refs:
        seconds, peak, size, count = 0.0, 0, 0, 0
        for ref, sidecar in material.sidecars(name):
            count, size = count + 1, size + ref.bytes
            seconds += sidecar.seconds if sidecar else math.nan
            peak = max(peak, int((sidecar.machine if sidecar else {}).get("peak_memory_bytes", 0)))
        if count:
            memory = f"{peak / 2**20:,.0f}" if peak else "–"
            known = "–" if math.isnan(seconds) else f"{seconds:,.1f}"
            rows.append((name, count, known, memory, f"{size / 2**20:,.1f}"))
            labels.append(name)
            seconds_of.append(0 if math.isnan(seconds) else round(seconds))
    header = ("stage", "artifacts", "seconds", "peak memory, MiB", "size, MiB")
    return section(
        "costs",
        "Time and memory",
        tag(
            "p",
            f"{_wall(material)} Seconds are those of making each artifact, whenever that was; peak memory is "
            "the largest that the process had had until then.",
        ),
        tag("div", table(header, rows), bars("seconds per stage", labels, seconds_of), class_="side costs"),
    )


def _wall(material: Material) -> str:
    record = material.record
    if record.ended is None:
        return "The run has not ended."
    return f"The run took {(record.ended - record.started).total_seconds():,.0f} s from begin to end."


SECTIONS = (Section("costs", "time", place=7, make=costs_section),)
