"""Clusters that may show one place are no negatives of each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from sfm.mapping.clusters import ClusterOptions, find_clusters
from sfm.scene.scene import Scene
from sfm.scene.tables import Pairs
from sfm.selection import cluster_guards, guards, stages
from sfm.selection.stages import SplitOptions
from storage.hdf5 import file as hdf5

MakeScene = Callable[..., Scene]
PLACES = {
    place: {f"{place[0]}{n}.jpg": range(n * 5, n * 5 + 20) for n in range(4)}
    for place in ("castle", "bridge", "harbour")
}
CASTLE, BRIDGE, HARBOUR = range(3)


def index(scene: Scene, name: str) -> int:
    return scene.photos.name.tolist().index(name)


def matched(scene: Scene, *rows: tuple[str, str, int]) -> Pairs:
    one, other, inliers = zip(*rows, strict=True)
    return Pairs.sorted([index(scene, n) for n in one], [index(scene, n) for n in other], inliers)


def test_eight_raw_inliers_in_one_pair_bar_two_clusters_both_ways(make_scene: MakeScene) -> None:
    scene = make_scene(PLACES)
    table = matched(scene, ("c0.jpg", "b1.jpg", 7), ("c2.jpg", "b3.jpg", 8), ("c0.jpg", "h0.jpg", 7))
    pairs, most = cluster_guards.may_match(scene, table, 8)
    assert pairs.tolist() == [[CASTLE, BRIDGE]]
    assert most.tolist() == [8]
    photo, cluster, inliers = cluster_guards.barred(scene, np.zeros(3, np.int8), table, 8)
    found = {(str(scene.photos.name[p]), int(c)) for p, c in zip(photo, cluster, strict=True)}
    assert found == {(f"b{n}.jpg", CASTLE) for n in range(4)} | {(f"c{n}.jpg", BRIDGE) for n in range(4)}
    assert set(inliers.tolist()) == {8}


def test_clusters_of_different_splits_need_no_bar(make_scene: MakeScene) -> None:
    scene = make_scene(PLACES)
    table = matched(scene, ("c2.jpg", "b3.jpg", 12))
    photo, _, _ = cluster_guards.barred(scene, np.array([0, 1, 0], np.int8), table, 8)
    assert photo.size == 0


def test_pairs_that_agree_within_clusters_and_between_them(make_scene: MakeScene) -> None:
    scene = make_scene(PLACES, singletons=["lone.jpg"])
    rows = [("lone.jpg", "c0.jpg", 12), ("c2.jpg", "b3.jpg", 9), ("b0.jpg", "c0.jpg", 10)]
    table = matched(scene, *rows, ("c1.jpg", "c0.jpg", 40), ("h0.jpg", "c0.jpg", 50))
    splits = np.zeros(4, np.int8)
    splits[HARBOUR] = 1

    def found(scene: Scene) -> set[tuple[str, str, int]]:
        pairs, most = cluster_guards.agreeing(scene, table, splits, 10)
        assert (pairs[:, 0] < pairs[:, 1]).all() and len(np.unique(pairs, axis=0)) == len(pairs)
        names = np.sort(scene.photos.name[pairs].astype(str), axis=1)
        return {(*row, inliers) for row, inliers in zip(names.tolist(), most.tolist(), strict=True)}

    alone, joined = ("c0.jpg", "lone.jpg", 12), ("b0.jpg", "c0.jpg", 10)
    assert found(scene) == {alone, joined, ("c0.jpg", "c1.jpg", 40)}
    earlier = replace(scene, attempts=matched(scene, ("lone.jpg", "c0.jpg", 30)))
    assert found(earlier) == {(*alone[:2], 30), joined, ("c0.jpg", "c1.jpg", 40)}


def test_a_singleton_is_left_to_its_own_guard(make_scene: MakeScene) -> None:
    scene = make_scene(PLACES, singletons=["lone.jpg"])
    pairs, _ = cluster_guards.may_match(scene, matched(scene, ("lone.jpg", "c0.jpg", 12)), 8)
    assert len(pairs) == 0


def test_every_cluster_meets_the_nearest_photographs_of_the_nearest_clusters(make_scene: MakeScene) -> None:
    """Castle at 0 .. 3 degrees, bridge at 10 .. 13, harbour at 100 .. 103; splits keep them together."""
    scene = make_scene(PLACES)
    start = {"c": 0.0, "b": 10.0, "h": 100.0}
    angle = np.radians([start[name[0]] + int(name[1]) for name in scene.photos.name])
    descriptors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    pairs = cluster_guards.nearest_pairs(
        scene, descriptors, np.zeros(3, np.int8), num_clusters=1, num_pairs=2
    )
    found = {frozenset(str(scene.photos.name[p]) for p in pair) for pair in pairs}
    castle_bridge = {frozenset({"c3.jpg", "b0.jpg"}), frozenset({"c2.jpg", "b0.jpg"})}
    harbour_bridge = {frozenset({"h0.jpg", "b3.jpg"}), frozenset({"h0.jpg", "b2.jpg"})}
    assert len(found & castle_bridge) >= 1
    assert found & harbour_bridge
    assert all({name[0] for name in pair} != {"c", "h"} for pair in found)


def test_refused_photographs_are_junk_of_the_benchmark_and_rows_of_the_table(make_scene: MakeScene) -> None:
    scene = make_scene(PLACES)
    splits = np.array([2, 2, 2], np.int8)
    table = guards.verdicts(scene, splits, matched(scene, ("c2.jpg", "b3.jpg", 9)))
    assert not table.allowed.any()
    junk = guards.benchmark_junk(scene, splits, table)
    assert {str(scene.photos.name[p]) for p in junk[CASTLE]} == {f"b{n}.jpg" for n in range(4)}
    assert junk[HARBOUR].size == 0


def test_the_step_writes_pairs_between_clusters_that_were_not_matched_yet(
    many_places: MakeScene, tmp_path: Path
) -> None:
    scene = many_places()
    descriptors = np.eye(len(scene.photos.name), 16, dtype=np.float32)
    count = stages.guard_pairs(scene, descriptors, SplitOptions(), tmp_path / "pairs.h5")
    stored = hdf5.read(tmp_path / "pairs.h5", "pairs")
    assert count == stored["pairs/first"].size > 0
    accepted = np.flatnonzero(scene.photos.cluster >= 0)
    ends = accepted[np.stack([stored["pairs/first"], stored["pairs/second"]], axis=1)]
    clusters = scene.photos.cluster[ends]
    assert (clusters[:, 0] != clusters[:, 1]).all()


def test_clusters_that_a_cut_bridge_parted_are_no_negatives_of_each_other(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene = make_scene(PLACES)
    names = scene.photos.name.tolist()
    table = matched(
        scene,
        *(
            (f"{place}{one}.jpg", f"{place}{other}.jpg", 60)
            for place in "cbh"
            for one in range(4)
            for other in range(one + 1, 4)
        ),
        ("c0.jpg", "b0.jpg", 17),
    )
    attempts = [(names[a], names[b]) for a, b in zip(table.first, table.second, strict=True)]
    found = find_clusters(names, attempts, table.inliers, ClusterOptions(), tmp_path / "clusters.json")
    assert len(found) == 3
    cut = json.loads((tmp_path / "clusters.json").read_text())["cut"]
    assert [each["inliers"] for each in cut] == [17]
    pairs, most = cluster_guards.may_match(scene, table, guards.GuardOptions().guard_inliers)
    assert pairs.tolist() == [[CASTLE, BRIDGE]] and most.tolist() == [17]
