"""What a person sees of a training set agrees with its arrays."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from report.tables.selection import render, report
from sfm.lists.positions import PositionOptions, from_positions
from sfm.scene.scene import Scene
from sfm.selection.choosing import SelectionOptions, select
from sfm.training_set.training_set import TrainingSet
from storage.schemas.training_set import Dropped, Matched

MakeScene = Callable[..., Scene]


@pytest.fixture(scope="module")
def chosen(many_places: MakeScene) -> TrainingSet:
    return select(many_places(), SelectionOptions(query_fraction=0.5))


def text_of(chosen: TrainingSet) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    for part in render(report(chosen)):
        console.print(part, markup=False, highlight=False)
    return console.export_text()


def test_counts_per_split(chosen: TrainingSet) -> None:
    found = report(chosen)
    images = chosen.images
    for number, row in enumerate(found.splits):
        mine = images.split == number
        assert row.photographs == mine.sum() and row.clusters == len(set(images.cluster[mine].tolist()))
        assert row.registered == (mine & images.registered).sum()
        assert row.queries == (chosen.queries.split == number).sum()
        sizes = [int((images.cluster == c).sum()) for c in set(images.cluster[mine].tolist())]
        assert row.largest == tuple(sorted(sizes, reverse=True)[:10]) and row.alone == sizes.count(1)
    assert [row.benchmark_queries for row in found.splits] == [
        0, len(chosen.benchmark["val"].queries), len(chosen.benchmark["test"].queries),
    ]  # fmt: skip


def test_histograms_count_every_candidate_once(chosen: TrainingSet) -> None:
    found = {each.title: each for each in report(chosen).histograms}
    shared = chosen.candidates.shared_points > 0
    assert found["overlap of candidates"].counts.sum() == shared.sum()
    assert found["overlap of m3 positives"].counts.sum() == chosen.positives.m3.image.size
    assert found["overlap of m3 positives"].counts[:2].sum() == 0  # below 0.2
    change = chosen.candidates.scale_change
    assert found["scale change of candidates"].counts.sum() == np.isfinite(change).sum()


def test_reasons_and_queries_without_a_positive(chosen: TrainingSet) -> None:
    without = replace(
        chosen,
        positives=replace(chosen.positives, m2=np.where(np.arange(chosen.positives.m2.size) < 3, -1, 5)),
    )
    assert report(without).without == {"m1": 0, "m2": 3, "m3": 0}
    text = text_of(chosen)
    for why, count in chosen.summary["not_queries"].items():
        assert (f"{count}  {why}" in text) == (count > 0)


def test_matched_pairs_are_counted(chosen: TrainingSet) -> None:
    assert "matched" not in text_of(chosen)
    model = np.full(len(chosen.images.name), -1)
    model[:4] = [0, 0, 1, -1]
    first, second = np.array([0, 0, 1, 3]), np.array([1, 2, 3, 5])
    matched = Matched(first, second, np.full(4, 12))
    text = text_of(replace(chosen, matched=matched, images=replace(chosen.images, model=model)))
    assert "matched: 4 pairs, 3 of them in no one model, 2 photographs without a model in a pair" in text


def test_what_was_dropped_is_shown(chosen: TrainingSet) -> None:
    one = np.array([7])
    names = [np.array([name], dtype=object) for name in ("[bold]b\n1.jpg", "ü.jpg")]
    dropped = Dropped(one, one + 1, np.zeros(1, np.int8), *names, one + 35, np.ones(1, np.float32))
    text = text_of(replace(chosen, dropped=dropped))
    assert "1 clusters that show what the benchmark shows" in text
    assert r"[bold]b\n1.jpg" in text and "ü.jpg" in text and "42" in text


def test_positions_have_exclusions_instead_of_overlaps() -> None:
    options = PositionOptions(val_fraction=0, test_fraction=0)
    found = report(from_positions(["a", "b", "c"], [[0, 0], [5, 0], [90, 0]], None, options))
    assert found.histograms == () and found.negatives == {"excluded (query, photograph)": 0}
    assert found.reasons == {"no positive": 1}
