"""A small finished run in a store, with names that try to break out of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.options.pipeline import PipelineOptions
from retrieval.training.options import TRAINING_FILE, TrainingOptions
from retrieval.training.record import EpochRecord, TrainingState, write_training
from storage.hdf5 import file as hdf5
from storage.keys.artifacts import ArtifactRef
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tests.storage.layout_samples import SAMPLES, SHA, ints

HOSTILE = '<script>alert("1")</script>\'&.jpg'
NAMES = [HOSTILE, "b\n</script><!--.jpg", "c\udcff.jpg", "ü d.jpg"]
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (90, 90, 90))


class NoOptions(Options):
    """Nothing to choose."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "a store")


@pytest.fixture
def record(store: Store, tmp_path: Path) -> RunRecord:
    """A completed run: scene, training set, training of two epochs, evaluation, working copies."""
    working = _put(store, "working", _working, directory=True)
    scene = _put(store, "scene", _file("scene", {"photos/name": NAMES}), working)
    chosen = _put(store, "training_set", _file("training_set", _training_set()), scene)
    finetune = _put(store, "finetune", _training, chosen, directory=True)
    evaluation = _put(store, "evaluate", _file("evaluation", _evaluation(), split="test"), finetune, chosen)
    begun = ledger.start(
        store,
        HOSTILE,
        options=PipelineOptions().model_dump(mode="json") | {"unknown": 1},
        resources={"photos": str(tmp_path / "my photos")},
        refs={
            "working": [working],
            "scene": scene,
            "training_set": chosen,
            "finetune": finetune,
            "evaluation": evaluation,
        },
    )
    ended = begun.finished("completed")
    ledger.save(store, ended)
    return ended


def _put(
    store: Store, name: str, build: Callable[[Path], Any], *upstream: ArtifactRef, directory: bool = False
) -> ArtifactRef:
    stage = Stage(name=name, kind="directory" if directory else "file", suffix="" if directory else ".h5")
    inputs = [ref.content_sha256 for ref in upstream]
    return store.produce(stage, NoOptions(), inputs, build, upstream=upstream)


def _file(schema: str, changes: dict[str, Any], **options: Any) -> Callable[[Path], None]:
    def build(out: Path) -> None:
        arrays = {key: value for key, value in (SAMPLES[schema]() | changes).items() if value is not None}
        hdf5.write(out, schema, arrays, stage=schema, options=options, inputs=[])

    return build


def _working(out: Path) -> None:
    out.mkdir(exist_ok=True)
    for sha, colour in zip(SHA[:3], COLOURS, strict=False):
        Image.new("RGB", (400, 300), colour).save(out / f"{sha}.jpg")


def _training(out: Path) -> None:
    out.mkdir(exist_ok=True)
    state = TrainingState(warnings=["<b>few</b> clusters"])
    nothing = np.empty((0, 4), np.int64)
    state.finish(EpochRecord(0, np.nan, np.nan, 0.4, 0.0, 3.0, np.nan), nothing)
    for epoch in (1, 2):
        state.finish(EpochRecord(epoch, 0.2, np.nan, 0.9, 1e-5, 2.9, 0.8), np.array([[0, 1, 2, 3]]))
    shift = np.array([0]), np.array([0.1], dtype=np.float32)
    write_training(
        out / TRAINING_FILE, state, np.empty((0, 3), np.int64), shift, TrainingOptions(), ["0" * 64]
    )


def _training_set() -> dict[str, Any]:
    """Query 0 of test has image 1 as easy, itself as junk; images 2 and 3 are wrong."""
    at = "benchmark/test"
    nothing_of_val = {
        f"benchmark/val/{path}": ints(0) if path.endswith("indptr") else ints()
        for path in (
            "queries",
            "database",
            *(f"{x}/{y}" for x in ("easy", "hard", "junk") for y in ("indptr", "image")),
        )
    }
    return nothing_of_val | {
        "images/name": NAMES,
        "images/split": np.full(4, 2, np.int8),
        "queries/split": np.full(2, 2, np.int8),
        f"{at}/queries": ints(0),
        f"{at}/database": ints(0, 1, 2, 3),
        f"{at}/easy/indptr": ints(0, 1),
        f"{at}/easy/image": ints(1),
        f"{at}/hard/indptr": ints(0, 0),
        f"{at}/hard/image": ints(),
        f"{at}/junk/indptr": ints(0, 2),
        f"{at}/junk/image": ints(0, 3),
        "harder/val/box": np.empty((0, 4), np.float32),
        "harder/test/box": np.array([[0, 0, 1, 1]], np.float32),
    }


def _evaluation() -> dict[str, Any]:
    return {
        "queries/name": [NAMES[0]],
        "database/name": NAMES,
        "ranks/raw": np.array([[0, 2, 1, 3]]),
        "scores/raw": np.array([[1, 0.9, 0.5, 0.1]], np.float32),
        "configurations/protocol": ["easy", "medium"],
        "configurations/name": ["raw-easy", "raw-medium"],
        "configurations/map": np.array([0.5, 0.5]),
        "average_precisions/raw-easy": np.array([0.5]),
        "average_precisions/raw-medium": np.array([0.5]),
        "average_precisions/raw-hard": None,
    }
