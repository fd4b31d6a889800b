"""`sweep --plan`: every combination, what of it is cached, and what an earlier one will have made."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from flows.older import duration
from flows.plan import Plan, make_plan
from flows.stages import STAGES
from flows.sweep_config import Combination, Sweep, short_names, text_of
from storage.escaping import shown


def plan_sweep(sweep: Sweep, store: str) -> RenderableType:
    """A table for a terminal; nothing is made and the store need not exist. Raises NoFolder."""
    plans = [
        make_plan(str(sweep.photos), store, each.options, sweep.resources) for each in sweep.combinations
    ]
    table = Table(title=shown(f"sweep {sweep.name}"), box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("")
    for name in (*short_names(sweep.keys).values(), *STAGES, "time"):
        table.add_column(shown(name))
    total, known = 0.0, dict[str, str]()
    for each, found in zip(sweep.combinations, plans, strict=True):
        cells, seconds = _cells(each, found, known)
        total += seconds
        values = [shown(text_of(value)) for value in each.values.values()]
        table.add_row(str(each.number), *values, *cells, f"~{duration(seconds)}" if seconds else "")
    photographs = plans[0].photographs
    return Group(
        f"{len(sweep.combinations)} combinations on {photographs} different photographs",
        table,
        f"about {duration(total)} in all" if total else "everything is cached",
        "nothing was done; run the same command without --plan",
    )


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
