"""From descriptors to the group `verdict`: whitening that helps is used, a network that is ruined is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.benchmarks.geometry import GeometryBenchmark, mean_over_clusters
from retrieval.benchmarks.harder import AmongAll
from retrieval.benchmarks.val import Val
from retrieval.evaluation.evaluate import Configuration, EvaluationOptions, evaluate
from retrieval.evaluation.judging import Judging, verdict_arrays
from retrieval.evaluation.verdict import AS_IT_WAS, CANDIDATES, ONLY_WHITEN, Epochs
from retrieval.whitening.whitening import (
    Whitening,
    WhiteningOptions,
    choose_shrinkage,
    pair_statistics,
    training_pairs,
)
from storage.hdf5.file import read, write
from tests.retrieval.whitening.test_crossed import collection
from tests.retrieval.whitening.test_whitening import split_collection
from tests.storage.layout_samples import SAMPLES, write_sample

LW = WhiteningOptions(shrinkage_grid=(0.01, 0.1, 1.0))


@pytest.fixture(scope="module")
def world() -> tuple[dict[str, Any], np.ndarray]:
    """24 clusters, 6 of val; one direction of the descriptors is noise, which Lw takes out."""
    arrays, rows = split_collection(np.random.default_rng(8))
    rows = rows.copy()
    rows[:, 0] = np.random.default_rng(1).normal(size=len(rows)) * 2
    return arrays, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def configurations(baseline: np.ndarray, tuned: np.ndarray) -> list[Configuration]:
    same = Whitening(np.zeros(baseline.shape[1]), np.eye(baseline.shape[1]))
    return [
        Configuration(network, whitening, "1", rows, transform)
        for network, rows in (("off-the-shelf", baseline), ("fine-tuned", tuned))
        for whitening, transform in (("raw", None), ("pcaw", same))
    ]


def test_whitening_that_helps_is_used_and_ruin_is_not(world: Any, tmp_path: Path) -> None:
    arrays, rows = world
    ruined = np.random.default_rng(2).normal(size=rows.shape).astype(np.float32)
    write(tmp_path / "t.h5", "training_set", arrays, stage="select", options={}, inputs=())
    out, judging = tmp_path / "evaluation.h5", Judging(LW, None)
    evaluate(tmp_path / "t.h5", configurations(rows, ruined), EvaluationOptions(), out=out, judging=judging)
    found = read(out, "evaluation")
    assert CANDIDATES[int(found["verdict/chosen"])] == ONLY_WHITEN
    assert found["verdict/whitening"][1] == "lw" and found["verdict/gain_low"][1] > 0
    assert found["verdict/gain"][2] < 0 and "6 clusters of val" in found["verdict/sentence"][0]
    pairs = training_pairs(arrays, "m2+m3")
    train = np.flatnonzero(np.asarray(arrays["images/split"]) == 0)
    statistics = pair_statistics(rows, pairs[:, 0], pairs[:, 1], train)
    best = max(choose_shrinkage(statistics, rows, Val.of(arrays), LW.shrinkage_grid).tried.values())
    assert found["verdict/estimate"][1] <= best + 1e-9  # what the judges chose themselves is no worse


def test_train_judges_a_whitening_too(world: Any) -> None:
    """The 12 clusters of train judge whether to whiten, those of val all else."""
    _, rows = world
    arrays, _ = collection()
    found = verdict_arrays(arrays, configurations(rows, rows), Judging(LW, None), 0)
    assert CANDIDATES[int(found["verdict/chosen"])] == ONLY_WHITEN
    assert "over 18 clusters of train and val" in found["verdict/sentence"][0]
    assert "over 6 clusters of val" in found["verdict/sentence"][0]


@pytest.mark.parametrize("queries", ["models", "clusters"])
def test_harder_rows_count_where_a_query_has_them(world: Any, queries: str) -> None:
    """Altered queries that are noise take from the estimate; only those of the benchmark's queries do."""
    _, rows = world
    arrays, _ = collection()
    options = LW.model_copy(update={"val_queries": queries})
    noise = np.random.default_rng(4).normal(size=(6, rows.shape[1])).astype(np.float32)
    plain = configurations(rows, rows)
    altered = [replace(each, altered={("val", "dark"): noise}) for each in plain]
    without, found = (
        verdict_arrays(arrays, each, Judging(options, None), 0)["verdict/estimate"][0]
        for each in (plain, altered)
    )
    val = Val.of(arrays, queries=queries)
    asked = val.precisions(rows.__getitem__)
    harder = AmongAll.of(arrays, GeometryBenchmark.from_arrays(arrays, "val"), without_test=True)
    dark = harder.precisions(noise, rows[harder.images])
    judged = asked.copy()
    for place, image in enumerate(val.benchmark.queries.tolist()):
        if image in harder.standing.queries:
            judged[place] = (asked[place] + dark[harder.standing.queries.tolist().index(image)]) / 2
    assert without == pytest.approx(mean_over_clusters(asked, val.benchmark.clusters))
    assert found == pytest.approx(mean_over_clusters(judged, val.benchmark.clusters)) and found < without


def test_the_same_network_twice_stays_as_it_was(world: Any) -> None:
    arrays, rows = world
    only_raw = Judging(
        WhiteningOptions(shrinkage_grid=(1e9,)), None
    )  # a ridge so large that nothing is whitened but the mean
    found = verdict_arrays(arrays, configurations(rows, rows), only_raw, 0)
    assert found["verdict/network"] == ["off-the-shelf", "off-the-shelf", "fine-tuned"]
    assert int(found["verdict/chosen"]) != 2


def test_an_epoch_that_val_flattered_is_corrected(world: Any) -> None:
    """The kept epoch was best by luck of one cluster: without that cluster another one is chosen."""
    arrays, rows = world
    values = np.array([[0.9] * 6, [1.0, *[0.89] * 5]])
    lucky = Judging(LW, Epochs(values, 1))
    plain, corrected = (
        verdict_arrays(arrays, configurations(rows, rows), each, 0)["verdict/estimate"]
        for each in (Judging(LW, None), lucky)
    )
    np.testing.assert_allclose(corrected[:2], plain[:2])
    assert corrected[2] < plain[2]


@pytest.mark.parametrize("mean", ["queries", "clusters"])
def test_the_epoch_is_judged_by_the_mean_that_chose_it(tmp_path: Path, mean: str) -> None:
    training, lw = tmp_path / "training.h5", tmp_path / "lw.h5"
    write(
        training, "training", SAMPLES["training"](), stage="finetune", options={"val_mean": mean}, inputs=[]
    )
    told: dict[str, Any] = {"positives": "m3", "shrinkage_grid": [1.0]}
    write(lw, "whitening", SAMPLES["whitening"](), stage="whiten", options=told, inputs=[])
    epochs = Judging.of(training, lw).epochs
    assert epochs is not None and epochs.mean == mean
    told["val_queries"] = "clusters"  # the training asked other queries: their AP corrects nothing
    write(lw, "whitening", SAMPLES["whitening"](), stage="whiten", options=told, inputs=[])
    assert Judging.of(training, lw).epochs is None


def test_without_both_networks_there_is_no_verdict(world: Any) -> None:
    arrays, rows = world
    assert verdict_arrays(arrays, configurations(rows, rows)[:2], Judging(LW, None), 0) == {}


def test_a_val_without_queries_leaves_everything_as_it_was(world: Any) -> None:
    arrays, rows = world
    empty = np.empty(0, dtype=np.int64)
    labels = {f"benchmark/val/{label}/{part}": np.zeros(1, np.int64) if part == "indptr" else empty
              for label in ("easy", "hard", "junk") for part in ("indptr", "image")}  # fmt: skip
    without = {**arrays, **labels, "benchmark/val/queries": empty, "benchmark/val/database": empty}
    found = verdict_arrays(without, configurations(rows, rows), Judging(LW, None), 0)
    assert CANDIDATES[int(found["verdict/chosen"])] == AS_IT_WAS
    assert "val has no query" in found["verdict/sentence"][0] and np.isnan(found["verdict/estimate"]).all()


def test_it_is_read_from_the_files_of_a_run(tmp_path: Path) -> None:
    training = write_sample(tmp_path / "training.h5", "training")
    lw = tmp_path / "whitening.h5"
    told = LW.model_copy(update={"positives": "m3", "val_database": "all", "val_mean": "clusters"})
    columns = {"mean": np.zeros(2), "projection": np.eye(2)}
    write(lw, "whitening", columns, stage="whiten", options=told.model_dump(mode="json"), inputs=())
    found = Judging.of(training, lw)
    assert found.whitening == told
    assert found.epochs is not None and found.epochs.kept == 1
    assert found.epochs.average_precisions.shape == (2, 3)
    write_sample(training, "training", **{"epochs/val_average_precision": None})
    assert Judging.of(training, lw).epochs is None
    assert CANDIDATES[0] == AS_IT_WAS
