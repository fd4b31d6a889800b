"""Tables of a training and of whitenings: what a person reads in a terminal."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from report.tables.training import (
    WhiteningRow,
    read_training,
    read_whitening,
    render_training,
    render_whitenings,
)
from retrieval.training.options import TrainingOptions
from retrieval.training.record import EpochRecord, TrainingState, write_training
from retrieval.whitening.whitening import Whitening
from storage.files.errors import WrongSchema


def lines_of(table, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text().splitlines()


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """Two epochs after the state before; the first one is the best on val."""
    state = TrainingState(warnings=["train: a warning"])
    nothing = np.empty((0, 2), dtype=np.int64)
    state.finish(EpochRecord(0, math.nan, math.nan, 0.5, 0.0, 3.0, math.nan), nothing)
    state.finish(EpochRecord(1, 0.25, 0.125, 0.75, 1e-5, 2.9, 0.8), np.array([[0, 1, 2]]))
    state.finish(EpochRecord(2, 0.2, math.nan, 0.7, 9e-6, 2.8, 0.9), np.array([[0, 1, 2]]))
    shift = np.array([3, 4, 9]), np.array([0.1, 0.4, 0.2], dtype=np.float32)
    write_training(
        tmp_path / "training.h5",
        state,
        np.empty((0, 3), dtype=np.int64),
        shift,
        TrainingOptions(),
        ["0" * 64],
    )
    return tmp_path / "training.h5"


def test_a_training_is_read_as_it_was_written(training: Path) -> None:
    table = read_training(training)
    assert [row.epoch for row in table.epochs] == [0, 1, 2]
    assert (table.best_epoch, table.num_shifted, table.warnings) == (1, 3, ("train: a warning",))
    assert table.median_shift == pytest.approx(0.2)
    assert (table.epochs[1].loss_train, table.epochs[1].map_val) == (0.25, 0.75)


def test_the_table_of_a_training_marks_the_epoch_that_is_kept(training: Path) -> None:
    lines = lines_of(render_training(read_training(training)))
    assert "…" not in "".join(lines) and max(map(len, lines)) <= 80
    cells = [line.split() for line in lines[4:7]]
    assert cells[0] == ["before", "–", "–", "50.0", "–", "3.000"]
    assert cells[1] == ["1", "*", "1.0e-05", "0.2500", "0.1250", "75.0", "0.800", "2.900"]
    assert cells[2] == ["2", "9.0e-06", "0.2000", "–", "70.0", "0.900", "2.800"]
    text = " ".join(" ".join(lines).split())
    assert "kept: epoch 1" in text and "before and after training: 0.2000 (3 photographs)" in text


def test_a_whitening_shows_what_val_chose() -> None:
    tried = ((0.0, 0.9), (1.0, 0.95), (3.0, math.nan))
    learnt, pca = WhiteningRow("lw", 1.0, 602, 86, tried), WhiteningRow("pcaw", 0.0, 0, 86, ())
    blind = WhiteningRow("lw", 1.0, 7, 86, ((1.0, math.nan),))
    rows = [("fine-tuned", "single", pca), ("fine-tuned", "single", learnt), ("fine-tuned", "multi", blind)]
    lines = lines_of(render_whitenings(rows))
    found = [line.split() for line in lines if line.startswith("fine-tuned")]
    assert found[0] == ["fine-tuned", "single", "602", "1", "95.0", "90.0–95.0"]
    assert found[1] == ["fine-tuned", "multi", "7", "1", "–", "no", "query"]
    assert len(found) == 2 and "…" not in "".join(lines)


def test_a_whitening_is_read_from_its_file(tmp_path: Path) -> None:
    facts = {"method": "lw", "shrinkage": 0.3, "num_pairs": 5, "num_photographs": 6}
    Whitening(np.zeros(2), np.eye(2)).save(tmp_path / "w.h5", attributes=facts)
    assert read_whitening(tmp_path / "w.h5") == WhiteningRow("lw", 0.3, 5, 6, ())


def test_another_file_is_refused(training: Path) -> None:
    with pytest.raises(WrongSchema):
        read_whitening(training)
