import json

import numpy as np
import pytest

from retrieval.benchmarks.landmarks import (
    InvalidRanks,
    average_precision,
    evaluate_classic,
    evaluate_revisited,
)
from tests.official import listed, needs, official

ORACLES = official("oracles")
needs_oracles = needs(ORACLES)


def ragged(arrays, key):
    flat, offsets = arrays[key], arrays[f"{key}_off"]
    return [flat[offsets[i] : offsets[i + 1]] for i in range(len(offsets) - 1)]


def test_average_precision_by_hand():
    # positives at 0-based ranks 0 and 2 of 2: (1 + 1)/2/2 + (1/2 + 2/3)/2/2
    assert average_precision([0, 2], 2) == pytest.approx(0.5 + 7 / 24, abs=1e-15)
    assert average_precision([2, 0], 2) == average_precision([0, 2], 2)
    assert average_precision([], 3) == 0.0
    assert average_precision(np.arange(7), 7) == pytest.approx(1.0, abs=1e-12)


def test_a_perfect_list_gives_exactly_one():
    """A share above 1, by rounding alone, is refused by every artifact that holds it."""
    assert {average_precision(range(count), count) for count in range(1, 500)} == {1.0}


def test_average_precision_needs_a_positive():
    with pytest.raises(ValueError, match="at least one positive"):
        average_precision([], 0)


@needs_oracles
def test_average_precision_oracle():
    for case in json.loads((ORACLES / "revisitop" / "compute_ap.json").read_text()):
        assert average_precision(case["ranks"], case["nres"]) == pytest.approx(case["ap"], abs=1e-12)


@needs_oracles
@pytest.mark.parametrize("path", listed("*.npz", "oracles", "revisitop"), ids=lambda path: path.stem)
def test_revisited_oracle(path):
    case = np.load(path, allow_pickle=False)
    labels = {name: ragged(case, name) for name in ("easy", "hard", "junk")}
    truth = [{name: labels[name][q] for name in labels} for q in range(case["ranks"].shape[1])]
    ks = tuple(int(k) for k in case["kappas"])
    result = evaluate_revisited(case["ranks"].T, truth, ks)
    for letter, protocol in zip("EMH", (result.easy, result.medium, result.hard), strict=True):
        np.testing.assert_allclose(protocol.average_precisions, case[f"aps_{letter}"], atol=1e-12)
        assert protocol.mean_average_precision == pytest.approx(float(case[f"map_{letter}"]), abs=1e-12)
        for column, k in enumerate(ks):
            np.testing.assert_allclose(protocol.precision_at[k], case[f"prs_{letter}"][:, column], atol=1e-12)
            assert protocol.mean_precision_at[k] == pytest.approx(case[f"mpr_{letter}"][column], abs=1e-12)


@needs_oracles
def test_classic_oracle():
    for case in json.loads((ORACLES / "oxford_vgg" / "compute_ap_cpp.json").read_text()):
        truth = [{"ok": case["good"] + case["ok"], "junk": case["junk"]}]
        value = evaluate_classic(np.array([case["ranked"]]), truth).average_precisions[0]
        np.testing.assert_allclose(value, np.nan if case["ap"] is None else case["ap"], atol=1e-5)


def test_junk_first_does_not_count():
    truth = [{"easy": [3], "hard": [4], "junk": [0, 1]}]
    result = evaluate_revisited(np.array([[0, 1, 3, 2, 4]]), truth)
    assert result.easy.mean_average_precision == 1.0
    # hard: 3 (easy) is junk too, so 4 stands at rank 1 behind 2: (0/1 + 1/2)/2
    assert result.hard.mean_average_precision == pytest.approx(0.25)
    # medium: ranks 0 and 2 of 2
    assert result.medium.mean_average_precision == pytest.approx(0.5 + 7 / 24)
    assert result.medium.precision_at[1][0] == 1.0
    assert result.medium.precision_at[10][0] == pytest.approx(2 / 3)


def test_positive_and_junk_differ_between_the_two_tools():
    ranks = np.array([[0, 1]])
    both = [{"easy": [0, 1], "hard": [], "junk": [0]}]
    # revisitop: both are positives, the second moves up over the first: ranks 0 and 0
    assert evaluate_revisited(ranks, both).easy.mean_average_precision == pytest.approx((1 + 1 + 1 + 2) / 4)
    # VGG: 0 is junk, 1 is found at rank 0, but two positives are counted
    assert evaluate_classic(ranks, [{"ok": [0, 1], "junk": [0]}]).mean_average_precision == pytest.approx(0.5)


def test_repeated_ids_of_the_ground_truth():
    ranks = np.array([[2, 0, 1]])
    repeated = evaluate_revisited(ranks, [{"easy": [2, 2], "hard": [], "junk": []}])
    assert repeated.easy.mean_average_precision == pytest.approx(0.5)
    assert evaluate_classic(ranks, [{"ok": [2, 2], "junk": []}]).mean_average_precision == pytest.approx(1.0)


def test_queries_without_positives_are_left_out():
    truth = [{"easy": [0], "hard": [], "junk": []}, {"easy": [], "hard": [], "junk": [0]}]
    result = evaluate_revisited(np.array([[0, 1], [0, 1]]), truth)
    assert result.easy.num_queries == 1 and np.isnan(result.easy.average_precisions[1])
    assert np.isnan(result.hard.mean_average_precision) and np.isnan(result.hard.mean_precision_at[1])


def test_positive_missing_from_a_truncated_list():
    truth = [{"easy": [5], "hard": [0], "junk": []}]
    result = evaluate_revisited(np.array([[0, 1, -1]]), truth)
    assert result.easy.mean_average_precision == 0.0 and result.easy.precision_at[5][0] == 0.0
    assert result.medium.mean_average_precision == pytest.approx(0.5)


def test_names_of_the_database_do_not_matter():
    generator = np.random.default_rng(0)
    ranks = np.stack([generator.permutation(60) for _ in range(5)])
    truth = [
        dict(zip(("easy", "hard", "junk"), np.split(generator.permutation(60)[:30], [10, 20]), strict=True))
        for _ in range(5)
    ]
    renamed = generator.permutation(60) + 7
    moved = [{name: renamed[ids] for name, ids in query.items()} for query in truth]
    before, after = evaluate_revisited(ranks, truth), evaluate_revisited(renamed[ranks], moved)
    np.testing.assert_array_equal(before.medium.average_precisions, after.medium.average_precisions)


def test_bad_ranks_are_named():
    truth = [{"easy": [0], "hard": [], "junk": []}] * 3
    with pytest.raises(InvalidRanks, match="transpose"):
        evaluate_revisited(np.zeros((5, 3), dtype=int), truth)
    with pytest.raises(InvalidRanks, match="-7"):
        evaluate_revisited(np.full((3, 2), -7), truth)
    with pytest.raises(InvalidRanks, match="float64"):
        evaluate_revisited(np.zeros((3, 2)), truth)
    with pytest.raises(InvalidRanks, match="negative id"):
        evaluate_classic(np.zeros((1, 2), dtype=int), [{"ok": [-1]}])


@pytest.mark.parametrize(
    ("truth", "named"),
    [
        ([{"easy": [1]}], "query 0 of the ground truth has no 'hard'"),
        ([{"easy": [1.5], "hard": []}], "query 0, 'easy'"),
        ([{"easy": [1], "hard": [float("nan")]}], "query 0, 'hard'"),
        ([{"easy": ["a"], "hard": []}], "query 0, 'easy'"),
        ([{"easy": [1], "hard": [], "junk": [-1]}], "negative id"),
    ],
)
def test_bad_ground_truth_is_named(truth, named):
    with pytest.raises(InvalidRanks, match=named):
        evaluate_revisited([[1]], truth)


def test_bad_positions_and_depths_are_named():
    with pytest.raises(InvalidRanks, match="has no 'ok'"):
        evaluate_classic([[1]], [{"easy": [1]}])
    with pytest.raises(InvalidRanks, match="ks are"):
        evaluate_revisited([[1]], [{"easy": [1], "hard": []}], ks=(1, 0))
    for positions in ([-1, 2], [float("nan")]):
        with pytest.raises(ValueError, match="0-based ranks"):
            average_precision(positions, 2)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_lists_in_columns_and_with_gaps_are_the_same_lists(dtype):
    generator = np.random.default_rng(4)
    ranks = np.stack([generator.permutation(300) for _ in range(3)]).astype(dtype)
    truth = [{"easy": generator.permutation(20)[:4], "hard": [5], "junk": [0, 7]} for _ in ranks]
    wanted = evaluate_revisited(ranks, truth)
    wide = np.zeros((6, 900), dtype)
    wide[::2, ::3] = ranks
    for other in (np.asfortranarray(ranks), wide[::2, ::3], np.ascontiguousarray(ranks[:, ::-1])[:, ::-1]):
        found = evaluate_revisited(other, truth)
        for protocol in ("easy", "medium", "hard"):
            np.testing.assert_array_equal(
                getattr(found, protocol).average_precisions, getattr(wanted, protocol).average_precisions
            )
