"""All stages in a row, on stand-ins: their order, what they are handed, what is said before, how it ends."""

import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from flows.end_to_end import end_to_end
from flows.options.pipeline import PipelineOptions
from flows.options.stages import STAGES
from flows.run.superseded import UnknownStage
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store

Events = list[Any]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """What happened, in order: notices, then every stage with its arguments. finetune fails on 13 epochs."""
    happened: Events = []
    module = import_module("flows.end_to_end")

    def part_of(stage: str) -> Callable[..., None]:
        def part(store: str, run: str, force: Sequence[str], accept: Sequence[str]) -> None:
            happened.append((stage, list(force), list(accept)))
            epochs = ledger.load(Store.open(store), run).options["training"]["epochs"]
            if (stage, epochs) == ("finetune", 13):
                raise RuntimeError("no luck")

        return part

    def notices(
        store: Store, collection: str, options: Any, resources: Any, stages: Any, accept: Any
    ) -> list[str]:
        happened.append(("notices", collection, list(stages), list(accept)))
        return ["features will be made again"]

    monkeypatch.setattr(module, "part_of", part_of)
    monkeypatch.setattr(module, "notices", notices)
    monkeypatch.setattr(module, "flow", lambda **settings: lambda function: function)
    monkeypatch.setattr(module, "show_stage", lambda store, record, stage: None)
    return happened


def run(tmp_path: Path, **settings: Any) -> RunRecord:
    record: RunRecord = end_to_end.fn(str(tmp_path / "town"), str(tmp_path / "store"), **settings)
    return record


def test_all_stages_in_order(events: Events, tmp_path: Path) -> None:
    record = run(tmp_path)
    assert [event[0] for event in events] == ["notices", *STAGES]
    assert (record.collection, record.status) == ("town", "completed")
    assert record.resources["photos"] == str(tmp_path / "town")


def test_until_force_and_accepted_code_reach_the_stages(
    events: Events, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "flows.run.superseded"):
        run(tmp_path, until="select", force=["select"], accept_older_code=["features"])
    assert events[0] == ("notices", "town", ["reconstruct", "select"], ["features", "select"])
    assert events[1:] == [(stage, ["select"], ["features"]) for stage in ("reconstruct", "select")]
    assert "features will be made again" in caplog.text


def test_a_failure_is_in_the_ledger(events: Events, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no luck"):
        run(tmp_path, options=PipelineOptions(training={"epochs": 13}))
    assert [event[0] for event in events] == ["notices", "reconstruct", "select", "finetune"]
    (record,) = ledger.records(Store.open(tmp_path / "store"))
    assert record.status == "failed"


def test_a_name_that_is_no_stage_is_refused_before_anything_is_made(events: Events, tmp_path: Path) -> None:
    with pytest.raises(UnknownStage, match="'reconstruct'"):
        run(tmp_path, accept_older_code=["reconstuct"])
    assert events == [] and not (tmp_path / "store").exists()
