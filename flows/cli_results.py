"""What a finished run prints: per stage what was cached and what ran, the results, where the files are."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from flows.cli_common import out
from storage.artifacts import ArtifactRef
from storage.runs import RunRecord

SHOWN_FILES = 3


def show(record: RunRecord, root: Path) -> None:
    """Print the outcome of a run on the store at `root`."""
    out.print(stage_table(record, root))
    for ref in record.refs_of("evaluation"):
        _show_evaluation(root / ref.path)
    out.print(f"run {record.id}: {record.status}", highlight=False)
    out.print(f"record: {root / 'runs' / record.id}.json", highlight=False, soft_wrap=True, markup=False)


def stage_table(record: RunRecord, root: Path) -> Table:
    """Per stage: tasks answered from the cache, tasks that ran, artifacts, size, where the first ones are."""
    from tasks.runtime import tallies

    counts = tallies()
    table = Table("stage", "cached", "ran", "artifacts", "size", "files", title=None)
    for name in dict.fromkeys([*counts, *record.refs]):
        refs, count = record.refs_of(name), counts.get(name)
        cached, ran = (str(count["cached"]), str(count["run"])) if count else ("", "")
        size = human_bytes(sum(ref.bytes for ref in refs)) if refs else ""
        table.add_row(name, cached, ran, str(len(refs) or ""), size, _files(refs, root))
    return table


def human_bytes(count: float) -> str:
    """1536 -> '1.5 kB' (1 kB = 1024 bytes)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def _files(refs: tuple[ArtifactRef, ...], root: Path) -> str:
    shown = [escape(ref.path) for ref in refs[:SHOWN_FILES]]
    more = [f"and {len(refs) - SHOWN_FILES} more"] if len(refs) > SHOWN_FILES else []
    return "\n".join([*shown, *more])


def _show_evaluation(path: Path) -> None:
    from retrieval.evaluation_table import read_table, render

    for table in render(read_table(path)):
        out.print(table)
