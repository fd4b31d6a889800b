"""What COLMAP reads of an export is what was mapped, under the user's names."""

import csv
import signal
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.export.colmap import DATABASE, export_colmap
from sfm.export.names import UnusableExport, exported, unique_names, verified_pairs
from tests.killed_children import killing_children
from tests.sfm.exported_scenes import HOUSE, World, make_world
from tests.sfm.feature_scenes import HEIGHT, WIDTH


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export")
    matches = verified_pairs(world.scene, [world.matches])
    export_colmap(world.scene, out, working=world.working, features=world.features, matches=matches)
    return out


def exported_name(world: World, sha: str) -> str:
    name = world.name_of[sha]
    return f"{name}.jpg" if name.endswith("png") else name


def test_cameras_poses_points_and_tracks_agree_with_the_mapped_model(world: World, folder: Path) -> None:
    before = pycolmap.Reconstruction(world.mapped / "0")
    after = pycolmap.Reconstruction(folder / "sparse" / "0")
    assert (after.num_reg_images(), after.num_points3D()) == (4, before.num_points3D())
    assert after.num_frames() == after.num_rigs() == 4
    by_name = {image.name: image for image in after.images.values()}
    images = {}
    for image in before.images.values():
        found = by_name[exported_name(world, image.name.removesuffix(".jpg"))]
        images[image.image_id] = found.image_id
        np.testing.assert_allclose(
            found.cam_from_world().matrix(), image.cam_from_world().matrix(), atol=1e-12
        )
        np.testing.assert_array_equal(found.camera.params, image.camera.params)
        assert (found.camera.width, found.camera.height) == (WIDTH, HEIGHT)
        assert found.camera.model == image.camera.model
        keypoints = [[point.xy for point in each.points2D] for each in (found, image)]
        np.testing.assert_array_equal(*keypoints)
    assert len(images) == 4
    assert tracks(after, {number: number for number in images.values()}) == tracks(before, images)


def tracks(model: pycolmap.Reconstruction, images: dict[int, int]) -> set[tuple[object, ...]]:
    return {
        (
            tuple(point.xyz), tuple(point.color), point.error,
            tuple(sorted((images[each.image_id], each.point2D_idx) for each in point.track.elements)),
        )
        for point in model.points3D.values()
    }  # fmt: skip


def test_pycolmap_writes_the_same_files(folder: Path, tmp_path: Path) -> None:
    pycolmap.Reconstruction(folder / "sparse" / "0").write_binary(tmp_path)
    for path in (folder / "sparse" / "0").iterdir():
        if path.name in ("cameras.bin", "rigs.bin"):
            assert path.read_bytes() == (tmp_path / path.name).read_bytes()
        assert path.stat().st_size == (tmp_path / path.name).stat().st_size
    frames = [(at / "frames.bin").read_bytes() for at in (folder / "sparse" / "0", tmp_path)]
    own, theirs = (sorted(struct.iter_unpack("<II7dIiIQ", content[8:])) for content in frames)
    np.testing.assert_allclose(own, theirs, atol=1e-12)


def test_points_project_onto_their_keypoints(folder: Path) -> None:
    """The model and images/ agree: a wrong keypoint order or size would show here."""
    model = pycolmap.Reconstruction(folder / "sparse" / "0")
    errors = []
    for image in model.images.values():
        with Image.open(folder / "images" / image.name) as picture:
            assert picture.size == (image.camera.width, image.camera.height)
        for point in image.points2D:
            if point.has_point3D():
                projected = image.project_point(model.points3D[point.point3D_id].xyz)
                errors.append(np.linalg.norm(projected - point.xy))
    assert len(errors) > 300 and np.mean(errors) < 1


def test_the_database_fits_the_model(world: World, folder: Path) -> None:
    model = pycolmap.Reconstruction(folder / "sparse" / "0")
    shas = {exported_name(world, sha): sha for sha in world.name_of}
    with pycolmap.Database.open(folder / DATABASE) as database:
        images = {image.image_id: image.name for image in database.read_all_images()}
        counts = {number: len(database.read_keypoints(number)) for number in images}
        pairs, geometries = database.read_two_view_geometries()
        assert all(len(database.read_descriptors(number).data) == counts[number] for number in images)
    assert set(images.values()) == set(shas)
    for number, image in model.images.items():
        assert (images[number], counts[number]) == (image.name, image.num_points2D())
    found = {
        tuple(sorted(shas[images[number]] for number in pycolmap.pair_id_to_image_pair(pair))): len(
            g.inlier_matches
        )
        for pair, g in zip(pairs, geometries, strict=True)
    }
    tried, inliers = world.attempts
    wanted = {pair: count for pair, count in zip(tried, inliers.tolist(), strict=True) if count >= 15}
    assert found == wanted and len(found) == 7


def test_the_table_says_whose_image_is_whose(world: World, folder: Path) -> None:
    with (folder / "photographs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert all(None not in row and None not in row.values() for row in rows)
    assert {row["sha256"]: row["name"] for row in rows} == world.name_of
    assert all(row["exported"] == exported_name(world, row["sha256"]) for row in rows)
    assert {row["sha256"] for row in rows if row["model"] == "0"} == set(HOUSE.shas)
    assert {(row["width"], row["working_width"]) for row in rows} == {("1280", "640")}


@pytest.mark.parametrize("mode", ["symlink", "hardlink", "none"])
def test_images_may_be_links_or_left_out(world: World, tmp_path: Path, mode: str) -> None:
    export_colmap(world.scene, tmp_path, working=world.working, images=mode)  # type: ignore[arg-type]
    found = sorted(path for path in (tmp_path / "images").rglob("*") if path.is_file())
    assert len(found) == (0 if mode == "none" else 6)
    assert all(path.is_symlink() == (mode == "symlink") for path in found)
    if mode == "hardlink":
        assert all(path.stat().st_nlink > 1 for path in found)


def test_without_features_other_keypoints_are_outside(world: World, tmp_path: Path) -> None:
    export_colmap(world.scene, tmp_path, working=world.working, images="none")
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    outside = {tuple(p.xy) for image in model.images.values() for p in image.points2D if not p.has_point3D()}
    assert outside == {(-1.0, -1.0)}


def test_a_missing_working_copy_is_named(world: World, tmp_path: Path) -> None:
    working = {sha: at for sha, at in world.working.items() if sha != HOUSE.shas[0]}
    with pytest.raises(UnusableExport, match=r"working copy of 'a b\.jpg' is missing"):
        export_colmap(world.scene, tmp_path, working=working)


def test_pairs_of_other_collections_are_left_out(world: World) -> None:
    scene = SimpleNamespace(
        photos=world.scene.photos,
        attempts=SimpleNamespace(
            first=world.scene.attempts.first[:1], second=world.scene.attempts.second[:1]
        ),
    )
    ends = (scene.attempts.first[0], scene.attempts.second[0])
    pair = tuple(sorted(world.scene.photos.sha256[end].decode() for end in ends))
    found = verified_pairs(scene, [world.matches])  # type: ignore[arg-type]
    assert set(found) <= {pair} and len(verified_pairs(world.scene, [world.matches])) == 7


def test_ids_follow_the_digests(world: World) -> None:
    ids = exported(world.scene).ids
    assert sorted(ids, key=ids.__getitem__) == sorted(world.name_of)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a.jpg", "b.PNG"], ["a.jpg", "b.PNG.jpg"]),
        (["a.png", "a.png.jpg"], ["a.png.jpg." + "0" * 12 + ".jpg", "a.png.jpg"]),
        (["d.png", "d.png.jpg/e.jpg"], ["d.png.jpg." + "0" * 12 + ".jpg", "d.png.jpg/e.jpg"]),
        (["x/" + "n" * 251 + ".png"], ["0" * 63 + "0.jpg"]),
    ],
)
def test_names_are_unique_and_of_jpeg_files(names: list[str], found: list[str]) -> None:
    shas = ["0" * 63 + str(number) for number in range(len(names))]
    result = unique_names(list(zip(names, shas, strict=True)), str)
    assert [result[sha] for sha in shas] == found


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "a/../../b.jpg"])
def test_a_name_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(UnusableExport, match="leads out of the folder"):
        unique_names([(name, "0" * 64)], str)


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.4])
def test_a_database_whose_process_was_killed_is_written_anew(
    world: World, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    child = "sfm.export.colmap:_fill_database"
    tries = killing_children(monkeypatch, child, signal.SIGKILL, times=2, after_s=after_s)
    matches = verified_pairs(world.scene, [world.matches])
    export_colmap(world.scene, tmp_path, working=world.working, features=world.features, matches=matches)
    assert len(tries) == 3
    assert names_in(tmp_path) == names_in(folder)
    assert dump_of(tmp_path) == dump_of(folder)


def names_in(folder: Path) -> list[str]:
    """Without those that SQLite keeps while somebody reads the database."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(("-shm", "-wal")))


def dump_of(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        return list(database.iterdump())
