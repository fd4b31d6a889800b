"""Somebody's COLMAP models as a scene: cameras, pairs, clusters, and photographs found by name."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from sfm.export.colmap import export_colmap
from sfm.export.names import verified_pairs
from sfm.scene.colmap_model import BadModel
from sfm.scene.database_pairs import BadDatabase, read_pairs
from sfm.scene.importing import ImportOptions, UnknownImages, finder, import_models, photographs_of
from sfm.scene.scene import Scene
from storage.hdf5 import file as hdf5
from storage.hdf5.open import validate
from tests.sfm.exported_scenes import HOUSE, TOWER, World, catalogue_of, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def models(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COLMAP project under the photographs' names, with a database."""
    out = tmp_path_factory.mktemp("colmap")
    matches = verified_pairs(world.scene, [world.matches])
    export_colmap(
        world.scene, out, working=world.working, features=world.features, matches=matches, images="none"
    )
    return out


def write_catalogue(path: Path, world: World, **changes: np.ndarray) -> Path:
    names = {sha: name + (".jpg" if name.endswith("png") else "") for sha, name in world.name_of.items()}
    columns = catalogue_of(names) | changes
    arrays = {f"photos/{key}": column for key, column in columns.items()}
    hdf5.write(path, "catalogue", arrays, stage="catalogue", options={}, inputs=[])
    return path


def imported(folder: Path, catalogue: Path, **options: int) -> Scene:
    out = catalogue.with_name("imported.h5")
    import_models(catalogue, ImportOptions(folder=folder, **options), out)
    assert validate(out) == []
    return Scene.from_h5(out)


def test_an_exported_scene_comes_back(world: World, models: Path, tmp_path: Path) -> None:
    scene = imported(models, write_catalogue(tmp_path / "c.h5", world))
    old, new = world.scene, scene
    np.testing.assert_array_equal(new.photos.sha256[new.cameras.photo], old.photos.sha256[old.cameras.photo])
    np.testing.assert_allclose(new.cameras.cam_from_world, old.cameras.cam_from_world, atol=1e-12)
    np.testing.assert_array_equal(new.cameras.params_value, old.cameras.params_value)
    np.testing.assert_array_equal(new.points.xyz, old.points.xyz)
    for name in ("indptr", "point", "xy_px", "keypoint"):
        np.testing.assert_array_equal(getattr(new.visibility, name), getattr(old.visibility, name))
    np.testing.assert_array_equal(new.photos.cluster, old.photos.cluster)
    np.testing.assert_array_equal(
        new.pairs.inliers, world.scene.pairs.inliers[world.scene.pairs.inliers > 14]
    )
    assert new.pairs.first.size == 7


def test_the_grid_is_that_of_the_working_copies(world: World, models: Path, tmp_path: Path) -> None:
    half = {"working_width": np.full(6, 320), "working_height": np.full(6, 240)}
    scene = imported(models, write_catalogue(tmp_path / "c.h5", world, **half))
    np.testing.assert_allclose(scene.cameras.focal_px, world.scene.cameras.focal_px / 2)
    np.testing.assert_allclose(scene.visibility.xy_px, world.scene.visibility.xy_px / 2)


def test_without_a_database_shared_points_make_pairs(world: World, models: Path, tmp_path: Path) -> None:
    catalogue = write_catalogue(tmp_path / "c.h5", world)
    scene = imported(models / "sparse", catalogue, min_inliers=20)
    rows = {int(photo): row for row, photo in enumerate(scene.cameras.photo)}
    bounds, points = scene.visibility.indptr, scene.visibility.point
    seen = {photo: set(points[bounds[row] : bounds[row + 1]].tolist()) for photo, row in rows.items()}
    table = zip(scene.attempts.first, scene.attempts.second, scene.attempts.inliers, strict=True)
    assert {(a, b): n for a, b, n in table} == {
        (a, b): len(seen[a] & seen[b]) for a in rows for b in rows if a < b and seen[a] & seen[b]
    }
    tower = [photo for photo, sha in enumerate(scene.photos.sha256) if sha.decode() in TOWER.shas]
    assert len({int(scene.photos.cluster[photo]) for photo in tower}) == 2  # nothing says that they are one
    assert len(set(scene.photos.cluster[scene.cameras.photo].tolist())) == 1
    far = imported(models / "sparse", catalogue, min_inliers=10_000)
    assert far.pairs.first.size == 0
    assert len(set(far.photos.cluster[far.cameras.photo].tolist())) == 1  # one model is one cluster


def test_models_that_share_photographs_are_one_cluster(world: World, models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "sparse" / "0", tmp_path / "m" / "0")
    shutil.copytree(models / "sparse" / "0", tmp_path / "m" / "1")
    scene = imported(tmp_path / "m", write_catalogue(tmp_path / "c.h5", world))
    assert scene.models.cluster.size == 2 and len(set(scene.models.cluster.tolist())) == 1
    assert len(set(scene.photos.sha256[scene.cameras.photo].tolist())) == 4 == scene.cameras.photo.size // 2


def test_two_images_of_one_photograph_count_once(world: World, models: Path, tmp_path: Path) -> None:
    shas = {sha: number for number, sha in enumerate(catalogue_of(world.name_of)["sha256"].tolist())}
    first, second = (shas[sha.encode()] for sha in HOUSE.shas[:2])
    status, alias = np.array(["ok"] * 6, dtype=object), np.full(6, -1)
    status[second], alias[second] = "duplicate", first
    catalogue = write_catalogue(tmp_path / "c.h5", world, status=status, alias_of=alias)
    scene = imported(models, catalogue)
    assert scene.cameras.photo.size == 3 and second not in scene.cameras.photo
    assert scene.photos.cluster[second] == -1


def test_missing_and_unusable_photographs_are_named(world: World, models: Path, tmp_path: Path) -> None:
    status = np.array(["ok", "rejected", *["ok"] * 4], dtype=object)
    catalogue = write_catalogue(tmp_path / "c.h5", world, status=status)
    with pytest.raises(
        UnknownImages, match=r"1 of 4 images .* no usable photographs of the folder: 'a b\.jpg'"
    ):
        imported(models, catalogue)


def test_small_or_absent_models_are_refused(world: World, models: Path, tmp_path: Path) -> None:
    catalogue = write_catalogue(tmp_path / "c.h5", world)
    with pytest.raises(BadModel, match="1 models, none of 5 photographs or more"):
        imported(models, catalogue, min_model_photos=5)
    (tmp_path / "none").mkdir()
    with pytest.raises(BadModel, match="no COLMAP model in it"):
        imported(tmp_path / "none", catalogue)


def test_a_lone_cameras_file_is_no_model(world: World, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "cameras.txt").write_text("")
    with pytest.raises(BadModel, match="no COLMAP model"):
        imported(tmp_path / "m", write_catalogue(tmp_path / "c.h5", world))


def catalogue_names(*names: str) -> dict[str, np.ndarray]:
    return catalogue_of({f"{number:064d}": name for number, name in enumerate(names)})


def test_names_are_found_from_another_root() -> None:
    photos = catalogue_names("a/1.jpg", "b/1.jpg", "b/2.jpg", "c/3.jpg")
    found = photographs_of(["a/1.jpg", "images/b/1.jpg", "2.jpg"], photos)
    assert {name: str(photos["name"][photo]) for name, photo in found.items()} == {
        "a/1.jpg": "a/1.jpg", "images/b/1.jpg": "b/1.jpg", "2.jpg": "b/2.jpg",
    }  # fmt: skip
    find = finder(photos)
    assert find("1.jpg") is None  # there are two
    assert find("d/3.jpg") is None  # another folder's
    assert find("xc/3.jpg") is None


def test_a_database_is_read_and_left_alone(models: Path, tmp_path: Path) -> None:
    shutil.copyfile(models / "database.db", tmp_path / "database.db")
    with closing(sqlite3.connect(tmp_path / "database.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")  # as COLMAP leaves it
    before = (tmp_path / "database.db").read_bytes()
    pairs = read_pairs(tmp_path / "database.db")
    assert len(pairs) == 7 and min(pairs.values()) >= 15
    assert all(first < second for first, second in pairs)
    assert [path.name for path in tmp_path.iterdir()] == ["database.db"]
    assert (tmp_path / "database.db").read_bytes() == before


def test_a_database_with_changes_beside_it_is_refused(models: Path, tmp_path: Path) -> None:
    shutil.copyfile(models / "database.db", tmp_path / "database.db")
    (tmp_path / "database.db-wal").write_bytes(b"changes")
    with pytest.raises(BadDatabase, match=r"database\.db-wal holds changes"):
        read_pairs(tmp_path / "database.db")


def test_pairs_that_did_not_verify_count_as_tried(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "d.db")) as database, database:
        database.execute("CREATE TABLE images (image_id, name)")
        database.execute("CREATE TABLE matches (pair_id)")
        database.execute("CREATE TABLE two_view_geometries (pair_id, rows, config)")
        database.executemany("INSERT INTO images VALUES (?, ?)", [(1, "b"), (2, "a"), (3, "c")])
        pairs = [2147483647 * 1 + 2, 2147483647 * 1 + 3, 2147483647 * 2 + 3]
        database.executemany("INSERT INTO matches VALUES (?)", [(pair,) for pair in pairs])
        rows = [(pairs[0], 40, 2), (pairs[1], 30, 8)]  # calibrated; a watermark
        database.executemany("INSERT INTO two_view_geometries VALUES (?, ?, ?)", rows)
    assert read_pairs(tmp_path / "d.db") == {("a", "b"): 40, ("b", "c"): 0, ("a", "c"): 0}


def test_what_is_no_database_is_named(world: World, models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "sparse", tmp_path / "m" / "sparse")
    (tmp_path / "m" / "database.db").write_text("nothing of the kind" * 100)
    with pytest.raises(BadDatabase, match=r"database\.db: no COLMAP database"):
        imported(tmp_path / "m", write_catalogue(tmp_path / "c.h5", world))
