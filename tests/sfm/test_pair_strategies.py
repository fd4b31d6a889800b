"""The other ways to propose pairs: by file name, by list, by local features alone, by position."""

import signal
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfm.pairing.aggregation import AggregationOptions, aggregated
from sfm.pairing.listed import UnusablePairList, count_listed, listed_pairs
from sfm.pairing.neighbours import merge, nearest_neighbours
from sfm.pairing.proposal import Proposal, combine, proposal_of, read_pairs
from sfm.pairing.propose import propose_pairs
from sfm.pairing.sequential import SequentialOptions, natural_key, sequential_pairs
from sfm.pairing.spatial import SpatialOptions, spatial_neighbours
from sfm.pairing.strategies import STRATEGIES, Known, PairOptions, Strategy, UnusableStrategy, strategy_of
from sfm.pairing.vocabulary import VocabularyOptions, vocabulary_neighbours
from storage.hdf5 import file as hdf5
from tests.killed_children import killing_children
from tests.sfm.feature_scenes import make_place, write_places
from tests.sfm.pairing.test_propose import NO_TREE, NO_WORDS, shas, unit

A, B, C = shas(3)
NAMES = {"a.jpg": A, "my photos/b 1.jpg": B, "my photos/c.jpg": C, "copy of a.jpg": A, "broken.jpg": ""}
DEGREE_M = 6_371_008.8 * np.pi / 180


def listing(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def ends(proposal: Proposal) -> list[tuple[int, int]]:
    return list(zip(proposal.first.tolist(), proposal.second.tolist(), strict=True))


def test_a_list_is_read_as_colmap_and_hloc_write_it(tmp_path):
    text = (
        "\ufeff# a comment\r\na.jpg my photos/b 1.jpg\r\n\n  my photos/c.jpg   a.jpg \n"
        f"my photos/c.jpg\tmy photos/b 1.jpg\n{B}\t{A}\n"
    )
    path = listing(tmp_path, text)
    assert listed_pairs(path, NAMES, [A, B, C]) == [(A, B), (C, A), (C, B), (B, A)]
    assert count_listed(path) == 4


def test_a_copy_in_a_list_means_its_original_and_no_pair_is_of_one_photograph(tmp_path):
    path = listing(tmp_path, "copy of a.jpg my photos/c.jpg\na.jpg copy of a.jpg\n")
    assert listed_pairs(path, NAMES, [A, B, C]) == [(A, C)]


def test_pairs_of_an_unusable_photograph_are_counted_and_left_out(tmp_path, caplog):
    assert listed_pairs(listing(tmp_path, "a.jpg broken.jpg"), NAMES, [A, B, C]) == []
    assert "1 pairs left out" in caplog.text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a.jpg my photos/c.jpg\na.jpg d.jpg", r"line 2: no photograph is called 'd\.jpg'.*root"),
        ("c.jpg a.jpg", r"line 1: no photograph is called 'c\.jpg', did you mean 'my photos/c\.jpg'\?"),
        ("a.jpg my photos/b 2.jpg", "line 1: .*not two photographs.*tab"),
        ("a.jpg", "line 1: .*not two photographs"),
        ("a.jpg\tb.jpg\tc.jpg", "line 1: .*not two photographs"),
        (b"a.jpg \xff.jpg", r"line 1: is not UTF-8 \(byte 6 is 0xFF\)"),
    ],
)
def test_a_list_that_names_something_else_is_refused_with_its_line(tmp_path, text, what):
    with pytest.raises(UnusablePairList, match=what):
        listed_pairs(listing(tmp_path, text), NAMES, [A, B, C])


def test_a_line_that_can_be_read_in_two_ways_needs_a_tab(tmp_path):
    names = {"x": A, "x y": B, "y z": C, "z": A}
    with pytest.raises(UnusablePairList, match=r"can be read as .* put a tab"):
        listed_pairs(listing(tmp_path, "x y z"), names, [A, B, C])
    assert listed_pairs(listing(tmp_path, "x\ty z"), names, [A, B, C]) == [(A, C)]


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UnusablePairList, match="No such file"):
        listed_pairs(tmp_path / "none.txt", NAMES, [A])


def test_names_sort_by_folder_and_by_the_value_of_numbers():
    wanted = ["a/9.jpg", "a/10.jpg", "a b/1.jpg", "f/2.jpg", "f/02a.jpg", "f/010.jpg", "f/10x.jpg"]
    assert sorted(reversed(wanted), key=natural_key) == wanted
    assert natural_key("9" * 5000) < natural_key("1" + "0" * 5000)


@given(st.text(max_size=8), st.text(max_size=8))
def test_the_order_of_names_is_total(one, other):
    assert (natural_key(one) < natural_key(other)) + (natural_key(other) < natural_key(one)) == (one != other)


@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize(("count", "overlap"), [(1, 3), (2, 5), (20, 1), (20, 4), (20, 30)])
def test_sequences_are_those_of_colmap(tmp_path, count, overlap, quadratic):
    pycolmap = pytest.importorskip("pycolmap")
    with pycolmap.Database.open(tmp_path / "a.db") as database:
        camera = pycolmap.Camera.create_from_model_name(1, "PINHOLE", 10.0, 10, 10)
        database.write_camera(camera, use_camera_id=True)
        for image in range(1, count + 1):
            database.write_image(
                pycolmap.Image(name=f"{image:03d}", camera_id=1, image_id=image), use_image_id=True
            )
        pairing = pycolmap.SequentialPairingOptions()
        pairing.overlap, pairing.quadratic_overlap, pairing.expand_rig_images = overlap, quadratic, False
        expected = pycolmap.SequentialPairGenerator(pairing, database).all_pairs()
    ordered = shas(count)
    names = {f"{number}.jpg": sha for number, sha in enumerate(ordered)}
    options = SequentialOptions(overlap=overlap, quadratic_overlap=quadratic)
    found = sequential_pairs(names, ordered, options)
    assert ends(found) == sorted((a - 1, b - 1) for a, b in expected)


def test_a_repeated_frame_keeps_its_place_and_its_pairs_are_the_originals():
    frames = {"1.jpg": A, "2.jpg": B, "10.jpg": C, "3.jpg": A, "4.jpg": ""}  # in order A B A C
    assert ends(sequential_pairs(frames, [A, B, C], SequentialOptions(overlap=1))) == [(0, 1), (0, 2)]


def test_proposals_are_joined_with_all_their_sources():
    one = proposal_of(np.array([2, 1, 1]), np.array([0, 1, 2]), 3, "list")
    assert ends(one) == [(0, 2), (1, 2)]
    other = Proposal(np.array([0, 1]), np.array([1, 2]), ["a+b", "a"])
    both = combine(3, one, other, other)
    assert ends(both) == [(0, 1), (0, 2), (1, 2)]
    assert both.source == ["a+b", "list", "list+a"]
    assert ends(combine(0)) == []


def on_a_street(*metres: float) -> np.ndarray:
    """Positions on a meridian, metres north of the equator."""
    return np.array([[metre / DEGREE_M, 11.0, np.nan] for metre in metres])


def test_the_nearest_by_position_within_the_distance():
    found = spatial_neighbours(on_a_street(0, 30, 50, 500), SpatialOptions(neighbours=2, max_distance_m=60))
    assert found.tolist() == [[1, 2], [2, 0], [1, 0], [-1, -1]]
    closer = SpatialOptions(neighbours=2, max_distance_m=25)
    assert spatial_neighbours(on_a_street(0, 30, 50, 500), closer).tolist()[1] == [2, -1]


def test_the_date_line_and_the_poles_are_no_border():
    positions = np.array([[0, 179.9999, 0], [0, -179.9999, 0], [90, 10, 0], [89.9999, -170, 900]], float)
    found = spatial_neighbours(positions, SpatialOptions(neighbours=3, max_distance_m=100))
    assert found[:, 0].tolist() == [1, 0, 3, 2]
    assert (found[:, 1:] == -1).all()


def test_photographs_without_a_position_have_no_neighbours():
    positions = on_a_street(0, 1, 2, 3)
    positions[1] = np.nan
    found = spatial_neighbours(positions, SpatialOptions(neighbours=3))
    assert found.tolist() == [[2, 3, -1], [-1, -1, -1], [3, 0, -1], [2, 0, -1]]
    assert (spatial_neighbours(np.full((3, 3), np.nan), SpatialOptions()) == -1).all()
    assert spatial_neighbours(positions, SpatialOptions(neighbours=0)).shape == (4, 0)


def test_many_photographs_of_one_position_are_never_their_own_neighbours():
    found = spatial_neighbours(np.tile([48.0, 11.0, 5.0], (40, 1)), SpatialOptions(neighbours=3))
    assert (found >= 0).all() and (found != np.arange(40)[:, None]).all()


@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(0, 100)), min_size=2, max_size=12, unique=True))
def test_spatial_neighbours_agree_with_the_haversine_formula(metres):
    positions = np.array([[north / DEGREE_M, east / DEGREE_M, 0] for north, east in metres])
    found = spatial_neighbours(positions, SpatialOptions(neighbours=len(metres), max_distance_m=50))
    latitude, longitude = np.deg2rad(positions[:, :2]).T
    half = np.sin((latitude[:, None] - latitude) / 2) ** 2
    half += np.cos(latitude) * np.cos(latitude)[:, None] * np.sin((longitude[:, None] - longitude) / 2) ** 2
    distance = 2 * 6_371_008.8 * np.arcsin(np.sqrt(half))
    for row in range(len(metres)):
        near = set(found[row][found[row] >= 0].tolist())
        others = [other for other in range(len(metres)) if other != row]
        assert {other for other in others if distance[row, other] < 50 - 1e-5} <= near
        assert near <= {other for other in others if distance[row, other] < 50 + 1e-5}


def test_auto_is_exhaustive_or_neighbours_by_size():
    assert strategy_of(PairOptions(), 299) is STRATEGIES["exhaustive"]
    assert strategy_of(PairOptions(), 300) is STRATEGIES["neighbours"]
    assert strategy_of(PairOptions(strategy="sequential"), 3) is STRATEGIES["sequential"]


def proposed(tmp_path: Path, options: PairOptions, count: int = 20, **known) -> dict[tuple[int, int], str]:
    """Pairs of positions -> sources, of photographs on a circle in the order of their sha256."""
    angles = np.linspace(0, np.pi, count)
    descriptors = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    out = tmp_path / "p.h5"
    proposal = propose_pairs(shas(count), descriptors, options, out, **known)
    stored = hdf5.read(out, "pairs")
    assert stored["pairs/source"].tolist() == proposal.source
    ordered = shas(count)
    assert read_pairs(out) == [(ordered[a], ordered[b]) for a, b in ends(proposal)]
    return dict(zip(ends(proposal), proposal.source, strict=True))


def test_auto_gives_what_descriptors_and_local_features_give(tmp_path):
    """The pairs of a collection without positions, computed from the two sources directly."""
    places = [make_place(f"place{n}", 4) for n in range(3)]
    files = write_places(tmp_path / "f.h5", *places)
    descriptors = unit(np.random.default_rng(2).normal(size=(12, 6)))
    words = AggregationOptions(neighbours=2, features=120)
    tree = VocabularyOptions(neighbours=2, words=64, features=120)
    options = PairOptions(
        exhaustive_below=5, neighbours=2, max_pair_share=0.5, aggregation=words, vocabulary=tree
    )
    nowhere = np.full((12, 3), np.nan)
    found = propose_pairs(
        sorted(files), descriptors, options, tmp_path / "p.h5", features=files, positions=nowhere
    )
    ranked = {
        "descriptor": nearest_neighbours(descriptors, 2),
        "aggregation": nearest_neighbours(aggregated(sorted(files), files, words), 2),
    }
    expected = merge(ranked, 12, 33)
    assert (ends(found), found.source) == (ends(expected), expected.source)
    alone = options.model_copy(update={"strategy": "vocabulary", "exhaustive_below": 300})
    found = propose_pairs(sorted(files), descriptors, alone, tmp_path / "v.h5", features=files)
    assert ends(found) == ends(
        merge({"vocabulary": vocabulary_neighbours(sorted(files), files, tree)}, 12, 33)
    )
    assert set(found.source) == {"vocabulary"}


@pytest.mark.parametrize("after_s", [0.0, 0.3])
def test_a_vocabulary_tree_whose_process_was_killed_is_made_again(tmp_path, monkeypatch, after_s):
    files = write_places(tmp_path / "f.h5", *[make_place(f"place{n}", 4) for n in range(2)])
    tree = VocabularyOptions(neighbours=2, words=64, features=120)
    undisturbed = vocabulary_neighbours(sorted(files), files, tree)
    tries = killing_children(
        monkeypatch, "sfm.pairing.vocabulary:_lookup", signal.SIGKILL, times=2, after_s=after_s
    )
    assert vocabulary_neighbours(sorted(files), files, tree).tolist() == undisturbed.tolist()
    assert len(tries) == 3


def test_positions_add_neighbours_and_take_none_away(tmp_path):
    options = PairOptions(strategy="neighbours", neighbours=2, max_pair_share=1, aggregation=NO_WORDS)
    without = proposed(tmp_path, options)
    positions = np.full((20, 3), np.nan)
    positions[[0, 10]] = [48.0, 11.0, 500.0]
    positions[[4, 5]] = [48.1, 11.0, 500.0]
    found = proposed(tmp_path, options, positions=positions)
    assert found == {**without, (0, 10): "spatial", (4, 5): "descriptor+spatial"}
    off = options.model_copy(update={"spatial": SpatialOptions(neighbours=0)})
    assert proposed(tmp_path, off, positions=positions) == without


def test_exhaustive_is_exhaustive_at_any_size(tmp_path):
    options = PairOptions(strategy="exhaustive", exhaustive_below=0, max_pair_share=0.01)
    assert len(proposed(tmp_path, options)) == 190


def test_a_sequence_may_close_its_loops(tmp_path):
    ordered = shas(20)
    names = {f"{19 - number}.jpg": sha for number, sha in enumerate(ordered)}
    one = PairOptions(strategy="sequential", sequential={"overlap": 2}, max_pair_share=1)
    near = {(a, b) for a in range(20) for b in (a + 1, a + 2) if b < 20}
    assert proposed(tmp_path, one, names=names) == dict.fromkeys(near, "sequential")
    loops = one.model_copy(update={"sequential": SequentialOptions(overlap=1, loop_neighbours=2)})
    found = proposed(tmp_path, loops, names=names)
    assert found[0, 1] == "sequential+descriptor" and found[0, 2] == "descriptor"


def test_a_list_is_taken_as_it_is_whatever_its_share(tmp_path):
    ordered = shas(20)
    names = {f"{number}.jpg": sha for number, sha in enumerate(ordered)}
    path = listing(tmp_path, "".join(f"{b}.jpg {a}.jpg\n" for a in range(20) for b in range(a + 1, 20)))
    options = PairOptions(strategy="list", list_file=path, max_pair_share=0.01)
    found = proposed(tmp_path, options, names=names)
    assert len(found) == 190 and set(found.values()) == {"list"}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"strategy": "list"}, "set pairs.list_file"),
        ({"strategy": "vocabulary", "vocabulary": NO_TREE}, "vocabulary.neighbours = 0"),
        ({"strategy": "vocabulary"}, "without local features"),
        ({"strategy": "sequential"}, "has no name"),
    ],
)
def test_a_strategy_without_what_it_needs_is_refused(tmp_path, options, what):
    with pytest.raises(UnusableStrategy, match=what):
        propose_pairs(shas(2), np.eye(2, dtype=np.float32), PairOptions(**options), tmp_path / "p.h5")


def test_a_strategy_is_checked_before_anything_is_computed(tmp_path):
    def check(options: PairOptions) -> None:
        strategy_of(options, 2).check_options(Known(shas(2), {}, None), options)

    check(PairOptions())
    with pytest.raises(UnusableStrategy):
        check(PairOptions(strategy="list"))
    wrong = PairOptions(strategy="list", list_file=listing(tmp_path, "x y"))
    with pytest.raises(UnusablePairList, match="line 1"):
        check(wrong)


def test_every_strategy_of_the_options_is_there():
    assert {"auto", *STRATEGIES} == set(get_args(Strategy))
