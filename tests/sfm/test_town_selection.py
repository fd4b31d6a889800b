"""What is selected from a town's true geometry: nothing wrong, and every m2 the maximum."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import judge_selection
from benchmarks.judge_selection import buildings, judge, m2_share, true_scene
from sfm.selection.choosing import SelectionOptions, select
from sfm.training_set.training_set import TrainingSet
from town.town import Town, TownOptions, render_town

OPTIONS = TownOptions(
    seed=5, buildings=10, min_views=6, max_views=9, distractors=5, image_width=96, image_height=72,
    supersample=1, texels_per_m=8.0, points=400,
)  # fmt: skip


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return render_town(tmp_path_factory.mktemp("town") / "photos", OPTIONS)


@pytest.fixture(scope="module")
def chosen(truth: Town) -> TrainingSet:
    return select(true_scene(truth), SelectionOptions())


def test_nothing_is_wrong(truth: Town, chosen: TrainingSet) -> None:
    assert judge(truth, chosen) == 0
    assert (m2_share(truth, chosen) == 1).all() and len(chosen.queries.image) > 30


def test_m2_and_m3_by_brute_force_over_the_truth(truth: Town) -> None:
    """With Python sets of the points that each photograph truly sees; nothing counts as a near duplicate."""
    options = SelectionOptions(near_duplicate_overlap=1, near_duplicate_scale_change=1)
    chosen = select(true_scene(truth), options)
    row_of = {name: row for row, name in enumerate(truth.names)}
    seen = [set(truth.visible_points.indices[slice(*truth.visible_points.indptr[r : r + 2])].tolist())
            for r in range(len(truth.names))]  # fmt: skip
    row = [row_of[str(name)] for name in chosen.images.name]
    candidates = chosen.candidates
    for place, query in enumerate(chosen.queries.image.tolist()):
        own = seen[row[query]]
        pool = candidates.image[candidates.indptr[place] : candidates.indptr[place + 1]].tolist()
        counts = {image: len(own & seen[row[image]]) for image in pool}
        assert counts[int(chosen.positives.m2[place])] == max(counts.values())
        for image in chosen.positives.m3.row(place).tolist():
            assert counts[image] / len(own) >= options.min_overlap


def test_the_judge_sees_a_wrong_positive_and_a_wrong_negative(
    truth: Town, chosen: TrainingSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """m2 of the first query becomes a photograph of another building; one cluster is torn in two."""
    building = buildings(truth, chosen)
    query = int(chosen.queries.image[0])
    other = int(np.flatnonzero((building != building[query]) & (building >= 0))[0])
    kept = int(chosen.positives.m2[0])
    chosen.positives.m2[0] = other
    try:
        assert judge(truth, chosen) == 1
    finally:
        chosen.positives.m2[0] = kept
    member = np.flatnonzero(building == building[query])
    before = chosen.images.cluster[member].copy()
    chosen.images.cluster[member[:2]] = chosen.images.cluster.max() + 1
    try:
        assert judge(truth, chosen) > 0
    finally:
        chosen.images.cluster[member] = before
    truth.save(tmp_path / "truth.h5")
    chosen.to_h5(tmp_path / "set.h5")
    assert judge_selection.main(tmp_path / "truth.h5", tmp_path / "set.h5") == 0
    assert "precision 100.00%" in capsys.readouterr().out
