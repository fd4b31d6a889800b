"""Guards: which singletons are matched once more, and which may be negatives afterwards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sfm.scene.scene import Scene
from sfm.scene.tables import BadScene, Pairs
from sfm.selection import guards
from sfm.selection.guards import BadDescriptors, GuardOptions

MakeScene = Callable[..., Scene]
TRAIN, VAL, TEST = 0, 1, 2

PLACES = {
    "castle": {f"c{n}.jpg": range(n * 5, n * 5 + 20) for n in range(4)},
    "bridge": {f"b{n}.jpg": range(n * 5, n * 5 + 20) for n in range(4)},
    "harbour": {f"h{n}.jpg": range(n * 5, n * 5 + 20) for n in range(4)},
}
CASTLE, BRIDGE, HARBOUR, LONE, STRAY = range(5)


def index(scene: Scene, name: str) -> int:
    return scene.photos.name.tolist().index(name)


def named(scene: Scene, pairs: tuple[np.ndarray, np.ndarray]) -> set[frozenset[str]]:
    return {frozenset({scene.photos.name[a], scene.photos.name[b]}) for a, b in zip(*pairs, strict=True)}


def descriptors_of(scene: Scene, angle_of: dict[str, float]) -> np.ndarray:
    angle = np.array([angle_of.get(name, 180.0) for name in scene.photos.name]) * np.pi / 180
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


class TestProposals:
    ANGLES = {f"c{n}.jpg": 10.0 + n for n in range(4)} | {f"b{n}.jpg": 50.0 + n for n in range(4)}

    def test_a_singleton_of_train_meets_the_nearest_photographs_of_its_nearest_clusters(
        self, make_scene: MakeScene
    ) -> None:
        """lone at 0 degrees; castle at 10 .. 13, bridge at 50 .. 53; harbour is in test."""
        scene = make_scene(PLACES, singletons=["lone.jpg"])
        descriptors = descriptors_of(scene, self.ANGLES | {"lone.jpg": 0.0})
        splits = np.array([TRAIN, TRAIN, TEST, TRAIN], dtype=np.int8)
        nearest = guards.proposals(scene, descriptors, splits, GuardOptions(guard_clusters=1))
        assert named(scene, nearest) == {frozenset({"lone.jpg", f"c{n}.jpg"}) for n in (0, 1, 2)}
        both = guards.proposals(scene, descriptors, splits, GuardOptions(guard_photographs=1))
        assert named(scene, both) == {frozenset({"lone.jpg", n}) for n in ("c0.jpg", "b0.jpg")}
        assert (both[0] < both[1]).all()

    def test_blocks_do_not_change_them(self, make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
        scene = make_scene(PLACES, singletons=[f"lone{n}.jpg" for n in range(7)])
        descriptors = np.random.default_rng(0).normal(size=(19, 8)).astype(np.float32)
        splits = np.zeros(10, dtype=np.int8)
        whole = guards.proposals(scene, descriptors, splits, GuardOptions(guard_clusters=2))
        assert whole[0].size == 7 * 2 * 3
        monkeypatch.setattr(guards, "_BLOCK_SIMILARITIES", 25)
        again = guards.proposals(scene, descriptors, splits, GuardOptions(guard_clusters=2))
        np.testing.assert_array_equal(again, whole)

    def test_pairs_that_were_matched_are_not_proposed_again(self, make_scene: MakeScene) -> None:
        scene = make_scene(PLACES, singletons=["lone.jpg"], attempts=[("lone.jpg", "c1.jpg", 2)])
        descriptors = descriptors_of(scene, self.ANGLES | {"lone.jpg": 0.0})
        splits = np.array([TRAIN, TRAIN, TEST, TRAIN], dtype=np.int8)
        pairs = guards.proposals(scene, descriptors, splits, GuardOptions(guard_clusters=1))
        assert named(scene, pairs) == {frozenset({"lone.jpg", f"c{n}.jpg"}) for n in (0, 2)}

    def test_in_test_it_meets_three_well_connected_photographs_of_every_model(
        self, make_scene: MakeScene
    ) -> None:
        verified = [("h1.jpg", "h3.jpg", 50), ("h1.jpg", "h2.jpg", 50), ("h2.jpg", "h3.jpg", 50)]
        scene = make_scene(PLACES, singletons=["lone.jpg"], pairs=verified)
        descriptors = descriptors_of(scene, {"lone.jpg": 0.0, "h0.jpg": 0.0})
        splits = np.array([TRAIN, TRAIN, TEST, TEST], dtype=np.int8)
        pairs = guards.proposals(scene, descriptors, splits, GuardOptions(guard_photographs=1))
        assert named(scene, pairs) == {
            frozenset({"lone.jpg", "h0.jpg"}),
            frozenset({"lone.jpg", "h1.jpg"}),
        } | {
            frozenset({"lone.jpg", str(scene.photos.name[n])})
            for n in guards.well_connected(scene, int(scene.photos.model[index(scene, "h1.jpg")]), 1)
        }

    def test_photographs_with_verified_pairs_are_no_singletons(self, make_scene: MakeScene) -> None:
        scene = make_scene(PLACES, singletons=["lone.jpg"], rejected=["bad.txt"])
        assert scene.photos.name[guards.singletons(scene)].tolist() == ["lone.jpg"]
        nothing = make_scene(PLACES)
        pairs = guards.proposals(nothing, descriptors_of(nothing, {}), np.zeros(3, dtype=np.int8))
        assert pairs[0].size == 0

    def test_descriptors_of_another_length_are_an_error(self, make_scene: MakeScene) -> None:
        scene = make_scene(PLACES)
        with pytest.raises(BadDescriptors, match="5 descriptors for 12 photographs"):
            guards.proposals(scene, np.zeros((5, 2), np.float32), np.zeros(3, dtype=np.int8))


def test_well_connected_by_degree_then_points(make_scene: MakeScene) -> None:
    views = {"a.jpg": range(20), "b.jpg": range(15), "c.jpg": range(10), "d.jpg": range(5)}
    scene = make_scene({"place": views}, pairs=[("c.jpg", "d.jpg", 30), ("a.jpg", "d.jpg", 20)])
    assert scene.photos.name[guards.well_connected(scene, 0, 4)].tolist() == [
        "d.jpg",
        "a.jpg",
        "c.jpg",
        "b.jpg",
    ]


class TestVerdicts:
    SPLITS = np.array([TRAIN, TRAIN, TEST, TRAIN, TEST], dtype=np.int8)

    def table(self, scene: Scene, matched: Pairs | None = None) -> dict[tuple[str, int], tuple[int, bool]]:
        verdicts = guards.verdicts(scene, self.SPLITS, matched)
        names = scene.photos.name[verdicts.photo]
        rows = zip(names, verdicts.cluster, verdicts.max_inliers, verdicts.allowed, strict=True)
        return {
            (str(name), int(cluster)): (int(most), bool(allowed)) for name, cluster, most, allowed in rows
        }

    def scene(self, make_scene: MakeScene, *attempts: tuple[str, str, int]) -> Scene:
        return make_scene(PLACES, singletons=["lone.jpg", "stray.jpg"], attempts=attempts)

    def test_three_matches_below_eight_inliers_clear_a_singleton(self, make_scene: MakeScene) -> None:
        scene = self.scene(
            make_scene, ("lone.jpg", "c0.jpg", 0), ("lone.jpg", "c1.jpg", 7), ("c2.jpg", "lone.jpg", 3)
        )
        assert self.table(scene) == {("lone.jpg", CASTLE): (7, True)}

    def test_eight_inliers_with_one_photograph_do_not(self, make_scene: MakeScene) -> None:
        attempts = [("lone.jpg", f"c{n}.jpg", n) for n in range(3)]
        scene = self.scene(make_scene, *attempts, ("lone.jpg", "c3.jpg", 8))
        assert self.table(scene) == {("lone.jpg", CASTLE): (8, False)}

    def test_too_few_matches_do_not(self, make_scene: MakeScene) -> None:
        scene = self.scene(make_scene, ("lone.jpg", "c0.jpg", 0), ("lone.jpg", "c1.jpg", 0))
        assert self.table(scene) == {("lone.jpg", CASTLE): (0, False)}

    def test_the_same_pair_twice_counts_once(self, make_scene: MakeScene) -> None:
        scene = self.scene(make_scene, ("lone.jpg", "c0.jpg", 0), ("lone.jpg", "c1.jpg", 0))
        again = Pairs.sorted([index(scene, "lone.jpg")], [index(scene, "c0.jpg")], [0])
        assert self.table(scene, again) == {("lone.jpg", CASTLE): (0, False)}

    def test_what_was_matched_afterwards_counts(self, make_scene: MakeScene) -> None:
        scene = self.scene(make_scene, ("lone.jpg", "c0.jpg", 0), ("lone.jpg", "c1.jpg", 0))
        later = Pairs.sorted([index(scene, "lone.jpg")], [index(scene, "c2.jpg")], [5])
        assert self.table(scene, later) == {("lone.jpg", CASTLE): (5, True)}

    def test_other_splits_and_other_singletons_have_no_verdict(self, make_scene: MakeScene) -> None:
        scene = self.scene(
            make_scene, ("lone.jpg", "h0.jpg", 0), ("lone.jpg", "stray.jpg", 0), ("c0.jpg", "b0.jpg", 0)
        )
        assert self.table(scene) == {}

    def test_in_test_the_well_connected_of_every_model_must_have_been_met(
        self, make_scene: MakeScene
    ) -> None:
        pairs = [("h1.jpg", "h2.jpg", 30), ("h2.jpg", "h3.jpg", 30)]
        loose = [("stray.jpg", f"h{n}.jpg", 0) for n in (0, 1, 2)]
        scene = make_scene(PLACES, singletons=["lone.jpg", "stray.jpg"], attempts=loose, pairs=pairs)
        assert self.table(scene) == {("stray.jpg", HARBOUR): (0, False)}
        whole = make_scene(
            PLACES,
            singletons=["lone.jpg", "stray.jpg"],
            attempts=[*loose, ("stray.jpg", "h3.jpg", 2)],
            pairs=pairs,
        )
        assert self.table(whole) == {("stray.jpg", HARBOUR): (2, True)}

    def test_what_is_not_cleared_is_junk_of_the_benchmark(self, make_scene: MakeScene) -> None:
        cleared = self.scene(make_scene, *[("stray.jpg", f"h{n}.jpg", 1) for n in range(4)])
        junk = guards.benchmark_junk(cleared, self.SPLITS, guards.verdicts(cleared, self.SPLITS))
        assert {cluster: photos.tolist() for cluster, photos in junk.items()} == {HARBOUR: []}
        unknown = self.scene(make_scene)
        junk = guards.benchmark_junk(unknown, self.SPLITS, guards.verdicts(unknown, self.SPLITS))
        assert junk[HARBOUR].tolist() == [index(unknown, "stray.jpg")]


def test_proposals_once_matched_give_every_proposed_singleton_a_verdict(make_scene: MakeScene) -> None:
    """The loop of the pipeline: propose, match (here: nothing in common), judge."""
    scene = make_scene(PLACES, singletons=[f"lone{n}.jpg" for n in range(5)])
    descriptors = np.random.default_rng(1).normal(size=(17, 6)).astype(np.float32)
    splits = np.array([TRAIN, TEST, VAL, TRAIN, TRAIN, TEST, TEST, VAL], dtype=np.int8)
    first, second = guards.proposals(scene, descriptors, splits)
    table = guards.verdicts(scene, splits, Pairs.sorted(first, second, np.zeros(first.size)))
    assert table.allowed.all() and table.photo.size == 5
    assert all(photos.size == 0 for photos in guards.benchmark_junk(scene, splits, table).values())


def test_matched_pairs_come_back_by_digest(make_scene: MakeScene) -> None:
    scene = make_scene(PLACES, singletons=["lone.jpg"], rejected=["0bad.txt"])
    first, second = guards.proposals(
        scene, descriptors_of(scene, {"lone.jpg": 0.0}), np.zeros(4, dtype=np.int8)
    )
    known = np.where(scene.photos.cluster >= 0, scene.photos.sha256, b"").astype("S64")
    pairs = [(known[b].decode(), known[a].decode()) for a, b in zip(first, second, strict=True)]
    back = Pairs.of_digests(known, pairs, np.zeros(first.size))
    np.testing.assert_array_equal([back.first, back.second], [first, second])
    with pytest.raises(BadScene, match="names ffff"):
        Pairs.of_digests(known, [("f" * 64, known[1].decode())], [0])
