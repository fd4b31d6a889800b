"""What a finished run prints: per stage what was cached and what ran, what came out, where the files are."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from flows.cli.common import out, say
from flows.options.stages import INTERMEDIATE
from flows.steps.whitenings import scales_shown, whitenings
from report.tables.plain import plain_table
from storage.files.escaping import shown
from storage.files.units import human_bytes
from storage.store.ledger import RunRecord
from storage.store.store import Store

SHOWN_NOTES = 3


def show(record: RunRecord, root: Path, log: Path | None = None) -> None:
    """Print the outcome of a run on the store at `root`."""
    for part in parts(record, root, out.width):
        if isinstance(part, Table):
            out.print()
        out.print(part, highlight=False)
    out.print()
    show_files(record, files(record, root, log))


def show_files(record: RunRecord, found: Iterable[tuple[str, Path | None]]) -> None:
    """Print where a run's files are, those that it made, and how it ended."""
    for name, path in found:
        if path is not None:
            say(f"{name:17} {path}")
    say(f"run {record.id}: {record.status}")


def parts(record: RunRecord, root: Path, width: int) -> Iterator[RenderableType]:
    """The tables of a run, in the order of its stages."""
    yield stage_table(record)
    yield from _counts(record, root)
    for ref in record.refs_of("finetune"):
        from report.tables.training import read_training, render_training

        training = read_training(root / ref.path / "training.h5")
        yield render_training(training)
        yield from _notes(training.warnings, root / ref.path / "training.h5")
    if record.refs_of("whiten"):
        yield _whitenings(record, root)
    for ref in record.refs_of("evaluation"):
        from report.tables.evaluation import read_table, render

        table = read_table(root / ref.path)
        yield from render(table, width)
        if table.verdict:
            yield f"verdict: {table.verdict}"


def stage_table(record: RunRecord) -> Table:
    """Per stage: tasks answered from the cache, tasks that ran, artifacts, size."""
    from tasks.engine.runtime import tallies

    counts: dict[str, dict[Any, int]] = dict(tallies())
    table = plain_table("tasks and artifacts", ["stage"], ("cached", "ran", "artifacts", "size"))
    for name in record.refs:
        refs = record.refs_of(name)
        count = counts.pop(refs[0].stage if refs else name, {})
        size = human_bytes(sum(ref.bytes for ref in refs))
        table.add_row(name, _count(count, "cached"), _count(count, "run"), str(len(refs)), size)
    for name, count in counts.items():
        table.add_row(name, _count(count, "cached"), _count(count, "run"), "", "")
    return table


def files(record: RunRecord, root: Path, log: Path | None = None) -> list[tuple[str, Path]]:
    """What a person wants to open: (what it is, absolute path)."""
    found: list[tuple[str, Path]] = []
    for name in record.refs:
        if name not in INTERMEDIATE:
            found += [(name, root / ref.path) for ref in record.refs_of(name)]
    for ref in record.refs_of("finetune"):
        found += [("network", root / ref.path / "network.safetensors")]
        found += [("training", root / ref.path / "training.h5")]
    shown_as = scales_shown(record)
    found += [
        (f"whitening {shown_as[name.scales]}", root / ref.path)
        for name, ref in whitenings(record).items()
        if (name.network, name.method) == ("fine-tuned", "lw")
    ]
    if record.refs_of("mapping"):
        found.append(("COLMAP models", root / "mapping"))
    found.append(("record", root / "runs" / f"{record.id}.json"))
    page = root / "runs" / f"{record.id}.html"
    if page.is_file():
        found.append(("report", page))
    return [*found, ("log", log)] if log else found


def _count(counts: dict[Any, int], outcome: str) -> str:
    return str(counts.get(outcome) or "")


def _counts(record: RunRecord, root: Path) -> Iterator[RenderableType]:
    """Photographs, models, clusters and queries, each in a line; the clusters that a benchmark took out."""
    from storage.hdf5.open import open_artifact
    from storage.photographs.folders import left_out_text, read_left_out

    for ref in record.refs_of("scene"):
        with open_artifact(root / ref.path, "scene") as scene:
            total, models = len(scene["photos/name"]), len(scene["models/cluster"])
            registered = sum(scene["photos/model"] >= 0)
            status = Counter(map(str, scene["photos/status"]))
        yield f"photographs: {total} files, {registered} of them registered in {models} 3D models"
        unused = [f"{count} {name}" for name, count in sorted(status.items()) if name != "ok"]
        if unused:
            yield f"not used: {', '.join(unused)}; photos/reason in {ref.path} says why"
    for ref in record.refs_of("scan"):
        if left_out := left_out_text(read_left_out(root / ref.path, "scan")):
            yield shown(f"left out, no photographs: {left_out}")
    for ref in record.refs_of("training_set"):
        sidecar = Store.open(root).sidecar(ref)
        summary = sidecar.facts.get("summary", {}) if sidecar else {}
        for what in ("clusters", "queries"):
            if what in summary:
                counts = ", ".join(f"{split} {count}" for split, count in summary[what].items())
                yield f"{what}: {counts}"
        yield from _notes(summary.get("warnings", ()), root / ref.path)
        if record.refs_of("benchmark_pairs"):
            from report.tables.selection import dropped_table
            from sfm.training_set.training_set import TrainingSet

            dropped = TrainingSet.from_h5(root / ref.path).dropped
            if dropped is not None:
                yield dropped_table(dropped)


def _notes(warnings: Sequence[str], path: Path) -> Iterator[str]:
    """The first few; `path`: the file that has all."""
    yield from (shown(f"note: {text}") for text in warnings[:SHOWN_NOTES])
    if len(warnings) > SHOWN_NOTES:
        yield shown(f"note: {len(warnings) - SHOWN_NOTES} more of this kind in {path.name}, warnings/text")


def _whitenings(record: RunRecord, root: Path) -> Table:
    from report.tables.training import read_whitening, render_whitenings

    shown_as = scales_shown(record)
    return render_whitenings(
        [
            (name.network, shown_as[name.scales], read_whitening(root / ref.path))
            for name, ref in whitenings(record).items()
        ]
    )
