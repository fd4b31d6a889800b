"""Pages drawn without pause while a town's run goes through: nothing that is drawn fails, nor does the run.

    python -m tests.crash.pages [--runs 20] [--ground FOLDER] [--out benchmarks/results/crash/pages.json]

Each run is a process of its own with a store of its own. A thread of it draws everything that a run page and
a report show, from what the run has so far, again and again; the run's own pages are drawn beside that. The
cells lie in one JSON file, those that it has are not done again. Exit code 1 if something did not hold.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.acceptance_runs import CODE, MINUTE_SETS, Checks, small_town
from benchmarks.cells import write_cell
from storage.files.whole import read_json
from tests.crash.ground import SETS, TOWN

DRAWER = "drawer"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Pages drawn without pause while a town's run goes through.")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--ground", type=Path, help="folder with the town as `photos`; none: a temporary one")
    parser.add_argument("--out", type=Path, default=CODE / "benchmarks" / "results" / "crash" / "pages.json")
    parser.add_argument("--one", nargs=2, metavar=("PHOTOS", "STORE"), help="one run, told as JSON")
    asked = parser.parse_args(arguments)
    if asked.one:
        print(json.dumps(one(Path(asked.one[0]), Path(asked.one[1]))))
        return 0
    checks, told = Checks(), read_json(asked.out) or {"cells": []}
    with tempfile.TemporaryDirectory(prefix="pages-") as folder:
        photos = (asked.ground or Path(folder)).absolute() / "photos"
        if not photos.is_dir():
            small_town(photos, **TOWN)
        while len(told["cells"]) < asked.runs:
            told["cells"].append(in_process(photos, Path(folder) / f"store{len(told['cells'])}"))
            write_cell(asked.out, told)
    for number, cell in enumerate(told["cells"]):
        figures = f"{cell['drawn']} pages drawn in {cell['seconds']:.0f} s; "
        figures += "; ".join(cell["wrong"]) or "all of them whole"
        checks.add(f"run {number}", not cell["wrong"] and cell["drawn"] > 0, figures)
    return checks.finish(f"{asked.runs} runs with pages drawn without pause")


def in_process(photos: Path, store: Path) -> dict[str, Any]:
    """One run by another process."""
    command = [sys.executable, "-m", "tests.crash.pages", "--one", str(photos), str(store)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=CODE, env=environment | {"PYTHONPATH": str(CODE)}, capture_output=True, text=True
    )
    if done.returncode or not done.stdout:
        wrong = [f"code {done.returncode}: {done.stderr[-2000:]}"]
        return {"drawn": 0, "seconds": time.monotonic() - began, "wrong": wrong}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "seconds": time.monotonic() - began}


def one(photos: Path, store: Path) -> dict[str, Any]:
    """A run with a thread that draws; how often it did, and what was not shown or failed."""
    from flows.options.loading import load
    from flows.server.context import session

    warnings = Warnings()
    options, resources = load(None, [*MINUTE_SETS, *SETS])
    with session(store, log_level="WARNING") as command:
        from flows.end_to_end import end_to_end
        from flows.run.pages import import_what_draws

        import_what_draws()
        logging.getLogger("flows.run.background").addHandler(warnings)
        with drawing(store) as drawn:
            wrong = []
            try:
                command.run(
                    end_to_end, photos=str(photos), store=str(store), options=options, resources=resources
                )
            except Exception as error:
                wrong.append(f"the run failed: {type(error).__name__}: {error}")
    return {"drawn": len(drawn), "wrong": [*wrong, *drawn.failures, *warnings.texts]}


class Warnings(logging.Handler):
    """What was not shown, by whoever drew it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


class Drawn(list[str]):
    """Keys of what was drawn, and what failed."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []


@contextmanager
def drawing(root: Path) -> Iterator[Drawn]:
    """A thread draws all pages of the newest run of a store, without pause, until the block ends.

    What it draws goes nowhere; what the run's own thread draws goes to Prefect.
    """
    from flows.run import pages

    drawn, over = Drawn(), threading.Event()
    before = {name: getattr(pages, f"create_{name}_artifact") for name in ("table", "image", "markdown")}

    def instead(create: Any) -> Any:
        def created(**given: Any) -> None:
            if threading.current_thread().name == DRAWER:
                drawn.append(given["key"])
            else:
                create(**given)

        return created

    def draw() -> None:
        while not over.is_set():
            try:
                draw_all(root)
            except Exception as error:
                drawn.failures.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=draw, name=DRAWER)
    for name, create in before.items():
        setattr(pages, f"create_{name}_artifact", instead(create))
    try:
        thread.start()
        yield drawn
    finally:
        over.set()
        thread.join()
        for name, create in before.items():
            setattr(pages, f"create_{name}_artifact", create)


def draw_all(root: Path) -> None:
    """Every page of the newest run, and its report, from what it has so far."""
    from flows.options.stages import STAGES
    from flows.run import pages, report
    from storage.store import ledger
    from storage.store.store import Store

    if not (root / "store.json").is_file():
        time.sleep(0.01)
        return
    store = Store.open(root)
    record = next(ledger.records(store), None)
    if record is None:
        time.sleep(0.01)
        return
    for stage in STAGES:
        pages.show_stage(store, record, stage)
    pages.show_stale(store, record)
    with tempfile.TemporaryDirectory() as folder:
        report.write_report(store, record, Path(folder) / "report.html")


if __name__ == "__main__":
    sys.exit(main())
