"""What the run page in the Prefect UI shows: tables made from references, the same on a fully cached run."""

import base64
import io
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from flows.options.stages import BY_NAME
from flows.run.background import harmless
from flows.run.report import report_run
from flows.server.server import serving
from flows.server.settings import prefect_home
from report.page import stills
from report.page.material import Material
from report.sheets.tuples import NothingToShow, mined_rows, paint_sheet
from report.tables.curves import draw_curves
from report.tables.evaluation import HARDER, EvaluationTable, read_table
from report.tables.training import read_training
from retrieval.describe.images import UnreadablePhotograph, load_photograph
from retrieval.evaluation.bootstrap import Estimate
from retrieval.training.options import TRAINING_FILE
from storage.hdf5 import file as hdf5
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store

THUMBNAIL_PX = 200
STALE_ROWS = 200
PICTURE_BYTES = 600_000
"""As text it is a third longer, and Prefect loses what is above 1.5 MB."""

Still = Callable[[Material], Any]
DRAWING = (
    "matplotlib.backends.backend_agg",
    "mpl_toolkits.mplot3d",
    "plotly.graph_objects",
    "plotly.io",
    "plotly.offline",
)
STILLS: dict[str, tuple[tuple[str, Still, str], ...]] = {
    "reconstruct": (
        ("models", stills.models_still, "the largest 3D models: points and cameras, cameras from above"),
    ),
    "select": (
        ("overlaps", stills.overlaps_still, "how much the photographs of a training pair share"),
        ("tuples", stills.tuples_still, "queries, their positives, the negatives that are most like them"),
    ),
    "evaluate": (("rankings", stills.rankings_still, "the best and the worst queries and what was found"),),
}
"""Per stage its pictures: last part of the artifact's key, what draws it, what it is."""


def import_what_draws() -> None:
    """Libraries that only pages and reports import, at once and while nothing else works.

    They import in circles, and of a circle two threads at a time can get a half-made module; what draws has a
    thread.
    """
    for name in DRAWING:
        import_module(name)


def show_stage(store: Store, record: RunRecord, stage: str) -> None:
    """Inside a flow: a table of what a stage made; of `evaluate` the result table as well.

    Each part by itself: what cannot be shown is missing, and the log says why.
    """
    with harmless(f"{stage}-artifacts"):
        _table(f"{stage}-artifacts", artifact_rows(store, record, stage), f"What `{stage}` made")
    for name, still, words in STILLS.get(stage, ()):
        with harmless(f"{stage}-{name}"):
            show_still(store, record, f"{stage}-{name}", still, words)
    if stage == "finetune":
        with harmless("finetune-epochs"):
            show_training(store, record)
    if stage == "evaluate":
        with harmless("evaluate-results"):
            show_results(store, record)


def show_results(store: Store, record: RunRecord) -> None:
    """The tables of what was measured."""
    for ref in record.refs_of("evaluation"):
        measured = read_table(store.root / ref.path)
        words = "mAP in %, geometry benchmark, interval over clusters"
        words += f"; verdict: {measured.verdict}" if measured.verdict else ""
        _table("evaluate-results", result_rows(measured), words)
        if measured.harder:
            _table("evaluate-harder", harder_rows(measured), f"medium mAP in %, harder queries: {HARDER}")


def show_still(store: Store, record: RunRecord, key: str, still: Still, words: str) -> None:
    """A picture on the run page, where there is something to show."""
    picture = still(Material(store, record))
    if picture is not None:
        _picture(key, stills.encoded(picture, PICTURE_BYTES), words)


def show_report(store: Store, run: str) -> None:
    """Write the report of a run that has just ended; where `up` serves the store, a link to it."""
    with harmless(f"report of run {run}"):
        path = report_run(store, run)
        if serving(prefect_home(store.root)) is None:
            return
        create_markdown_artifact(key="report", markdown=f"[Report of run {run}](/reports/{path.name})")


def show_stale(store: Store, record: RunRecord) -> None:
    """A table of what earlier runs made from something that this run has anew, where there is any."""
    with harmless("stale"):
        if rows := stale_rows(store, record):
            _table("stale", rows, "Kept, but not made from what this run has; rerun to renew")


def stale_rows(store: Store, record: RunRecord) -> list[dict[str, Any]]:
    """One row per stale artifact of the collection, newest run first, at most STALE_ROWS."""
    return [
        {
            "stage": each.ref.stage,
            "path": each.ref.path,
            "run": each.run,
            "built from": f"{each.built_from.stage} {each.built_from.content_sha256[:16]}",
            "current": ", ".join(ref.content_sha256[:16] for ref in each.current[:3]),
        }
        for each in ledger.stale(store, record)[:STALE_ROWS]
    ]


def show_training(store: Store, record: RunRecord) -> None:
    """A table of the epochs, their curves, and hard negatives of the last one, as far as there are any."""
    for ref in record.refs_of("finetune"):
        training = store.root / ref.path / TRAINING_FILE
        table = read_training(training)
        rows = [{**asdict(row), "kept": row.epoch == table.best_epoch} for row in table.epochs]
        _table("finetune-epochs", rows, "epoch 0 is before training")
        with harmless("finetune-curves"):
            _picture("finetune-curves", draw_curves(table), "dotted: the epoch kept", "png")
        with harmless("finetune-hard-negatives"):
            last = table.epochs[-1].epoch
            sheet = hard_negatives_sheet(store, record, training, last)
            if sheet is not None:
                words = f"tuples of epoch {last}: query, positive, hard negatives"
                _picture("finetune-hard-negatives", sheet, words)


def hard_negatives_sheet(store: Store, record: RunRecord, training: Path, epoch: int) -> bytes | None:
    """A JPEG of tuples of an epoch, None where there is nothing to show or the photographs are gone."""
    photos, sets = Path(str(record.resources.get("photos") or "")), record.refs_of("training_set")
    if not sets or not photos.is_absolute() or not photos.is_dir():
        return None
    arrays = hdf5.read(store.root / sets[0].path, "training_set", ["images/name", "images/cluster"])
    names = [str(name) for name in arrays["images/name"]]
    try:
        rows = mined_rows(arrays, hdf5.read(training, "training"), epoch)
        sheet = paint_sheet(rows, lambda image: load_photograph(photos / names[image], THUMBNAIL_PX)).image
    except (NothingToShow, UnreadablePhotograph):
        return None
    file = io.BytesIO()
    sheet.save(file, format="JPEG", quality=80)
    return file.getvalue()


def _table(key: str, rows: list[dict[str, Any]], words: str) -> None:
    create_table_artifact(key=key, table=rows, description=words)


def _picture(key: str, content: bytes, words: str, kind: str = "jpeg") -> None:
    """A picture at an address that needs no server."""
    address = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    create_image_artifact(key=key, image_url=address, description=words)


def artifact_rows(store: Store, record: RunRecord, stage: str) -> list[dict[str, Any]]:
    """One row per kind of artifact: how many files and items (photographs, pairs), how long it took when it
    was made, how large it is, content of the first, where the first is."""
    rows = []
    for name in BY_NAME[stage].makes:
        refs = record.refs_of(name)
        if refs:
            known = [side for side in map(store.sidecar, refs) if side is not None]
            rows.append(
                {
                    "artifact": name,
                    "files": len(refs),
                    "items": sum(side.items for side in known) or None,
                    "seconds": round(sum(side.seconds for side in known), 1),
                    "megabytes": round(sum(ref.bytes for ref in refs) / 2**20, 2),
                    "content": refs[0].content_sha256[:16],
                    "path": refs[0].path,
                }
            )
    return rows


def result_rows(measured: EvaluationTable) -> list[dict[str, Any]]:
    """One row per configuration and protocol."""
    return [
        {
            "network": row.network,
            "whitening": row.whitening,
            "scales": row.scales,
            "protocol": row.protocol,
            **_in_percent(row.mean_average_precision),
        }
        for row in measured.rows
    ]


def harder_rows(measured: EvaluationTable) -> list[dict[str, Any]]:
    """One row per split, configuration and change of the queries."""
    return [
        {
            "split": row.split,
            "network": row.network,
            "whitening": row.whitening,
            "queries": row.change,
            **_in_percent(row.mean_average_precision),
        }
        for row in measured.harder
    ]


def _in_percent(found: Estimate) -> dict[str, float]:
    ends = {"mAP": found.value, "low": found.low, "high": found.high}
    return {name: round(100 * value, 2) for name, value in ends.items()}
