"""Pictures of a training for the run page: there, small, and silent where photographs are gone."""

import io
import math
from asyncio import CancelledError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.options.stages import STAGES
from flows.run import pages
from report.sheets.tuples import NothingToShow, mined_rows
from report.tables.curves import draw_curves
from report.tables.training import read_training
from retrieval.training.options import TRAINING_FILE, TrainingOptions
from retrieval.training.record import EpochRecord, TrainingState, write_training

ARRAYS = {"images/cluster": np.array([4, 4, 5, 6])}


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """Two epochs of one tuple each: query 0, positive 1, negatives 2 and 3."""
    state = TrainingState()
    state.finish(EpochRecord(0, math.nan, math.nan, math.nan, 0.0, 3.0, math.nan), np.empty((0, 4), np.int64))
    for epoch in (1, 2):
        state.finish(EpochRecord(epoch, 0.2, 0.1, 0.9, 1e-5, 2.9, 0.8), np.array([[0, 1, 2, 3]]))
    shift = np.array([0]), np.array([0.1], dtype=np.float32)
    (tmp_path / "finetune").mkdir()
    path = tmp_path / "finetune" / TRAINING_FILE
    write_training(path, state, np.empty((0, 3), np.int64), shift, TrainingOptions(), ["0" * 64])
    return path


def test_curves_are_a_picture(training: Path) -> None:
    png = draw_curves(read_training(training))
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert picture.shape[:2] == (300, 960)
    for colour in ((0, 114, 178), (213, 94, 0)):  # the two lines are there
        assert (np.abs(picture.astype(int) - colour).sum(axis=2) < 12).any()
    assert png == draw_curves(read_training(training)) and len(png) < 200_000


def test_mined_tuples_by_hand() -> None:
    mined = {
        "mined/epoch": np.array([1, 2]),
        "mined/query": np.array([9, 0]),
        "mined/positive": np.array([9, 1]),
        "mined/negatives": np.array([[9, 9], [2, -1]]),
    }
    (row,) = mined_rows(ARRAYS, mined, 2)
    assert [(tile.column, tile.image) for tile in row] == [("query", 0), ("positive", 1), ("negative", 2)]
    assert row[2].caption == "cluster 5"
    with pytest.raises(NothingToShow, match="epoch 3"):
        mined_rows(ARRAYS, mined, 3)


def test_what_the_run_page_gets(training: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(pages, "create_table_artifact", lambda **given: made.update({given["key"]: given}))
    monkeypatch.setattr(pages, "create_image_artifact", lambda **given: made.update({given["key"]: given}))
    arrays = ARRAYS | {"images/name": np.array(["a.png", "b.png", "c.png", "d.png"], dtype=object)}
    read = pages.hdf5.read
    monkeypatch.setattr(
        pages.hdf5,
        "read",
        lambda path, *wanted: arrays if wanted[0] == "training_set" else read(path, *wanted),
    )
    photos = tmp_path / "photos"
    photos.mkdir()
    refs = {"finetune": [SimpleNamespace(path="finetune")], "training_set": [SimpleNamespace(path="set.h5")]}
    record = SimpleNamespace(resources={"photos": str(photos)}, refs_of=lambda name: refs[name])
    store = SimpleNamespace(root=tmp_path)
    pages.show_training(store, record)
    assert set(made) == {"finetune-epochs", "finetune-curves"}  # the photographs are gone
    assert [row["epoch"] for row in made["finetune-epochs"]["table"] if row["kept"]] == [1]
    for name in "abcd":
        Image.new("RGB", (40, 30), (200, 20, 20)).save(photos / f"{name}.png")
    pages.show_training(store, record)
    url = made["finetune-hard-negatives"]["image_url"]
    assert url.startswith("data:image/jpeg;base64,") and len(url) < 1_000_000


def test_a_picture_is_small_and_there_where_there_is_something_to_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(pages, "create_image_artifact", lambda **given: made.update({given["key"]: given}))
    pages.show_still(None, None, "select-overlaps", lambda material: None, "")  # type: ignore[arg-type]
    assert made == {}
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2500, 3), np.uint8)
    pages.show_still(None, None, "select-overlaps", lambda material: Image.fromarray(noise), "w")  # type: ignore[arg-type]
    assert len(made["select-overlaps"]["image_url"]) < 1_000_000


PARTS = ("artifact_rows", "show_still", "read_training", "draw_curves", "hard_negatives_sheet", "read_table")
SHOWN_BY_WHAT = (
    *PARTS,
    "result_rows",
    "harder_rows",
    "stale_rows",
    "report_run",
    "serving",
    "create_table_artifact",
)


@pytest.mark.parametrize("broken", [*SHOWN_BY_WHAT, "create_image_artifact", "create_markdown_artifact"])
@pytest.mark.parametrize("error", [OSError, RuntimeError, AttributeError, MemoryError])
def test_what_cannot_be_drawn_is_logged_and_fails_nothing(
    broken: str, error: type[Exception], shown: dict[str, Any], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Whatever of it fails, and however: the run goes on, and all the rest is there."""
    show_all(shown["store"], shown["record"])
    whole = set(shown["made"])
    assert "not shown" not in caplog.text and len(whole) == 16
    shown["made"].clear()

    def fails(*_: Any, **__: Any) -> Any:
        raise error("scene.h5 is damaged")

    monkeypatch.setattr(pages, broken, fails)
    show_all(shown["store"], shown["record"])
    assert f": {error.__name__}: scene.h5 is damaged (test_pages.py:" in caplog.text
    lost = whole - set(shown["made"])
    assert lost and (len(lost) < 9 or broken == "create_table_artifact")


@pytest.mark.parametrize("broken", SHOWN_BY_WHAT)
@pytest.mark.parametrize("error", [KeyboardInterrupt, CancelledError])
def test_an_interruption_of_drawing_goes_through(
    broken: str, error: type[BaseException], shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(pages, broken, interrupted)
    with pytest.raises(error):
        show_all(shown["store"], shown["record"])


def show_all(store: Any, record: Any) -> None:
    for stage in STAGES:
        pages.show_stage(store, record, stage)
    pages.show_stale(store, record)
    pages.show_report(store, "r1")


@pytest.fixture
def shown(training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A run of which everything can be shown, each picture drawn by nobody; what was made, by key."""
    made: dict[str, Any] = {}
    for kind in ("table", "image", "markdown"):
        name = f"create_{kind}_artifact"
        monkeypatch.setattr(pages, name, lambda **given: made.update({given["key"]: given}))
    picture = Image.new("RGB", (4, 3))
    stills = {
        stage: tuple((n, lambda _: picture, w) for n, _, w in each) for stage, each in pages.STILLS.items()
    }
    monkeypatch.setattr(pages, "STILLS", stills)
    monkeypatch.setattr(pages, "Material", lambda *_: SimpleNamespace(training_set={}))
    for name, value in {
        "artifact_rows": [{}],
        "read_table": SimpleNamespace(verdict="only whiten", harder=[1]),
        "result_rows": [{}],
        "harder_rows": [{}],
        "stale_rows": [{}],
        "hard_negatives_sheet": b"",
        "report_run": tmp_path / "r1.html",
        "serving": "http://127.0.0.1:1/api",
    }.items():
        monkeypatch.setattr(pages, name, lambda *_, value=value: value)
    record = SimpleNamespace(refs_of=lambda name: [SimpleNamespace(path=name)], resources={})
    return {"made": made, "store": SimpleNamespace(root=tmp_path), "record": record}


def test_the_report_is_linked_where_it_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(pages, "create_markdown_artifact", lambda **given: made.append(given))
    monkeypatch.setattr(pages, "report_run", lambda store, run: store.root / "runs" / f"{run}.html")
    monkeypatch.setattr(pages, "serving", lambda home: None)
    store: Any = SimpleNamespace(root=tmp_path)
    pages.show_report(store, "r1")
    assert made == []
    monkeypatch.setattr(pages, "serving", lambda home: "http://127.0.0.1:1/api")
    pages.show_report(store, "r1")
    assert [each["markdown"] for each in made] == ["[Report of run r1](/reports/r1.html)"]
