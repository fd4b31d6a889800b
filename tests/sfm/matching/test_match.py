"""What matching finds for a pair depends on the two photographs alone."""

import signal
import tempfile

import numpy as np
import pytest

from sfm.matching.match import (
    ImageMatcher,
    MatchingOptions,
    MatchingResources,
    UnusablePairs,
    match_pairs,
    pair_id,
    read_attempts,
    verified,
)
from storage.children.errors import ChildFailed, ChildKilled
from storage.files.scratch import sweep_scratch
from storage.hdf5.file import read_items
from storage.hdf5.open import open_artifact
from tests.killed_children import killing_children
from tests.sfm.feature_scenes import all_pairs, make_place, write_places

ONE, TWO = make_place("one", 4), make_place("two", 3, focal_prior_px=0.0)
ALL = all_pairs([*ONE.shas, *TWO.shas])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    return write_places(folder / "one.h5", ONE) | write_places(folder / "two.h5", TWO)


@pytest.fixture(scope="module")
def matched(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("matches") / "m.h5"
    return out, match_pairs(ALL, files, MatchingOptions(), out, inputs=["a" * 64])


def same_place(first: str, second: str) -> bool:
    return (first in ONE.shas) == (second in ONE.shas)


def test_photographs_of_one_place_verify_and_others_do_not(matched):
    pairs, inliers = read_attempts([matched[0]])
    assert pairs == ALL
    for (first, second), count in zip(pairs, inliers.tolist(), strict=True):
        assert (count >= 100) if same_place(first, second) else (count < 15)


def test_matches_are_the_points_that_both_show(matched, files):
    (first, second) = next(pair for pair in ALL if same_place(*pair) and pair[0] in ONE.shas)
    group = dict(read_items(matched[0], [f"{first}/{second}"]))[f"{first}/{second}"]
    keypoints = {sha: ONE.groups[sha]["descriptors"].astype(int) for sha in (first, second)}
    matches = verified(group).matches
    assert (np.diff(matches[:, 0].astype(int)) > 0).all()
    gap = keypoints[first][:, matches[:, 0]] - keypoints[second][:, matches[:, 1]]
    assert np.abs(gap).max() <= 4  # the noise of a point's descriptor; two points differ by far more
    assert len(group["matches0"]) == keypoints[first].shape[1]
    assert (group["matching_scores0"] > 0).tolist() == (group["matches0"] >= 0).tolist()


def test_a_file_is_sound_and_holds_only_verified_groups(matched):
    with open_artifact(matched[0], "matches") as artifact:
        assert artifact.validate() == []
        assert artifact.items() == [f"{a}/{b}" for a, b in ALL if same_place(a, b)]
        assert artifact.inputs == ["a" * 64]


def test_known_focal_lengths_make_the_geometry_calibrated(matched):
    groups = dict(read_items(matched[0]))
    by_place = {name.split("/")[0] in ONE.shas: int(group["configuration"]) for name, group in groups.items()}
    assert by_place == {True: 2, False: 3}  # COLMAP's CALIBRATED and UNCALIBRATED


def test_neither_chunk_nor_order_nor_threads_nor_blocks_matter(matched, files, tmp_path):
    backwards = [(b, a) for a, b in ALL[::-1]]
    other = MatchingResources(threads=2, block_size=3)
    whole = match_pairs(
        backwards, files, MatchingOptions(), tmp_path / "w.h5", resources=other, inputs=["a" * 64]
    )
    assert whole == matched[1]
    assert (tmp_path / "w.h5").read_bytes() == matched[0].read_bytes()
    some = ALL[::4]
    parts = match_pairs(some, files, MatchingOptions(), tmp_path / "p.h5")
    assert parts == {pair_id(*pair): matched[1][pair_id(*pair)] for pair in some}


def test_several_files_are_read_as_one(matched, files, tmp_path):
    for index in (0, 1):
        match_pairs(ALL[index::2], files, MatchingOptions(), tmp_path / f"{index}.h5")
    pairs, inliers = read_attempts([tmp_path / "1.h5", tmp_path / "0.h5"])
    expected = read_attempts([matched[0]])
    assert pairs == expected[0]
    np.testing.assert_array_equal(inliers, expected[1])
    assert read_attempts([matched[0]], {ALL[3]})[0] == [ALL[3]]


def test_more_inliers_can_be_asked_for(files, tmp_path):
    match_pairs(ALL[:6], files, MatchingOptions(min_inliers=500), tmp_path / "m.h5")
    pairs, inliers = read_attempts([tmp_path / "m.h5"])
    same = [count for pair, count in zip(pairs, inliers.tolist(), strict=True) if same_place(*pair)]
    assert same and min(same) >= 100  # still counted, though not verified
    with open_artifact(tmp_path / "m.h5") as artifact:
        assert artifact.items() == []


def test_nothing_to_match_is_fine(tmp_path):
    assert match_pairs([], {}, MatchingOptions(), tmp_path / "m.h5") == {}
    assert read_attempts([tmp_path / "m.h5"])[0] == []


@pytest.mark.parametrize(
    ("pair", "what"), [((ONE.shas[0],) * 2, "with itself"), ((ONE.shas[0], "f" * 64), "no features of ffff")]
)
def test_pairs_that_cannot_be_matched_are_refused(files, tmp_path, pair, what):
    with pytest.raises(UnusablePairs, match=what):
        match_pairs([pair], files, MatchingOptions(), tmp_path / "m.h5")


def test_a_pair_has_one_name():
    assert pair_id("b", "a") == pair_id("a", "b") == "a-b"


def test_images_are_matched_on_demand(matched, files, tmp_path, monkeypatch):
    """In any order and direction, as the chunk found them; nothing stays behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shas = sorted(files)[::-1]
    matcher = ImageMatcher(shas, files, MatchingOptions())
    attempts, inliers = read_attempts([matched[0]])
    known = dict(zip(attempts, inliers.tolist(), strict=True))
    pairs = np.array([[0, 3], [5, 1], [1, 0]])
    assert matcher(pairs).tolist() == [known[tuple(sorted((shas[a], shas[b])))] for a, b in pairs.tolist()]
    assert matcher(np.empty((0, 2), dtype=np.int64)).size == 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_child_wrote_on_demand_goes(files, tmp_path, monkeypatch):
    """It dies with its file half written, where it is to be written."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def dying(pairs, features, options, out, **named):
        (out.parent / f".{out.name}.1.partial").write_bytes(b"half")
        raise ChildFailed("killed")

    monkeypatch.setattr("sfm.matching.match.match_pairs", dying)
    with pytest.raises(ChildFailed):
        ImageMatcher(sorted(files), files, MatchingOptions())(np.array([[0, 1]]))
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [] and sweep_scratch() == 0


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.6])
def test_pairs_whose_process_was_killed_are_matched_again(matched, files, tmp_path, monkeypatch, after_s):
    tries = killing_children(
        monkeypatch, "sfm.matching.match:_match", signal.SIGKILL, times=2, after_s=after_s
    )
    again = match_pairs(ALL, files, MatchingOptions(), tmp_path / "m.h5", inputs=["a" * 64])
    assert again == matched[1] and len(tries) == 3
    assert (tmp_path / "m.h5").read_bytes() == matched[0].read_bytes()
    assert sweep_scratch() == 0


def test_pairs_whose_process_is_killed_each_time_fail(files, tmp_path, monkeypatch):
    tries = killing_children(monkeypatch, "sfm.matching.match:_match", signal.SIGKILL)
    with pytest.raises(ChildKilled, match=r"matching of \d+ pairs.*SIGKILL.*lower resources\.workers"):
        match_pairs(ALL, files, MatchingOptions(), tmp_path / "m.h5")
    assert len(tries) == 3 and list(tmp_path.iterdir()) == []
