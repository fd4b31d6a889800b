"""The report page of a run: `report.html`, one file, written beside the run's record."""

from pathlib import Path
from typing import Any

from flows.run.reproduction import command_of
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store


def report_path(store: Store, run: str) -> Path:
    """Where the report of a run lies in its store."""
    return store.root / "runs" / f"{run}.html"


def write_report(store: Store, record: RunRecord, out: Path | None = None) -> Any:
    """Write the report of a run (None: into the store); a `report.page.Page`."""
    from report.page.material import Material
    from report.page.page import write_page

    material = Material(store, record, command_of(store, record))
    return write_page(material, out or report_path(store, record.id))


def report_run(store: Store, run: str) -> Path:
    """Write the report of a run that has just ended; its file."""
    return Path(write_report(store, ledger.load(store, run)).path)
