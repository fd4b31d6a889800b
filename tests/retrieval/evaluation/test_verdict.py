"""What is used: by hand, that judges have no part in a choice, and that what is careful wins in doubt."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.benchmarks import geometry
from retrieval.evaluation.verdict import (
    AS_IT_WAS,
    FINE_TUNED,
    ONLY_WHITEN,
    TRAIN_AND_VAL,
    Epochs,
    Judges,
    Modes,
    judge,
)

FAMILIES = ("raw", "pcaw", "lw", "lw")
CLUSTERS = np.repeat(np.arange(6), 3)


def modes(*values: float | np.ndarray) -> Modes:
    """AP of each mode, one for all queries or [V]; asked and judged alike."""
    table = np.array([np.broadcast_to(each, CLUSTERS.shape) for each in values], dtype=np.float64)
    return Modes(FAMILIES, table, table)


@pytest.mark.parametrize(
    ("baseline", "tuned", "chosen", "network", "whitening"),
    [
        ((0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5), AS_IT_WAS, "off-the-shelf", "raw"),
        ((0.5, 0.4, 0.6, 0.5), (0.5, 0.5, 0.5, 0.5), ONLY_WHITEN, "off-the-shelf", "lw"),
        ((0.5, 0.7, 0.6, 0.5), (0.5, 0.5, 0.8, 0.5), FINE_TUNED, "fine-tuned", "lw"),
        ((0.5, 0.4, 0.3, 0.3), (0.6, 0.5, 0.5, 0.5), FINE_TUNED, "fine-tuned", "raw"),
        ((0.5, 0.4, 0.3, 0.3), (0.4, 0.4, 0.4, 0.4), AS_IT_WAS, "off-the-shelf", "raw"),
    ],
)
def test_a_sure_gain_is_taken(
    baseline: tuple[float, ...], tuned: tuple[float, ...], chosen: str, network: str, whitening: str
) -> None:
    found = judge(modes(*baseline), modes(*tuned), CLUSTERS)
    assert found.chosen == chosen
    (used,) = [each for each in found.candidates if each.name == chosen]
    assert (used.network, used.whitening) == (network, whitening)
    assert [each.name for each in found.candidates] == [AS_IT_WAS, ONLY_WHITEN, FINE_TUNED]
    assert "6 clusters of val" in found.sentence and "80%" in found.sentence


def test_a_gain_of_some_clusters_is_not_sure() -> None:
    up_and_down = 0.5 + np.where(CLUSTERS % 2, 0.3, -0.25)
    found = judge(modes(0.5, 0.4, up_and_down, up_and_down), modes(0.5, 0.4, 0.4, 0.4), CLUSTERS)
    assert found.chosen == AS_IT_WAS
    gain = found.candidates[1].gain
    assert gain.low < 0 < gain.value < gain.high and found.candidates[2].against == AS_IT_WAS


def test_what_is_asked_last_is_compared_with_what_is_held() -> None:
    """Fine-tuned is better than before, and worse than whitening alone."""
    found = judge(modes(0.5, 0.9, 0.8, 0.8), modes(0.7, 0.7, 0.7, 0.7), CLUSTERS)
    assert found.chosen == ONLY_WHITEN
    assert found.candidates[2].against == ONLY_WHITEN
    assert found.candidates[2].gain.value == pytest.approx(-0.2)


@pytest.mark.parametrize("clusters", [1, 2])
def test_few_clusters_cannot_tell(clusters: int) -> None:
    few = CLUSTERS % clusters
    found = judge(modes(0.1, 0.9, 0.9, 0.9), modes(0.9, 0.9, 0.9, 0.9), few)
    assert found.chosen == AS_IT_WAS
    assert f"cannot tell: val has {clusters} cluster" in found.sentence


def test_a_full_val_cannot_tell() -> None:
    found = judge(modes(1, 1, 1, 1), modes(1, 1, 1, 1), CLUSTERS)
    assert found.chosen == AS_IT_WAS and "find everything" in found.sentence


def test_without_a_query_it_cannot_tell() -> None:
    found = judge(modes(*[np.nan] * 4), modes(*[np.nan] * 4), CLUSTERS)
    assert found.chosen == AS_IT_WAS and found.candidates[0].whitening == "raw"
    assert "cannot tell: val has no query with a positive; left as it was" in found.sentence


def test_more_clusters_than_those_of_val_judge_a_whitening() -> None:
    """Val has one cluster, which says nothing; train and val have six."""
    one = np.zeros(CLUSTERS.size, dtype=np.int64)
    judges = Judges(modes(0.5, 0.4, 0.6, 0.5), CLUSTERS, TRAIN_AND_VAL)
    found = judge(modes(0.5, 0.4, 0.3, 0.3), modes(0.9, 0.9, 0.9, 0.9), one, of_whitening=judges)
    assert found.chosen == ONLY_WHITEN
    assert found.candidates[1].whitening == "lw" and found.candidates[1].gain.value == pytest.approx(0.1)
    assert "over 6 clusters of train and val" in found.sentence
    assert "fine-tuned: cannot tell, val has 1 cluster with queries" in found.sentence
    worse = Judges(modes(0.5, 0.4, 0.4, 0.4), CLUSTERS, TRAIN_AND_VAL)
    found = judge(modes(0.5, 0.4, 0.9, 0.3), modes(0.9, 0.9, 0.9, 0.9), CLUSTERS, of_whitening=worse)
    assert found.chosen == FINE_TUNED and found.candidates[2].against == AS_IT_WAS


def test_a_query_without_a_positive_changes_nothing() -> None:
    low, high = (np.where(np.arange(18) == 4, np.nan, each) for each in (0.5, 0.6))
    found = judge(modes(low, low, low, low), modes(high, low, low, low), CLUSTERS)
    assert found.chosen == FINE_TUNED
    assert found.candidates[2].gain.value == pytest.approx(0.1)


def test_a_ridge_that_its_own_judges_chose_counts_for_nothing() -> None:
    """Each ridge is perfect in one cluster and useless elsewhere: the others would never choose it."""
    six = np.zeros((6, CLUSTERS.size))
    for mode in range(6):
        six[mode, mode == CLUSTERS] = 1.0
    table = np.concatenate([np.full((2, CLUSTERS.size), 0.05), six])
    tuned = Modes(("raw", "pcaw", *["lw"] * 6), table, table)
    baseline = Modes(tuned.families[:3], np.full((3, 18), 0.05), np.full((3, 18), 0.05))
    found = judge(baseline, tuned, CLUSTERS)
    assert found.chosen == AS_IT_WAS and found.candidates[2].estimate < 0.05


def test_the_ridge_is_chosen_without_the_harder_rows() -> None:
    clusters, everyone = np.zeros(2, dtype=np.int64), np.ones(2, dtype=bool)
    standing = np.array([[0.5] * 2, [0.5] * 2, [0.8] * 2, [0.9] * 2])
    judged = np.array([[0.5] * 2, [0.5] * 2, [0.9] * 2, [0.6] * 2])
    found = Modes(FAMILIES, standing, judged)
    assert found.best(everyone, clusters, FAMILIES) == 3
    assert Modes(FAMILIES, judged, judged).best(everyone, clusters, FAMILIES) == 2
    assert found.best(everyone, clusters, ("pcaw",)) == 1


def test_the_epoch_is_corrected_by_hand() -> None:
    """Two folds: the first alone chose epoch 1; by the second it would have been epoch 0."""
    values = np.array([[0.2, 0.2, 0.6, 0.6], [0.9, 0.9, 0.5, 0.5]])
    correction = Epochs(values, 1).correction(np.array([0, 0, 1, 1]), np.arange(4))
    np.testing.assert_allclose(correction, [-0.7, -0.7, 0, 0])


def test_an_epoch_chosen_by_cluster_is_corrected_by_cluster() -> None:
    """Without the first fold a large cluster speaks for epoch 0 by query, two small ones for epoch 1."""
    clusters = np.array([0, 1, 1, 1, 1, 2, 3])
    values = np.array([[0.5, 0.9, 0.9, 0.9, 0.9, 0.4, 0.4], [0.6, 0.7, 0.7, 0.7, 0.7, 0.6, 0.6]])
    fold = np.array([0, 1, 1, 1, 1, 1, 1])
    by_query = Epochs(values, 1).correction(fold, clusters)
    np.testing.assert_allclose(by_query[0], -0.1)
    np.testing.assert_array_equal(Epochs(values, 1, mean="clusters").correction(fold, clusters)[0], 0)


def test_a_correction_only_takes_away() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        values = generator.uniform(size=(4, 30))
        fold = generator.integers(0, 5, 30)
        correction = Epochs(values, int(values.mean(axis=1).argmax())).correction(fold, np.arange(30))
        assert all(correction[fold == each].mean() <= 1e-12 for each in range(5))


def test_folds_are_whole_clusters_in_turn() -> None:
    clusters = np.array([9, 4, 4, 7, 1, 12, 30, 9])
    assert geometry.folds(clusters).tolist() == [3, 1, 1, 2, 0, 4, 0, 3]
    assert geometry.folds(np.array([5, 5, 2])).tolist() == [1, 1, 0]
