"""Pictures of a training for the run page: there, small, and silent where photographs are gone."""

import io
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows import pages
from retrieval.finetuning import TRAINING_FILE, TrainingOptions
from retrieval.training_curves import draw_curves
from retrieval.training_record import EpochRecord, TrainingState, write_training
from retrieval.training_table import read_training
from retrieval.tuple_sheet import NothingToShow, mined_rows

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


def test_a_picture_that_cannot_be_drawn_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(pages, "create_image_artifact", lambda **given: made.update({given["key"]: given}))

    def damaged(material: Any) -> Any:
        raise OSError("scene.h5 is damaged")

    pages.show_still(None, None, "reconstruct-models", damaged, "")  # type: ignore[arg-type]
    pages.show_still(None, None, "select-overlaps", lambda material: None, "")  # type: ignore[arg-type]
    assert made == {} and "reconstruct-models is not shown: OSError: scene.h5 is damaged" in caplog.text
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2500, 3), np.uint8)
    pages.show_still(None, None, "select-overlaps", lambda material: Image.fromarray(noise), "w")  # type: ignore[arg-type]
    assert len(made["select-overlaps"]["image_url"]) < 1_000_000


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
