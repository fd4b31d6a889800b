"""One cluster becomes the right cameras, the same bytes each time, and a clear word where it cannot."""

import signal

import numpy as np
import pycolmap
import pytest

from sfm.mapping import map as mapping
from sfm.mapping.cluster_files import Cluster
from sfm.mapping.clusters import ClusterOptions, find_clusters
from sfm.mapping.map import (
    MappingFailed,
    MappingOptions,
    MappingResources,
    UnmappableCluster,
    map_cluster,
    model_folders,
)
from sfm.matching.match import MatchingOptions, match_pairs, read_attempts
from sfm.scene.colmap import read_model
from storage.children.errors import ChildFailed, ChildKilled
from storage.hdf5.digests import content_sha256
from storage.hdf5.open import open_artifact
from tests.killed_children import killing_children
from tests.sfm.feature_scenes import FOCAL, all_pairs, make_place, write_places, write_working

PLACE, OTHER = make_place("house", 7), make_place("tower", 2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Clusters, features, matches and working copies of two places."""
    folder = tmp_path_factory.mktemp("world")
    shas = sorted([*PLACE.shas, *OTHER.shas])
    features = write_places(folder / "f.h5", PLACE, OTHER)
    match_pairs(all_pairs(shas), features, MatchingOptions(), folder / "m.h5")
    clusters = find_clusters(shas, *read_attempts([folder / "m.h5"]), ClusterOptions(), folder / "c.json")
    with open_artifact(folder / "m.h5") as artifact:
        matches = {tuple(item.split("/")): folder / "m.h5" for item in artifact.items()}
    by_size = sorted(clusters, key=lambda cluster: -len(cluster.photographs))
    return by_size, features, matches, write_working(folder / "working", shas)


@pytest.fixture(scope="module")
def mapped(world, tmp_path_factory):
    clusters, *files = world
    out = tmp_path_factory.mktemp("mapping") / "house"
    return out, map_cluster(clusters[0], *files, MappingOptions(), out)


def test_the_clusters_are_the_places(world):
    assert [set(cluster.photographs) for cluster in world[0]] == [set(PLACE.shas), set(OTHER.shas)]


def test_cameras_are_where_they_were(mapped):
    out, summary = mapped
    (folder,) = model_folders(out)
    model = pycolmap.Reconstruction(folder)
    assert {image.name for image in model.images.values()} == {f"{sha}.jpg" for sha in PLACE.shas}
    found = {image.name: image.projection_center() for image in model.images.values()}
    centers = np.stack([found[f"{sha}.jpg"] for sha in PLACE.shas])
    alignment = pycolmap.estimate_sim3d(centers, PLACE.centers)
    errors = np.linalg.norm((alignment * centers) - PLACE.centers, axis=1)
    extent = np.linalg.norm(np.ptp(PLACE.centers, axis=0))
    assert np.median(errors) < 0.01 * extent
    facts = summary["models"][0]
    assert (facts["registered"], facts["points"]) == (7, model.num_points3D())
    assert facts["points_per_photo"] > 100 and facts["reprojection_error_px"] < 0.5
    focal = [camera.mean_focal_length() for camera in model.cameras.values()]
    np.testing.assert_allclose(focal, FOCAL, rtol=0.03)


def test_mapping_again_gives_the_same_bytes(mapped, world, tmp_path):
    clusters, *files = world
    map_cluster(clusters[0], *files, MappingOptions(), tmp_path / "again")
    for first in mapped[0].rglob("*"):
        if first.is_file():
            assert (tmp_path / "again" / first.relative_to(mapped[0])).read_bytes() == first.read_bytes()
    assert content_sha256(tmp_path / "again") == content_sha256(mapped[0])


def test_folders_may_be_given_relative(mapped, world, tmp_path, monkeypatch):
    clusters, features, matches, working = world
    folder = working[PLACE.shas[0]]
    monkeypatch.chdir(folder.parent)
    relative = dict.fromkeys(working, folder.relative_to(folder.parent))
    map_cluster(clusters[0], features, matches, relative, MappingOptions(), tmp_path / "out")
    assert content_sha256(tmp_path / "out") == content_sha256(mapped[0])


@pytest.mark.parametrize(
    "params",
    [
        {"focal": -347.0},
        {"focal": float("nan")},
        {"focal": 90_000.0},
        {"distortion": 1.5},
        {"focal": 30.0},
    ],
)
def test_a_photograph_with_an_impossible_camera_leaves_its_model(mapped, tmp_path, params):
    folder = tmp_path / "0"
    folder.mkdir()
    model = pycolmap.Reconstruction(model_folders(mapped[0])[0])
    bad = model.image(model.reg_image_ids()[2])
    camera, name, points = bad.camera, bad.name, model.num_points3D()
    values = np.array(camera.params)
    values[0 if "focal" in params else -1] = next(iter(params.values()))
    camera.params = values
    assert mapping._without_impossible(model, folder) == {"impossible_cameras": 1}
    read = read_model(folder)
    assert name not in {image.name for image in read.images.values()}
    assert (len(read.images), len(read.cameras)) == (6, 6)
    assert all(0 < camera.focal_px < 6400 for camera in read.cameras.values())
    assert 0 < len(read.points.id) <= points


def test_a_sound_model_is_not_written_anew(mapped, tmp_path):
    model = pycolmap.Reconstruction(model_folders(mapped[0])[0])
    assert mapping._without_impossible(model, tmp_path / "0") == {"impossible_cameras": 0}
    assert not (tmp_path / "0").exists()
    assert mapped[1]["models"][0]["impossible_cameras"] == 0


def test_a_cluster_that_is_too_small_has_no_model(world, tmp_path):
    clusters, *files = world
    summary = map_cluster(clusters[1], *files, MappingOptions(), tmp_path / "tower")
    assert summary == {"photographs": 2, "models": [], "dropped": []}
    assert [path.name for path in (tmp_path / "tower").iterdir()] == ["summary.json"]
    assert model_folders(tmp_path / "tower") == []


@pytest.mark.parametrize(
    "gate",
    [
        {"min_points": 10_000},
        {"min_points_per_photo": 900.0},
        {"max_reprojection_error_px": 0.01},
        {"min_model_size": 7},
    ],
)
def test_models_below_the_gates_are_dropped_and_told(world, tmp_path, gate):
    clusters, *files = world
    summary = map_cluster(clusters[0], *files, MappingOptions(**gate), tmp_path / "out")
    kept = 1 if gate == {"min_model_size": 7} else 0
    assert (len(summary["models"]), len(summary["dropped"])) == (kept, 1 - kept)
    assert (tmp_path / "out" / "0").exists() == bool(kept)


def test_a_cluster_that_gives_nothing_is_no_error(world, tmp_path):
    clusters, *files = world
    summary = map_cluster(clusters[0], *files, MappingOptions(init_min_inliers=5000), tmp_path / "out")
    assert (summary["models"], summary["dropped"]) == ([], [])


def test_the_global_mapper_agrees_and_gives_the_same_bytes_again(world, mapped, tmp_path):
    clusters, *files = world
    options = MappingOptions(mapper="global")
    for name in ("one", "two"):
        summary = map_cluster(clusters[0], *files, options, tmp_path / name)
    assert content_sha256(tmp_path / "one") == content_sha256(tmp_path / "two")
    assert [facts["registered"] for facts in summary["models"]] == [7]
    model = pycolmap.Reconstruction(tmp_path / "one" / "0")
    found = {image.name: image.projection_center() for image in model.images.values()}
    centers = np.stack([found[f"{sha}.jpg"] for sha in PLACE.shas])
    errors = np.linalg.norm(pycolmap.estimate_sim3d(centers, PLACE.centers) * centers - PLACE.centers, axis=1)
    assert np.median(errors) < 0.01 * np.linalg.norm(np.ptp(PLACE.centers, axis=0))
    assert content_sha256(tmp_path / "one") != content_sha256(mapped[0])


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (signal.SIGABRT, MappingFailed, r"mapping\.mapper.*leave_out_failed=true"),
        (signal.SIGKILL, ChildKilled, r"lower resources\.workers"),
    ],
)
def test_a_cluster_whose_process_is_killed_each_time_names_the_remedy(
    world, tmp_path, monkeypatch, number, kind, remedy
):
    """Only a crash may be left out if the user says so: a kill from outside is not the cluster's fault."""
    tries = killing_children(monkeypatch, "sfm.mapping.map:_map", number)
    with pytest.raises(ChildFailed, match=rf"mapping of cluster .*{number.name}.*{remedy}") as caught:
        map_cluster(world[0][0], *world[1:], MappingOptions(), tmp_path / "o")
    assert type(caught.value) is kind and len(tries) == 3
    assert not (tmp_path / "o" / "summary.json").exists()


@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.5])
def test_a_cluster_whose_process_was_killed_is_mapped_again(world, mapped, tmp_path, monkeypatch, after_s):
    tries = killing_children(monkeypatch, "sfm.mapping.map:_map", signal.SIGKILL, times=2, after_s=after_s)
    (tmp_path / "o" / "0").mkdir(parents=True)  # what the killed one had begun to copy
    (tmp_path / "o" / "0" / "points3D.bin").write_bytes(b"half")
    map_cluster(world[0][0], *world[1:], MappingOptions(), tmp_path / "o")
    assert len(tries) == 3 and content_sha256(tmp_path / "o") == content_sha256(mapped[0])


def test_the_time_limit_names_the_cluster(world, tmp_path):
    clusters, *files = world
    name = rf"mapping of cluster {clusters[0].name[:12]} \(7 photographs\)"
    remedy = "mapping_time_limit_s.*max_cluster_size.*leave_out_failed=true"
    with pytest.raises(MappingFailed, match=rf"{name}.*limit.*{remedy}"):
        map_cluster(
            clusters[0],
            *files,
            MappingOptions(),
            tmp_path / "o",
            resources=MappingResources(time_limit_s=0.05),
        )


@pytest.mark.parametrize(
    ("missing", "what"), [(0, "no features of"), (1, "no matches of"), (2, "no working copy of")]
)
def test_missing_inputs_are_named(world, tmp_path, missing, what):
    clusters, *files = world
    files[missing] = {}
    with pytest.raises(UnmappableCluster, match=f"cluster {clusters[0].name[:12]}: {what}"):
        map_cluster(clusters[0], *files, MappingOptions(), tmp_path / "o")


def test_native_code_stays_out_of_this_process(monkeypatch, world, tmp_path):
    calls = []
    summary = {"models": [], "dropped": []}
    monkeypatch.setattr(mapping, "run_patiently", lambda name, *_, **__: calls.append(name) or summary)
    map_cluster(world[0][0], *world[1:], MappingOptions(), tmp_path / "o")
    map_cluster(Cluster(("a",), ()), {"a": tmp_path}, {}, {"a": tmp_path}, MappingOptions(), tmp_path / "p")
    assert calls == ["sfm.mapping.map:_map"]


FACTS = {"points": 900, "points_per_photo": 300.0, "reprojection_error_px": 0.5}


@pytest.mark.parametrize(
    ("least", "kept"),
    [(1, [2, 0]), (0, [2, 0, 1, 3]), (2, [2])],
    ids=["default", "all", "two of its own"],
)
def test_a_model_without_photographs_of_its_own_repeats_a_larger_one(least, kept):
    members = {0: set("abcx"), 1: set("abc"), 2: set("abcdef"), 3: set("axf")}
    facts = {index: {"registered": len(names), **FACTS} for index, names in members.items()}
    facts[3]["points"] = 800
    assert mapping._worth_keeping(facts, members, MappingOptions(min_own_photos=least)) == kept


def test_a_model_that_is_not_sound_hides_no_other():
    members = {0: set("abcd"), 1: set("abc")}
    facts = {index: {"registered": len(names), **FACTS} for index, names in members.items()}
    facts[0]["points"] = 3
    assert mapping._worth_keeping(facts, members, MappingOptions()) == [1]
