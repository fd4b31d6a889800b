"""A sweep on stand-ins of the runs: what each gives, what fails, what is written; its command."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from flows.cli import common, main
from flows.cli.plans import render_results
from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.options.sweep import Sweep, read_sweep
from flows.run.sweep_table import Outcome, markdown, plain_rows
from flows.sweep import run_combinations
from retrieval.evaluation.evaluate import Configuration, EvaluationOptions, evaluate
from retrieval.training.record import EpochRecord, TrainingState, write_training
from storage.hdf5 import file as hdf5
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tests.retrieval.evaluation.test_evaluate import training_set

EVALUATION = Stage(name="evaluate", schema_name="evaluation", suffix=".h5")
FINETUNE = Stage(name="finetune", kind="directory")
COLUMNS = ["off-the-shelf raw single", "fine-tuned raw single"]


class Number(Options):
    value: int


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for console in (common.out, common.err):
        monkeypatch.setattr(console, "_width", 400)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Four combinations: seeds 0 and 1, and 0 with other epochs; 13 epochs fail."""
    (tmp_path / "photos").mkdir()
    path = tmp_path / "trial.yaml"
    grids = [{"training.seed": [0, 1]}, {"training.epochs": [13, 4]}]
    path.write_text(yaml.safe_dump({"photos": "photos", "grids": grids, "columns": COLUMNS}))
    return path


@pytest.fixture
def sweep(config: Path) -> Sweep:
    return read_sweep(config)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunRecord]:
    """Instead of `end_to_end`: descriptors that get better with the seed, best epoch = epochs."""
    store = Store.create(tmp_path / "store", min_free_bytes=0)
    hdf5.write(
        tmp_path / "t.h5", "training_set", training_set(), stage="select", options={}, inputs=["0" * 64]
    )

    def instead(
        photos: str, root: str, *, options: PipelineOptions, resources: PipelineResources
    ) -> RunRecord:
        chosen = options.training
        if chosen.epochs == 13:
            raise RuntimeError("no negatives\nfor | 'a.jpg'")
        number = Number(value=10 * chosen.epochs + chosen.seed)
        refs = {
            "finetune": store.produce(FINETUNE, number, ["a"], lambda out: trained(out, chosen.epochs)),
            "evaluation": store.produce(EVALUATION, number, ["a"], lambda out: measured(out, chosen.seed)),
        }
        record = ledger.start(store, "photos", refs=refs).finished("completed")
        ledger.save(store, record)
        return record

    def trained(out: Path, epochs: int) -> dict[str, Any]:
        state = TrainingState()
        nothing = np.empty((0, 2), dtype=np.int64)
        for epoch in range(epochs + 1):
            state.finish(EpochRecord(epoch, 0.5, 0.5, 0.1 * epoch, 1e-5, 3.0, 0.5), nothing)
        shift = np.empty(0, np.int64), np.empty(0, np.float32)
        out.mkdir(exist_ok=True)
        write_training(
            out / "training.h5",
            state,
            np.empty((0, 3), np.int64),
            shift,
            PipelineOptions().training,
            ["0" * 64],
        )
        return {"sidecar": {"summary": {"seconds": {"mine": 1.5, "train": 40.0}}}}

    def measured(out: Path, seed: int) -> None:
        good = np.repeat(np.eye(12, dtype=np.float32), 4, axis=0)[:29]
        bad = np.random.default_rng(0).normal(size=good.shape).astype(np.float32)
        both = (bad, good if seed else bad)
        configurations = [
            Configuration(network, "raw", "1", descriptors)
            for network, descriptors in zip(("off-the-shelf", "fine-tuned"), both, strict=True)
        ]
        evaluate(tmp_path / "t.h5", configurations, EvaluationOptions(resamples=50), out=out)

    return instead


def outcomes_of(sweep: Sweep, tmp_path: Path, run: Callable[..., RunRecord]) -> list[Outcome]:
    return run_combinations(sweep, str(tmp_path / "store"), tmp_path / "out", run)


def test_one_outcome_each_and_a_failure_stops_nothing(
    sweep: Sweep, tmp_path: Path, run: Callable[..., RunRecord]
) -> None:
    outcomes = outcomes_of(sweep, tmp_path, run)
    assert [each.error for each in outcomes] == ["", "", "no negatives for | 'a.jpg'", ""]
    assert [each.best_epoch for each in outcomes] == [3, 3, None, 4]
    assert outcomes[0].seconds == 41.5
    off, tuned = sweep.columns
    medium = [each.cells[tuned, "medium"].value for each in outcomes if not each.error]
    assert medium[1] == 1.0 and medium[0] < 0.9
    assert all(each.cells[off, "hard"].value < 0.9 for each in outcomes if not each.error)


def test_the_tables_say_the_same_and_grow_with_every_combination(
    sweep: Sweep, tmp_path: Path, run: Callable[..., RunRecord]
) -> None:
    lengths = []

    def watched(*arguments: Any, **more: Any) -> RunRecord:
        written = tmp_path / "out" / "trial.csv"
        lengths.append(len(written.read_text().splitlines()) if written.exists() else 0)
        return run(*arguments, **more)

    outcomes = outcomes_of(sweep, tmp_path, watched)
    assert lengths == [0, 2, 3, 4]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "trial.csv").read_text())))
    assert [row["training.epochs"] for row in rows] == ["3", "3", "13", "4"]
    assert rows[1]["fine-tuned raw single medium"] == "100.0" and rows[1]["run"] == outcomes[1].run
    assert rows[2]["fine-tuned raw single medium"] == "" and "no negatives" in rows[2]["error"]
    low, value, high = (float(rows[0][f"fine-tuned raw single medium{end}"]) for end in (" low", "", " high"))
    assert low < value < high
    text = (tmp_path / "out" / "trial.md").read_text()
    assert text == markdown(sweep, outcomes)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table[:6]} == {table[0].count("|")}
    assert "Combination 3: no negatives for \\| 'a.jpg'" in text
    assert "| 2 | 1 | 3 |" in text and "100.0 (100–100)" in text
    assert [each["combination"] for each in plain_rows(sweep, outcomes)] == [1, 2, 3, 4]


def test_means_over_seeds_by_hand(sweep: Sweep, tmp_path: Path, run: Callable[..., RunRecord]) -> None:
    outcomes = outcomes_of(sweep, tmp_path, run)
    console = Console(width=400, record=True, file=io.StringIO())
    for table in render_results(sweep, outcomes):
        console.print(table)
    lines = console.export_text().splitlines()
    (start,) = (number for number, line in enumerate(lines) if "over seeds" in line and "Mean" not in line)
    tuned = sweep.columns[1]
    first, second = (100 * outcomes[i].cells[tuned, "medium"].value for i in (0, 1))
    middle, spread = (first + second) / 2, abs(first - second) / 2**0.5
    assert any(f"{middle:.1f} ± {spread:.1f}" in line for line in lines[start:])
    assert sum("failed" in line for line in lines) == 1


def command(config: Path, tmp_path: Path, *more: object) -> Any:
    return CliRunner().invoke(
        main.app, ["sweep", str(config), "--store", str(tmp_path / "store"), *map(str, more)]
    )


def test_the_command_ends_with_1_where_one_failed(
    config: Path, tmp_path: Path, run: Callable[..., RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_flow(root: Path, load: Any, arguments: dict[str, Any], *, verify: bool) -> Any:
        assert load().__name__ == "run_sweep" and not verify
        request = (arguments["sweep"], arguments["store"], arguments["out"])
        return run_combinations(*request, run), Path("the.log")

    monkeypatch.setattr("flows.cli.sweep.run_flow", run_flow)
    result = command(config, tmp_path, "--out", tmp_path / "tables")
    assert result.exit_code == 1
    for text in ("sweep trial: 4 combinations", "100.0 (100–100)", f"{tmp_path}/tables/trial.csv"):
        assert text in result.output
    assert "error: combination 3 (seed 0, epochs 13): no negatives for | 'a.jpg'" in result.output
    assert "1 of 4 combinations failed" in result.output and "log: the.log" in result.output
    config.write_text(config.read_text().replace("13", "5"))
    assert command(config, tmp_path).exit_code == 0
    assert (tmp_path / "store" / "sweeps" / "trial.md").is_file()


def test_a_mistake_is_2_and_nothing_is_made(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("training.seed", "training.seeds"))
    result = command(config, tmp_path)
    assert result.exit_code == 2 and "'training.seed'" in result.output
    assert not (tmp_path / "store").exists()


def test_the_plan_says_what_is_shared_and_makes_nothing(config: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (80, 60)).save(tmp_path / "photos" / "a.png")
    result = command(config, tmp_path, "--plan")
    assert result.exit_code == 0, result.output
    assert "4 combinations on 1 different photographs" in result.output
    rows = [
        line.split() for line in result.output.splitlines() if line[:1].isdigit() and "epochs" not in line
    ]
    second = next(row for row in rows if row[:3] == ["2", "1", "3"])
    assert second[3:7] == ["as", "1", "as", "1"] and second[7:9] == ["to", "do"]
    assert not (tmp_path / "store").exists()
