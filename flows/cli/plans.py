"""Plans of runs and sweeps, and the results of a sweep, as tables."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from flows.options.stages import STAGES
from flows.options.sweep import Sweep, short_names, text_of
from flows.planning.plan import Plan
from flows.planning.sweep_plan import Planned
from flows.run.sweep_table import LEGEND, Outcome, grid, seed_header, seed_means
from report.tables.plain import plain_table
from storage.files.escaping import shown
from storage.files.units import duration, human_bytes
from storage.photographs.folders import left_out_text


def render(found: Plan) -> RenderableType:
    """The plan as text and a table; ~ marks an estimate."""
    table = Table("flow", "stage", "cached", "to do", "time", "disk")
    for row in found.rows:
        mark = "" if row.exact or not row.todo else "~"
        todo = (f"{mark}{row.todo}", f"~{duration(found.seconds(row))}", f"~{human_bytes(found.bytes(row))}")
        rest = todo if row.todo else ("", "", "")
        table.add_row(row.flow, row.stage.name, str(row.cached or ""), *rest)
    seconds = sum(map(found.seconds, found.rows))
    size = sum(map(found.bytes, found.rows))
    exact = all(row.exact for row in found.rows if row.stage.name == "matches")
    others = sum(entry.status != "ok" for entry in found.table.entries)
    head = f"{found.photographs} different photographs, {others} files that cannot be used"
    if found.unread:
        head += f"; {found.unread} new files were not read and count as new photographs"
    if found.table.left_out:
        head += f"; left out: {left_out_text(found.table.left_out)}"
    foot = f"about {duration(seconds)} with {found.workers} workers, {human_bytes(size)} of disk"
    return Group(
        shown(head),
        f"{'' if exact else '~'}{found.pairs} pairs",
        table,
        *(shown(line) for line in found.older),
        foot if any(row.todo for row in found.rows) else "everything is cached",
        "nothing was done; run the same command without --plan",
    )


def render_sweep(sweep: Sweep, photographs: int, planned: list[Planned]) -> RenderableType:
    """The plan of a sweep as text and a table."""
    names = ("", *short_names(sweep.keys).values(), *STAGES, "time")
    table = plain_table(shown(f"sweep {sweep.name}"), [*map(shown, names)], padding=(0, 1))
    for each, cells, seconds in planned:
        values = [shown(text_of(value)) for value in each.values.values()]
        table.add_row(str(each.number), *values, *cells, f"~{duration(seconds)}" if seconds else "")
    total = sum(each.seconds for each in planned)
    return Group(
        f"{len(planned)} combinations on {photographs} different photographs",
        table,
        f"about {duration(total)} in all" if total else "everything is cached",
        "nothing was done; run the same command without --plan",
    )


def render_results(sweep: Sweep, outcomes: Sequence[Outcome]) -> Iterator[Table]:
    """The table for a terminal; where seeds differ, a second one with means over them."""
    yield _table(sweep, f"sweep {sweep.name}: {len(outcomes)} combinations", LEGEND, grid(sweep, outcomes))
    if means := seed_means(sweep, outcomes):
        header = seed_header(sweep)
        legend = "Mean over seeds ± standard deviation between them, mAP in %."
        yield _table(sweep, "over seeds", legend, [header, *means])


def _table(sweep: Sweep, title: str, legend: str, grid: Sequence[Sequence[str]]) -> Table:
    table = plain_table(shown(title), caption=legend)
    for number, name in enumerate(grid[0]):
        measured = number > len(sweep.keys)
        table.add_column(shown(name), justify="right" if measured else "left", overflow="fold")
    for row in grid[1:]:
        table.add_row(*map(shown, row))
    return table
