"""A training set for a person: the tables of `inspect`, and the contact sheet of its tuples.

Descriptors and photographs come from the store that the file lies in, where it lies in one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from storage.hdf5 import file as hdf5
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store

THUMBNAIL_PX = 300


class NotATrainingSet(ValueError):
    """A contact sheet was asked for of something else."""


class NoPhotographs(ValueError):
    """A contact sheet without the photographs to show."""


@dataclass(frozen=True)
class Home:
    """The store that a file lies in, and a run that has it."""

    store: Store
    record: RunRecord


def tables(file: Path) -> Iterator[RenderableType]:
    """What is in a training_set.h5, as tables and lines."""
    from report.tables.selection import render, report
    from sfm.training_set.training_set import TrainingSet

    yield from render(report(TrainingSet.from_h5(file)))


def write_sheet(file: Path, out: Path, photos: Path | None = None, count: int = 12) -> str:
    """Write the contact sheet of a training_set.h5 to `out`; a sentence about it.

    photos: folder of the photographs; None: that of the run that made the file. Raises NoPhotographs,
    NothingToShow, UnreadablePhotograph.
    """
    from report.page.material import descriptors_of
    from report.sheets.tuples import paint_sheet, tuple_rows
    from retrieval.describe.images import load_photograph

    home = home_of(file)
    root = photos or (Path(str(home.record.resources.get("photos") or "")) if home else None)
    if root is None or not root.is_dir() or root == Path():
        raise NoPhotographs(f"{str(root or '')!r} is no folder of photographs; give --photos DIR")
    if not out.parent.is_dir():
        raise NoPhotographs(f"{str(out.parent)!r} is no folder; make it, or write the sheet elsewhere")
    arrays = hdf5.read(file, "training_set")
    descriptors = descriptors_of(home.store, home.record, arrays) if home else None
    rows = tuple_rows(arrays, descriptors, count)
    names = [str(name) for name in arrays["images/name"]]
    paint_sheet(rows, lambda image: load_photograph(root / names[image], THUMBNAIL_PX)).save(out)
    about = "" if descriptors is not None else "; no run in a store has its descriptors: without negatives"
    return f"{len(rows)} tuples in {out}{about}"


def home_of(file: Path) -> Home | None:
    """Where a training set was made: the newest run that holds it, of the store that it lies in."""
    for folder in file.absolute().parents:
        if (folder / "store.json").is_file():
            store, path = Store.open(folder), file.absolute().relative_to(folder).as_posix()
            for record in sorted(ledger.records(store), key=lambda each: each.id, reverse=True):
                if any(ref.path == path for ref in _training_sets(record)):
                    return Home(store, record)
    return None


def _training_sets(record: RunRecord) -> list[Any]:
    return [ref for name in ("training_set", "whole_training_set") for ref in record.refs_of(name)]
