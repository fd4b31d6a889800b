"""What a finished run prints: per stage what was cached and what ran, the results, where the files are."""

from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from flows.cli_common import out
from storage.artifacts import ArtifactRef
from storage.runs import RunRecord

SHOWN_FILES = 3


def show(record: RunRecord, root: Path) -> None:
    """Print the outcome of a run on the store at `root`."""
    out.print(stage_table(record))
    for ref in record.refs_of("evaluation"):
        _show_evaluation(root / ref.path)
    out.print(f"run {record.id}: {record.status}", highlight=False)
    out.print(f"record: {root / 'runs' / record.id}.json", highlight=False, soft_wrap=True, markup=False)


def stage_table(record: RunRecord) -> Table:
    """Per stage: tasks answered from the cache, tasks that ran, artifacts, size, where the first ones are."""
    from tasks.runtime import tallies

    counts: dict[str, dict[Any, int]] = dict(tallies())
    table = Table("stage", "cached", "ran", "artifacts", "size", "files")
    for name in record.refs:
        refs = record.refs_of(name)
        count = counts.pop(refs[0].stage if refs else name, {})
        size = human_bytes(sum(ref.bytes for ref in refs))
        table.add_row(name, _count(count, "cached"), _count(count, "run"), str(len(refs)), size, _files(refs))
    for name, count in counts.items():
        table.add_row(name, _count(count, "cached"), _count(count, "run"), "", "", "")
    return table


def _count(counts: dict[Any, int], outcome: str) -> str:
    return str(counts.get(outcome) or "")


def human_bytes(count: float) -> str:
    """1536 -> '1.5 kB' (1 kB = 1024 bytes)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def _files(refs: tuple[ArtifactRef, ...]) -> str:
    shown = [escape(ref.path) for ref in refs[:SHOWN_FILES]]
    more = [f"and {len(refs) - SHOWN_FILES} more"] if len(refs) > SHOWN_FILES else []
    return "\n".join([*shown, *more])


def _show_evaluation(path: Path) -> None:
    from retrieval.evaluation_table import read_table, render

    for table in render(read_table(path)):
        out.print(table)
