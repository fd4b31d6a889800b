"""`sweep --plan`: every combination, what of it is cached, and what an earlier one will have made."""

from __future__ import annotations

from typing import NamedTuple

from flows.options.stages import STAGES
from flows.options.sweep import Combination, Sweep
from flows.planning.plan import Plan, make_plan


class Planned(NamedTuple):
    """What a combination would do. cells: per stage in words; seconds: of what no earlier one does."""

    combination: Combination
    cells: list[str]
    seconds: float


def plan_sweep(sweep: Sweep, store: str) -> tuple[int, list[Planned]]:
    """(different photographs, every combination); nothing is made and the store need not exist. Raises
    NoFolder."""
    known, planned, photographs = dict[str, str](), list[Planned](), 0
    for each in sweep.combinations:
        found = make_plan(str(sweep.photos), store, each.options, sweep.resources)
        photographs = found.photographs
        planned.append(Planned(each, *_cells(each, found, known)))
    return photographs, planned


def _cells(each: Combination, found: Plan, known: dict[str, str]) -> tuple[list[str], float]:
    """Per flow: cached, as in which combination, or to do; and the seconds of what is to do.

    known: by prefix, what the cell of a later combination with the same work is; added to.
    """
    cells, seconds = [], 0.0
    for stage in STAGES:
        prefix = stage + each.prefix(stage)
        rows = [row for row in found.rows if row.flow == stage]
        cached, todo = (sum(getattr(row, name) for row in rows) for name in ("cached", "todo"))
        if prefix in known:
            cells.append(known[prefix])
            continue
        known[prefix] = f"as {each.number}" if todo else "cached"
        if todo:
            seconds += sum(map(found.seconds, rows))
        cells.append(
            "cached" if not todo else f"to do, {cached} of {cached + todo} cached" if cached else "to do"
        )
    return cells, seconds
