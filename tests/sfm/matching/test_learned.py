"""Learned features: who is whose nearest by hand and by brute force, and pairs that verify through COLMAP."""

import numpy as np
import pytest

from sfm.features.database import MixedFeatures
from sfm.matching import learned as learned_matching
from sfm.matching.learned import UnequalDescriptors, mutual_matches, unit_rows
from sfm.matching.match import (
    MatchingOptions,
    MatchingResources,
    UnusablePairs,
    match_pairs,
    pair_id,
    read_attempts,
    verified,
)
from sfm.pairing.propose import propose_pairs
from sfm.pairing.strategies import PairOptions, UnusableStrategy
from storage.hdf5.file import ItemWriter, read_items
from storage.hdf5.open import open_artifact
from tests.sfm.feature_scenes import Place, all_pairs, make_place, write_places

ONE, TWO = make_place("one", 3), make_place("two", 2)
ALL = all_pairs([*ONE.shas, *TWO.shas])


def learned(place: Place) -> Place:
    """The place with float descriptors of any length, as a network could give them."""
    groups = {
        sha: group | {"descriptors": 3 * group["descriptors"].astype(np.float32)}
        for sha, group in place.groups.items()
    }
    return Place(place.shas, place.centers, groups)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    return write_places(folder / "1.h5", learned(ONE)) | write_places(folder / "2.h5", learned(TWO))


@pytest.fixture(scope="module")
def matched(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("matches") / "m.h5"
    return out, match_pairs(ALL, files, MatchingOptions(), out, inputs=["a" * 64])


def at(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_mutual_neighbours_by_hand():
    # 0 and 3 degrees want 1; 1 wants 0. 90 and 91 want each other; 200 wants 150, which wants it.
    first, second = at(0, 3, 90, 200), at(91, 1, 150)
    assert mutual_matches(first, second, 1, -1).tolist() == [[0, 1], [2, 0], [3, 2]]
    # 1 degree: 1 to the nearest, 2 to the next, 0.5; 150: 50 and 60, sin(25) / sin(30) = 0.845
    assert mutual_matches(first, second, 0.45, -1).tolist() == [[2, 0]]
    assert mutual_matches(first, second, 0.55, -1).tolist() == [[0, 1], [2, 0]]
    assert mutual_matches(first, second, 0.85, -1).tolist() == [[0, 1], [2, 0], [3, 2]]
    assert mutual_matches(first, second, 1, np.cos(np.deg2rad(40))).tolist() == [[0, 1], [2, 0]]


def brute_force(first, second, ratio):
    """hloc's rule, pair by pair."""

    def nearest(own, others):
        distances = np.sort(np.linalg.norm(others.astype(np.float64) - own, axis=1))
        return ratio == 1 or distances[0] < ratio * distances[1]

    distances = np.linalg.norm(first[:, None].astype(np.float64) - second[None], axis=2)
    return [
        [i, j]
        for i, j in enumerate(distances.argmin(1).tolist())
        if distances[:, j].argmin() == i and nearest(first[i], second) and nearest(second[j], first)
    ]


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.7])
@pytest.mark.parametrize("block", [1, 7, 2048])
def test_blocks_give_what_brute_force_gives(monkeypatch, ratio, block):
    rng = np.random.default_rng(block)
    first = unit_rows(rng.normal(size=(40, 8)))
    second = unit_rows(np.concatenate([first[5:30] + rng.normal(0, 0.2, (25, 8)), rng.normal(size=(10, 8))]))
    monkeypatch.setattr(learned_matching, "_BLOCK_ROWS", block)
    found = mutual_matches(first, second, ratio, -1).tolist()
    assert 3 < len(found) < 35
    assert found == brute_force(first, second, ratio)
    assert sorted([b, a] for a, b in mutual_matches(second, first, ratio, -1).tolist()) == found


def test_a_repeated_descriptor_is_no_match_where_a_ratio_is_asked():
    first, second = at(0, 90), at(0, 0, 90)
    assert mutual_matches(first, second, 0.8, -1).tolist() == [[1, 2]]
    assert mutual_matches(first, second, 1, -1).tolist() == [[0, 0], [1, 2]]


def test_nothing_one_and_different_lengths():
    none = np.empty((0, 2), np.float32)
    assert mutual_matches(none, at(1), 0.8, -1).shape == mutual_matches(at(1), none, 0.8, -1).shape == (0, 2)
    assert mutual_matches(at(1), at(30), 0.8, -1).tolist() == [[0, 0]]  # no second to compare with
    with pytest.raises(UnequalDescriptors, match="of 2 and of 3 numbers"):
        mutual_matches(at(1), np.ones((1, 3), np.float32), 0.8, -1)


def test_rows_get_length_one_and_zeros_stay():
    np.testing.assert_allclose(
        unit_rows(np.array([[3, 4], [0, 0]], np.float16)), [[0.6, 0.8], [0, 0]], atol=1e-7
    )


def same_place(first: str, second: str) -> bool:
    return (first in ONE.shas) == (second in ONE.shas)


def test_photographs_of_one_place_verify_and_others_do_not(matched):
    pairs, inliers = read_attempts([matched[0]])
    assert pairs == ALL
    for (first, second), count in zip(pairs, inliers.tolist(), strict=True):
        assert (count >= 100) if same_place(first, second) else (count < 15)
    with open_artifact(matched[0], "matches") as artifact:
        assert artifact.validate() == []
        assert artifact.items() == [f"{a}/{b}" for a, b in ALL if same_place(a, b)]


def test_learned_features_find_what_sift_finds_on_the_same_descriptors(matched, tmp_path):
    sift = write_places(tmp_path / "f.h5", ONE, TWO)
    match_pairs(ALL, sift, MatchingOptions(), tmp_path / "m.h5")
    theirs = dict(read_items(tmp_path / "m.h5"))
    for item, group in read_items(matched[0]):
        mine = set(map(tuple, verified(group).matches.tolist()))
        expected = set(map(tuple, verified(theirs[item]).matches.tolist()))
        assert len(mine & expected) > 0.97 * len(mine | expected)


def test_neither_chunk_nor_order_nor_threads_matter(matched, files, tmp_path):
    two = MatchingResources(threads=2)
    whole = match_pairs(
        ALL[::-1], files, MatchingOptions(), tmp_path / "w.h5", resources=two, inputs=["a" * 64]
    )
    assert whole == matched[1]
    assert (tmp_path / "w.h5").read_bytes() == matched[0].read_bytes()
    parts = match_pairs(ALL[::4], files, MatchingOptions(), tmp_path / "p.h5")
    assert parts == {pair_id(*pair): matched[1][pair_id(*pair)] for pair in ALL[::4]}


def test_similarity_can_be_asked_for(files, tmp_path):
    match_pairs(ALL, files, MatchingOptions(min_similarity=1), tmp_path / "m.h5")
    assert read_attempts([tmp_path / "m.h5"])[1].max() < 15


def test_a_photograph_without_keypoints_matches_nothing(files, tmp_path):
    empty = dict(ONE.groups[ONE.shas[0]])
    empty |= {"keypoints": np.zeros((0, 2), np.float32), "descriptors": np.zeros((128, 0), np.float32)}
    empty["scores"] = np.zeros(0, np.float32)
    with ItemWriter(tmp_path / "f.h5", "features", stage="features", options={}, inputs=[]) as writer:
        writer.add("f" * 64, **empty)
    known = {**files, "f" * 64: tmp_path / "f.h5"}
    match_pairs([("f" * 64, ONE.shas[0])], known, MatchingOptions(), tmp_path / "m.h5")
    assert read_attempts([tmp_path / "m.h5"])[1].tolist() == [0]


def test_sift_and_learned_features_do_not_mix(files, tmp_path):
    mixed = files | write_places(tmp_path / "f.h5", TWO)
    with pytest.raises(MixedFeatures, match=rf"({TWO.shas[0]}|{TWO.shas[1]}) has SIFT, .* learned"):
        match_pairs(ALL, mixed, MatchingOptions(), tmp_path / "m.h5")


def test_descriptors_of_two_lengths_are_refused(files, tmp_path):
    short = {sha: g | {"descriptors": g["descriptors"][:64]} for sha, g in learned(TWO).groups.items()}
    known = files | write_places(tmp_path / "f.h5", Place(TWO.shas, TWO.centers, short))
    with pytest.raises(UnequalDescriptors, match=r"128 and of 64|64 and of 128"):
        match_pairs(ALL, known, MatchingOptions(), tmp_path / "m.h5")


def test_guided_matching_and_the_vocabulary_tree_need_sift(files, tmp_path):
    with pytest.raises(UnusablePairs, match=r"matching\.guided"):
        match_pairs(ALL, files, MatchingOptions(guided=True), tmp_path / "m.h5")
    shas = sorted(files)
    rows = np.eye(len(shas), dtype=np.float32)
    with pytest.raises(UnusableStrategy, match="vocabulary tree takes SIFT only"):
        propose_pairs(shas, rows, PairOptions(strategy="vocabulary"), tmp_path / "p.h5", features=files)
    options = PairOptions(strategy="neighbours", max_pair_share=1)
    found = propose_pairs(shas, rows, options, tmp_path / "p.h5", features=files)
    assert set(found.source) == {"descriptor"}
