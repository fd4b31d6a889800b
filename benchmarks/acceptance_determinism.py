"""The same photographs and options give the same content everywhere, in every fresh store.

    python -m benchmarks.acceptance_determinism [PHOTOS] [--set KEY=VALUE ...]

Three fresh stores: the same command twice, then with other resources that only spread the work (processes,
chunks, loader threads; not the number of threads, of which sums depend). Every content digest is compared,
and every item's of what is cached by item. Exit code 1 if one differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.acceptance_runs import (
    MINUTE_SETS,
    Bench,
    Checks,
    Outcome,
    copy_code,
    item_contents,
    small_town,
)

OTHER_RESOURCES = (
    "resources.processes=3",
    "resources.loader_threads=2",
    "resources.photographs_per_task=7",
    "resources.pairs_per_task=50",
    "resources.cache_megabytes=1",
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fresh stores, the same content.")
    parser.add_argument("photos", nargs="?", type=Path, help="folder of photographs; none: a small town")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of every run")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="determinism-") as folder:
        root = Path(folder)
        photos = asked.photos or small_town(root / "photos")
        sets = tuple(asked.set) or (() if asked.photos else MINUTE_SETS)
        bench = Bench(photos.absolute(), root / "first", sets, copy_code(root / "code"))
        checks = Checks()
        first = bench.run()
        compare(checks, "the same command", bench, first, replace(bench, store=root / "second"))
        spread = replace(bench, store=root / "third", sets=(*sets, *OTHER_RESOURCES))
        compare(checks, "other resources", bench, first, spread)
        return checks.finish(f"fresh stores, {len(os.listdir(photos))} photographs")


def compare(checks: Checks, name: str, bench: Bench, first: Outcome, other: Bench) -> None:
    """One line per name in the run's record: artifacts, or items where it holds items."""
    second = other.run()
    assert first.record is not None and second.record is not None
    items = [
        item_contents(each.store, run.record) for each, run in ((bench, first), (other, second)) if run.record
    ]
    for part in sorted({*first.record.refs, *second.record.refs}):
        ours, theirs = (set(run.digests().get(part, [])) for run in (first, second))
        what = "artifacts"
        if part in items[0]:
            ours, theirs = (set(map(":".join, found.get(part, {}).items())) for found in items)
            what = "items"
        figures = f"{len(ours)} and {len(theirs)} {what}, {len(ours ^ theirs)} digests in one only"
        checks.add(f"{name}: {part}", ours == theirs, figures)


if __name__ == "__main__":
    sys.exit(main())
