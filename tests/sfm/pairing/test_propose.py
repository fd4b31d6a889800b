"""Which pairs are proposed, from descriptors, local features and verified neighbours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm.pairing.aggregation import AggregationOptions
from sfm.pairing.expansion import ExpansionOptions, expand_pairs, shared_neighbours
from sfm.pairing.neighbours import merge, nearest_neighbours
from sfm.pairing.proposal import budget, read_pairs
from sfm.pairing.propose import propose_pairs
from sfm.pairing.strategies import PairOptions, UnusableDescriptors
from sfm.pairing.vocabulary import VocabularyOptions, vocabulary_neighbours
from storage.hdf5 import file as hdf5
from tests.sfm.feature_scenes import make_place, sha_of, write_places

NO_TREE = VocabularyOptions(neighbours=0)
NO_WORDS = AggregationOptions(neighbours=0)


def unit(rows) -> np.ndarray:
    array = np.asarray(rows, np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def shas(count: int) -> list[str]:
    return sorted(sha_of(str(n)) for n in range(count))


def test_neighbours_of_points_on_a_circle():
    angles = np.deg2rad([0, 10, 25, 90])
    found = nearest_neighbours(unit(np.stack([np.cos(angles), np.sin(angles)], 1)), 2)
    assert found.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]


def test_ties_go_to_the_smaller_position():
    assert nearest_neighbours(unit(np.ones((4, 3))), 2).tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]


@pytest.mark.parametrize(("count", "k"), [(0, 3), (1, 3), (2, 3), (5, 0)])
def test_few_photographs_have_few_neighbours(count, k):
    assert nearest_neighbours(np.ones((count, 2), np.float32), k).shape == (count, min(k, max(count - 1, 0)))


def test_neighbours_agree_with_a_full_sort_over_several_blocks():
    descriptors = unit(np.random.default_rng(0).normal(size=(1500, 16)))
    scores = np.round(descriptors @ descriptors.T, 5)
    np.fill_diagonal(scores, -np.inf)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    assert (nearest_neighbours(descriptors, 7) == expected).mean() > 0.9999


def test_merging_keeps_each_pair_once_with_its_sources():
    ranked = {"b": np.array([[1], [0], [1]]), "a": np.array([[2], [-1], [0]])}
    merged = merge(ranked, 3, 10)
    assert list(zip(merged.first.tolist(), merged.second.tolist(), merged.source, strict=True)) == [
        (0, 1, "b"),
        (0, 2, "a"),
        (1, 2, "b"),
    ]
    assert merge({"a": ranked["b"], "b": ranked["b"]}, 3, 10).source == ["a+b", "a+b"]


def test_over_budget_the_best_ranks_stay():
    merged = merge({"a": np.array([[1, 2], [0, 3], [3, 0], [2, 1]])}, 4, 2)
    assert list(zip(merged.first.tolist(), merged.second.tolist(), strict=True)) == [(0, 1), (2, 3)]


def test_the_budget_is_a_share_of_all_pairs():
    assert budget(581, 0.08) == 13479
    assert budget(1, 0.5) == 0


def test_a_small_collection_is_matched_exhaustively(tmp_path):
    names = shas(5)
    propose_pairs(names, np.empty((0, 0), np.float32), PairOptions(), tmp_path / "p.h5")
    assert read_pairs(tmp_path / "p.h5") == [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    assert set(hdf5.read(tmp_path / "p.h5", "pairs")["pairs/source"]) == {"exhaustive"}


def test_proposals_follow_the_photographs_not_their_rows(tmp_path):
    names = shas(40)
    descriptors = unit(np.random.default_rng(1).normal(size=(40, 8)))
    options = PairOptions(exhaustive_below=0, neighbours=3, max_pair_share=1, aggregation=NO_WORDS)
    propose_pairs(names, descriptors, options, tmp_path / "a.h5")
    found = read_pairs(tmp_path / "a.h5")
    near = nearest_neighbours(descriptors, 3)
    expected = {tuple(sorted((names[i], names[j]))) for i in range(40) for j in near[i].tolist()}
    assert found == sorted(expected)


@pytest.mark.parametrize(
    ("names", "descriptors", "what"),
    [
        (shas(3)[::-1], np.ones((3, 2)), "sorted"),
        ([shas(1)[0]] * 2, np.ones((2, 2)), "sorted"),
        (shas(3), np.ones((2, 2)), r"shape \(2, 2\) for 3"),
        (shas(2), np.array([[1, 0], [np.nan, 1]]), "not finite"),
    ],
)
def test_unfit_descriptors_are_refused(tmp_path, names, descriptors, what):
    with pytest.raises(UnusableDescriptors, match=what):
        propose_pairs(
            names, descriptors.astype(np.float32), PairOptions(exhaustive_below=0), tmp_path / "p.h5"
        )


def test_photographs_without_features_are_refused(tmp_path):
    with pytest.raises(UnusableDescriptors, match=shas(2)[0]):
        propose_pairs(
            shas(2), np.eye(2, dtype=np.float32), PairOptions(exhaustive_below=0), tmp_path / "p", features={}
        )


def test_the_vocabulary_tree_finds_the_own_place(tmp_path):
    places = [make_place(f"place{n}", 4) for n in range(4)]
    files = write_places(tmp_path / "f.h5", *places)
    place_of = {sha: number for number, place in enumerate(places) for sha in place.shas}
    names = sorted(place_of)
    options = VocabularyOptions(neighbours=3, words=64, features=120)
    found = vocabulary_neighbours(names, files, options)
    assert found.shape == (16, 3)
    assert (found != np.arange(16)[:, None]).all()
    own = [place_of[names[j]] == place_of[names[i]] for i in range(16) for j in found[i].tolist() if j >= 0]
    assert np.mean(own) > 0.9  # chance: 3 of 15
    again = vocabulary_neighbours(names, files, options)
    np.testing.assert_array_equal(again, found)


def test_too_few_features_for_a_vocabulary_give_no_neighbours(tmp_path):
    place = make_place("tiny", 2, points=3)
    files = write_places(tmp_path / "f.h5", place)
    small = {sha: file for sha, file in files.items()}
    found = vocabulary_neighbours(
        sorted(small), small, VocabularyOptions(neighbours=2, words=16, features=16)
    )
    assert found.tolist() == [[-1, -1], [-1, -1]]


def expansion_of(edges, verified, count, per_photo=9, most=99) -> list[tuple[int, int]]:
    tried = np.array(edges, np.int64).reshape(-1, 2)
    first, second = shared_neighbours(tried, np.array(verified, bool), count, per_photo, most)
    return list(zip(first.tolist(), second.tolist(), strict=True))


def test_a_chain_is_closed_round_by_round():
    assert expansion_of([(0, 1), (1, 2), (2, 3)], [1, 1, 1], 5) == [(0, 2), (1, 3)]
    edges = [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)]
    assert expansion_of(edges, [1, 1, 1, 1, 1], 5) == [(0, 3)]
    assert expansion_of([*edges, (0, 3)], [1] * 6, 5) == []


def test_unverified_pairs_suggest_nothing_and_are_not_tried_again():
    assert expansion_of([(0, 1), (1, 2), (0, 2)], [1, 1, 0], 3) == []
    assert expansion_of([(0, 1), (1, 2)], [1, 0], 3) == []
    assert expansion_of([], [], 3) == []


def test_most_shared_neighbours_go_first_within_the_limits():
    edges = [(0, 2), (1, 2), (0, 3), (1, 3), (4, 3)]  # 0 and 1 share two, 2 and 3 share two, 0-4 and 1-4 one
    assert expansion_of(edges, [1] * 5, 5) == [(0, 1), (0, 4), (1, 4), (2, 3)]
    assert expansion_of(edges, [1] * 5, 5, most=2) == [(0, 1), (2, 3)]
    assert expansion_of(edges, [1] * 5, 5, per_photo=1) == [(0, 1), (2, 3)]


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda p: p[0] < p[1]), max_size=20))
def test_expansion_is_the_square_of_the_graph(edges):
    ordered = sorted(edges)
    near = {n: {b if a == n else a for a, b in edges if n in (a, b)} for n in range(8)}
    expected = [
        (a, b) for a in range(8) for b in range(a + 1, 8) if near[a] & near[b] and (a, b) not in edges
    ]
    assert expansion_of(ordered, [1] * len(ordered), 8) == expected


def test_an_expansion_stays_within_the_budget_of_all_rounds(tmp_path):
    names = shas(10)
    attempts = [(names[n], names[n + 1]) for n in range(9)]
    inliers = np.full(9, 20)
    everything = ExpansionOptions(max_pair_share=1.0)
    assert len(expand_pairs(names, attempts, inliers, everything, tmp_path / "a.h5").first) == 8
    assert (
        len(
            expand_pairs(
                names, attempts, inliers, ExpansionOptions(max_pair_share=0.25), tmp_path / "b.h5"
            ).first
        )
        == 2
    )
    assert (
        len(
            expand_pairs(
                names, attempts, inliers, ExpansionOptions(max_pair_share=0.1), tmp_path / "c.h5"
            ).first
        )
        == 0
    )
    assert read_pairs(tmp_path / "c.h5") == []
    weak = expand_pairs(names, attempts, inliers - 6, everything, tmp_path / "d.h5")
    assert len(weak.first) == 0
