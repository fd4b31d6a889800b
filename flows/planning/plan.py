"""`run --plan`: what a run would find cached and what it would do, its time and disk; nothing is made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.options.stages import up_to
from flows.planning.costs import PARALLEL, Cost, cost_of, load, measured
from flows.planning.estimates import Estimates, Row, expected_pairs
from flows.run.look_ahead import READ_BYTES, LookAhead, Seen, look_ahead
from flows.run.superseded import lines
from retrieval.describe import options as extraction
from sfm.lists.select import listed_digests
from storage.hdf5.digests import cached_content_sha256
from storage.keys.keys import stage_key
from storage.keys.options import Options, canonical_options
from storage.photographs.scanning import require_photographs, survey
from storage.photographs.tables import ScanTable
from storage.store.store import Store
from tasks.photographs import SCAN_STAGE, ScanOptions, scan_inputs, scan_table_path


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    table: ScanTable
    unread: int
    photographs: int
    pairs: int
    rows: tuple[Row, ...]
    older: tuple[str, ...]
    costs: Mapping[str, Cost]
    workers: int

    def seconds(self, row: Row) -> float:
        """Time of what a row has to do."""
        work = row.todo * load(row.stage.name, canonical_options(row.options, cached_content_sha256))
        side_by_side = min(self.workers, max(1, row.todo)) if row.stage.name in PARALLEL else 1
        return work * cost_of(row.stage.name, self.costs).seconds / side_by_side

    def bytes(self, row: Row) -> float:
        """Disk that a row will take."""
        return row.todo * cost_of(row.stage.name, self.costs).bytes


def make_plan(
    photos: str,
    store: str,
    options: PipelineOptions | None = None,
    resources: PipelineResources | None = None,
    until: str | None = None,
    force: Sequence[str] = (),
) -> Plan:
    """What a run would do, as numbers. Arguments as of `end_to_end`; the store need not exist.

    Raises NoFolder, NoPhotographs.
    """
    chosen = options or PipelineOptions()
    used = (resources or PipelineResources()).model_copy(update={"photos": photos})
    opened = Store.open(store) if (Path(store) / "store.json").exists() else None
    table, unread = survey(photos, scan_table_path(opened, photos) if opened else None, READ_BYTES)
    require_photographs(table, photos)
    stages = up_to(until)
    walk, complete = None, False
    if opened is not None:
        key = stage_key(SCAN_STAGE, ScanOptions(), scan_inputs(table))
        walk = look_ahead(opened, chosen, used, None if unread else opened.find(SCAN_STAGE.name, key))
        complete = walk.walk(stages, force)
    good = [entry for entry in table.entries if entry.status == "ok"]
    shas = sorted({entry.sha256 or entry.name for entry in good})
    if chosen.selection.list is not None:
        shas = listed_digests(chosen.selection.list, table.entries)
    estimates = Estimates(opened, chosen, shas)
    rows = [row for stage in stages for row in _rows(stage, walk, complete, estimates, stage in force)]
    pairs = sum(r.cached + r.todo for r in rows if (r.flow, r.stage.name) == ("reconstruct", "matches"))
    return Plan(
        table=table,
        unread=unread,
        photographs=len(shas),
        pairs=pairs or _pairs_to_come(len(shas), chosen),
        rows=tuple(rows),
        older=tuple(lines(seen for seen in walk.seen.values() if seen.older) if walk else ()),
        costs=measured(opened.index.sidecars()) if opened else {},
        workers=used.workers,
    )


def _pairs_to_come(photographs: int, chosen: PipelineOptions) -> int:
    """Pairs of a first run; none where the models or a list are given."""
    given = chosen.reconstruction.colmap is not None or chosen.selection.list is not None
    return 0 if given else expected_pairs(photographs, chosen.reconstruction.pairs)


def _rows(
    flow: str, walk: LookAhead | None, complete: bool, estimates: Estimates, forced: bool
) -> Iterator[Row]:
    """The stages of a flow: as the walk saw them, estimated from where it ended."""
    seen = [each for each in walk.seen.values() if each.flow == flow] if walk else []
    names = list(dict.fromkeys(each.stage.name for each in seen))
    if complete:
        yield from (row for name in names for row in _exact([e for e in seen if e.stage.name == name]))
        return
    for guess in estimates.rows(flow):
        if forced:
            guess = Row(flow, guess.stage, guess.options, 0, guess.cached + guess.todo)
        mine = [each for each in seen if _group(each) == _group(guess)]
        if not mine:
            yield guess
            continue
        (row,) = _exact(mine)
        known = all(each.status != "missing" for each in mine)
        total = max(row.cached + row.todo, guess.cached + guess.todo)
        yield row if known else Row(flow, row.stage, row.options, row.cached, total - row.cached)


def _exact(seen: Sequence[Seen]) -> Iterator[Row]:
    """One row per group of tasks of one stage."""
    for group in dict.fromkeys(map(_group, seen)):
        mine = [each for each in seen if _group(each) == group]
        cached = sum(each.items for each in mine if each.status == "cached")
        total = sum(each.items for each in mine)
        yield Row(mine[0].flow, mine[0].stage, mine[0].options, cached, total - cached, exact=True)


def _group(task: Seen | Row) -> tuple[str, Options | None]:
    """Tasks of one stage cost the same, except descriptors, whose cost depends on their scales."""
    name = task.stage.name
    return name, task.options if name == extraction.STAGE.name else None
