"""The scene: COLMAP models in, scene.h5, COLMAP models out; the stage that joins all clusters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm.scene import building, colmap, colmap_model
from sfm.scene.colmap_model import (
    BadModel,
    ColmapCamera,
    ColmapImage,
    ColmapModel,
    ColmapPoints,
    quaternion_of,
)
from sfm.scene.scene import BadScene, Scene, SceneOptions, assemble
from sfm.scene.tables import Pairs
from tests.official import needs, official

ORACLE = official("oracles", "sfm_geometry", "small")
MakeScene = Callable[..., Scene]


def sha(letter: str) -> str:
    """A digest that sorts like its letter, a .. i."""
    return str(ord(letter) - ord("a") + 1) * 64


def small_model(names: list[str], *, first_id: int = 1, points_each: int = 4) -> ColmapModel:
    """Images that all see the same points, with one keypoint that sees none, random poses."""
    rng = np.random.default_rng(len(names))
    ids = np.arange(first_id, first_id + points_each) * 3
    images, cameras = {}, {}
    for number, name in enumerate(names, start=first_id):
        quaternion = rng.normal(size=4)
        seen = np.insert(rng.permutation(ids), 1, colmap_model.NO_POINT)
        images[number] = ColmapImage(
            quaternion, rng.normal(size=3), number, name, rng.random((seen.size, 2)), seen
        )
        cameras[number] = ColmapCamera("OPENCV", 640, 480, rng.uniform(1, 600, 8))
    points = ColmapPoints(
        ids,
        rng.normal(size=(ids.size, 3)),
        rng.integers(0, 255, (ids.size, 3)).astype(np.uint8),
        rng.random(ids.size),
    )
    return ColmapModel(cameras, images, points)


def assert_same_model(left: ColmapModel, right: ColmapModel, atol: float = 0) -> None:
    """Equal by name, whatever the ids."""
    one, other = ({image.name: image for image in model.images.values()} for model in (left, right))
    assert one.keys() == other.keys()
    place = [dict(zip(model.points.id.tolist(), model.points.xyz, strict=True)) for model in (left, right)]
    for name, image in one.items():
        twin = other[name]
        rotation = [each.rotation for each in (image, twin)]
        np.testing.assert_allclose(*rotation, rtol=0, atol=atol or 1e-15)
        np.testing.assert_allclose(image.translation, twin.translation, rtol=0, atol=atol)
        camera, same = left.cameras[image.camera], right.cameras[twin.camera]
        assert (camera.model, camera.width, camera.height) == (same.model, same.width, same.height)
        np.testing.assert_allclose(camera.params, same.params, rtol=0, atol=atol)
        seen, again = (np.flatnonzero(each.point != colmap_model.NO_POINT) for each in (image, twin))
        np.testing.assert_array_equal(seen, again)
        np.testing.assert_allclose(image.xy_px[seen], twin.xy_px[seen], rtol=0, atol=atol)
        left_points = [place[0][point] for point in image.point[seen].tolist()]
        right_points = [place[1][point] for point in twin.point[seen].tolist()]
        np.testing.assert_allclose(left_points, right_points, rtol=0, atol=atol)
    np.testing.assert_array_equal(left.points.rgb, right.points.rgb)
    np.testing.assert_allclose(left.points.error_px, right.points.error_px, rtol=0, atol=atol)


class TestColmapFiles:
    def test_written_and_read_again(self, tmp_path: Path) -> None:
        model = small_model(["with space.jpg", "ünï/b.jpg", "new\nline.jpg"])
        colmap.write_model(tmp_path, model)
        assert_same_model(model, colmap.read_model(tmp_path))

    @needs(ORACLE)
    def test_binary_and_text_agree(self, tmp_path: Path) -> None:
        for name in ("cameras", "images", "points3D"):
            (tmp_path / f"{name}.txt").write_bytes((ORACLE / f"{name}.txt").read_bytes())
        assert_same_model(colmap.read_model(ORACLE), colmap.read_model(tmp_path), atol=1e-9)

    def test_colmap_itself_reads_what_we_write_and_we_what_it_writes(self, tmp_path: Path) -> None:
        """In a child process: importing pycolmap replaces signal handlers."""
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        model = small_model(["a.jpg", "b.jpg", "c.jpg"])
        colmap.write_model(ours, model)
        theirs.mkdir()
        code = (
            "import sys, pycolmap; r = pycolmap.Reconstruction(sys.argv[1]); "
            "assert r.num_reg_images() == 3 and r.num_points3D() == 4, r.summary(); "
            "assert all(len(p.track.elements) == 3 for p in r.points3D.values()); r.write(sys.argv[2])"
        )
        subprocess.run([sys.executable, "-c", code, str(ours), str(theirs)], check=True, timeout=60)
        assert_same_model(model, colmap.read_model(theirs), atol=1e-12)

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 100_000))
    def test_rotations_there_and_back(self, seed: int) -> None:
        quaternion = np.random.default_rng(seed).normal(size=4)
        image = replace(next(iter(small_model(["a.jpg"]).images.values())), quaternion=quaternion)
        again = quaternion_of(image.rotation)
        assert again[0] >= 0
        np.testing.assert_allclose(
            replace(image, quaternion=again).rotation, image.rotation, rtol=0, atol=1e-14
        )

    def test_rotation_by_hand(self) -> None:
        half = np.sqrt(0.5)  # 90 degrees about z: x becomes y
        image = next(iter(small_model(["a.jpg"]).images.values()))
        rotation = replace(image, quaternion=np.array([half, 0, 0, half])).rotation
        np.testing.assert_allclose(rotation @ [1, 0, 0], [0, 1, 0], atol=1e-15)

    def test_a_folder_without_a_model_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(BadModel, match="no COLMAP model"):
            colmap.read_model(tmp_path)

    @pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
    def test_a_truncated_file_is_an_error_that_names_it(self, tmp_path: Path, name: str) -> None:
        colmap.write_model(tmp_path, small_model(["a.jpg", "b.jpg"]))
        path = tmp_path / f"{name}.bin"
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(BadModel, match=f"{name}.bin"):
            colmap.read_model(tmp_path)

    def test_an_observation_of_an_unknown_point_is_an_error(self, tmp_path: Path) -> None:
        model = small_model(["a.jpg", "b.jpg"])
        model.images[1].point[0] = 999
        colmap.write_model(tmp_path, model)
        with pytest.raises(BadModel, match=r"'a\.jpg' sees 3D point 999"):
            colmap.read_model(tmp_path)


class TestRoundTrip:
    @needs(ORACLE)
    def test_colmap_to_h5_to_colmap(self, tmp_path: Path) -> None:
        Scene.from_colmap(ORACLE).to_h5(tmp_path / "scene.h5")
        Scene.from_h5(tmp_path / "scene.h5").to_colmap(tmp_path / "model")
        assert_same_model(colmap.read_model(ORACLE), colmap.read_model(tmp_path / "model"), atol=1e-9)

    def test_keypoints_keep_their_position(self, tmp_path: Path) -> None:
        model = small_model(["a.jpg", "b.jpg", "c.jpg"])
        colmap.write_model(tmp_path / "in", model)
        Scene.from_colmap(tmp_path / "in").to_h5(tmp_path / "scene.h5")
        Scene.from_h5(tmp_path / "scene.h5").to_colmap(tmp_path / "out")
        assert_same_model(model, colmap.read_model(tmp_path / "out"), atol=1e-12)

    def test_h5_keeps_every_array(self, many_places: MakeScene, tmp_path: Path) -> None:
        scene = many_places(places=2, views=3, attempts=[("alone0.jpg", "p00_00.jpg", 3)], rejected=["z.txt"])
        scene.to_h5(tmp_path / "scene.h5")
        back = Scene.from_h5(tmp_path / "scene.h5")
        for path, before in scene.arrays().items():
            after = back.arrays()[path]
            np.testing.assert_array_equal(
                np.asarray(after).astype(np.asarray(before).dtype), before, err_msg=path
            )

    def test_for_selection_leaves_out_pixels(self, many_places: MakeScene, tmp_path: Path) -> None:
        scene = many_places(places=2, views=3)
        scene.to_h5(tmp_path / "scene.h5")
        back = Scene.from_h5(tmp_path / "scene.h5", for_selection=True)
        assert back.visibility.xy_px.shape == (0, 2)
        np.testing.assert_array_equal(back.visibility.point, scene.visibility.point)


class TestFromColmap:
    @pytest.fixture(scope="class")
    def scene(self, tmp_path_factory: pytest.TempPathFactory) -> Scene:
        """Two cameras of focal 100 and (200 + 100) / 2, at the origin and one step back, 3 points ahead."""
        folder = tmp_path_factory.mktemp("model")
        cameras = {
            7: ColmapCamera("SIMPLE_RADIAL", 64, 48, np.array([100.0, 32, 24, 0.01])),
            9: ColmapCamera("PINHOLE", 48, 64, np.array([200.0, 100.0, 24, 32])),
        }
        unit = np.array([1.0, 0, 0, 0])
        images = {
            4: ColmapImage(
                unit, np.zeros(3), 7, "0.jpg", np.arange(6.0).reshape(3, 2), np.array([30, -1, 10])
            ),
            2: ColmapImage(
                unit, np.array([0, 0, 1.0]), 9, f"{sha('e')}.jpg", np.ones((3, 2)), np.array([20, 10, 20])
            ),
        }
        xyz = np.array([[0, 0, 5.0], [0, 0, 7.0], [0, 0, 9.0]])
        points = ColmapPoints(
            np.array([10, 20, 30]), xyz, np.zeros((3, 3), np.uint8), np.array([0.5, 1.0, -1])
        )
        colmap.write_model(folder, ColmapModel(cameras, images, points))
        return Scene.from_colmap(folder)

    def test_photographs_by_name(self, scene: Scene) -> None:
        assert scene.photos.name.tolist() == ["0.jpg", f"{sha('e')}.jpg"]
        assert scene.photos.sha256[1].decode() == sha("e")
        assert scene.photos.working_width.tolist() == [64, 48]
        assert scene.photos.cluster.tolist() == [0, 0] and scene.photos.model.tolist() == [0, 0]

    def test_cameras(self, scene: Scene) -> None:
        assert scene.cameras.focal_px.tolist() == [100.0, 150.0]
        assert scene.cameras.center_in_world.tolist() == [[0, 0, 0], [0, 0, -1]]
        assert scene.cameras.colmap_model.tolist() == ["SIMPLE_RADIAL", "PINHOLE"]
        assert scene.cameras.params_indptr.tolist() == [0, 4, 8]

    def test_observations_by_point_then_keypoint(self, scene: Scene) -> None:
        assert scene.visibility.indptr.tolist() == [0, 2, 5]
        assert scene.visibility.point.tolist() == [0, 2, 0, 1, 1]
        assert scene.visibility.keypoint.tolist() == [2, 0, 1, 0, 2]
        assert scene.visibility.xy_px[:2].tolist() == [[4, 5], [0, 1]]
        assert scene.visibility.depth.tolist() == [5, 9, 6, 8, 8]

    def test_models(self, scene: Scene) -> None:
        assert (scene.models.num_photos.tolist(), scene.models.num_points.tolist()) == ([2], [3])
        # observations of points with a known error: .5, .5, 1, 1
        assert scene.models.mean_reprojection_error_px.tolist() == [0.75]

    def test_a_name_twice_is_an_error(self, tmp_path: Path) -> None:
        colmap.write_model(tmp_path, small_model(["a.jpg", "a.jpg"]))
        with pytest.raises(BadModel, match="twice"):
            Scene.from_colmap(tmp_path)


class TestAssemble:
    CLUSTERS = np.array([1, 1, 1, -1, 0, 0, 0, 0, 2])

    @pytest.fixture
    def catalogue(self) -> dict[str, np.ndarray]:
        """Nine files a .. i; d is rejected."""
        count = 9
        ok = np.array([letter != "d" for letter in "abcdefghi"])
        return {
            "photos/name": np.array([f"{letter}.jpg" for letter in "abcdefghi"], dtype=object),
            "photos/sha256": np.array([sha(letter) for letter in "abcdefghi"]),
            **{
                f"photos/{n}": np.full(count, 640)
                for n in ("width", "height", "working_width", "working_height")
            },
            "photos/orientation": np.ones(count, dtype=np.int64),
            "photos/status": np.where(ok, "ok", "rejected").astype(object),
            "photos/reason": np.where(ok, "", "truncated").astype(object),
            "photos/alias_of": np.full(count, -1),
            "photos/focal_prior_px": np.full(count, np.nan),
        }

    def models(self, root: Path, first_id: int = 1) -> dict[int, list[Path]]:
        """Cluster 1: one model. Cluster 0: a large one with few points, a small one with more, a tiny one."""
        wanted = {
            "k": small_model([f"{sha(n)}.jpg" for n in "abc"], first_id=first_id),
            "z": small_model([f"{sha(n)}.jpg" for n in "efgh"], first_id=first_id, points_each=3),
            "m": small_model([f"{sha(n)}.jpg" for n in "egh"], first_id=first_id, points_each=6),
            "t": small_model([f"{sha(n)}.jpg" for n in "ef"], first_id=first_id),
        }
        for name, model in wanted.items():
            colmap.write_model(root / name, model)
        return {1: [root / "k"], 0: [root / "m", root / "t", root / "z"]}

    def build(
        self, catalogue: dict[str, np.ndarray], model_dirs: dict[int, list[Path]], **more: object
    ) -> Scene:
        pairs = Pairs.sorted([0, 6], [1, 4], [40, 30])
        attempts = Pairs.sorted([0, 6, 8, 0], [1, 4, 0, 1], [40, 30, 3, 12])
        return assemble(catalogue, self.CLUSTERS, model_dirs, pairs=pairs, attempts=attempts, **more)

    def test_models_are_ordered_and_photographs_keep_the_one_with_most_points(
        self, catalogue: dict[str, np.ndarray], tmp_path: Path
    ) -> None:
        scene = self.build(catalogue, self.models(tmp_path))
        assert scene.models.cluster.tolist() == [0, 0, 1]
        assert scene.models.num_photos.tolist() == [4, 3, 3]
        assert scene.models.num_points.tolist() == [3, 6, 4]
        assert scene.photos.model.tolist() == [2, 2, 2, -1, 1, 0, 1, 1, -1]
        assert scene.cameras.photo.tolist() == [4, 5, 6, 7, 4, 6, 7, 0, 1, 2]
        assert scene.cameras.model.tolist() == [0] * 4 + [1] * 3 + [2] * 3
        assert scene.visibility_of_model(1)[0].shape == (3, 6)

    def test_pairs_are_each_once(self, catalogue: dict[str, np.ndarray], tmp_path: Path) -> None:
        scene = self.build(catalogue, self.models(tmp_path))
        assert scene.attempts.first.tolist() == [0, 0, 4]
        assert scene.attempts.second.tolist() == [1, 8, 6]
        assert scene.attempts.inliers.tolist() == [40, 3, 30]

    def test_order_of_folders_and_ids_of_colmap_do_not_matter(
        self, catalogue: dict[str, np.ndarray], tmp_path: Path
    ) -> None:
        one = self.models(tmp_path / "one")
        other = self.models(tmp_path / "other", first_id=5)
        scene = self.build(catalogue, one)
        again = self.build(catalogue, {0: other[0][::-1], 1: other[1]})
        for path, before in scene.arrays().items():
            np.testing.assert_array_equal(again.arrays()[path], before, err_msg=path)

    def test_the_smallest_models_enter_when_asked(
        self, catalogue: dict[str, np.ndarray], tmp_path: Path
    ) -> None:
        scene = self.build(catalogue, self.models(tmp_path), options=SceneOptions(min_model_photos=2))
        assert scene.models.num_photos.tolist() == [4, 3, 2, 3]

    def test_it_can_be_written(self, catalogue: dict[str, np.ndarray], tmp_path: Path) -> None:
        self.build(catalogue, self.models(tmp_path)).to_h5(tmp_path / "scene.h5", inputs=["0" * 64])
        assert Scene.from_h5(tmp_path / "scene.h5").photos.reason[3] == "truncated"

    def test_no_model_at_all_is_a_scene(self, catalogue: dict[str, np.ndarray], tmp_path: Path) -> None:
        scene = self.build(catalogue, {})
        scene.to_h5(tmp_path / "scene.h5")
        assert Scene.from_h5(tmp_path / "scene.h5").models.cluster.size == 0

    def test_an_image_of_another_cluster_is_an_error(
        self, catalogue: dict[str, np.ndarray], tmp_path: Path
    ) -> None:
        models = self.models(tmp_path)
        with pytest.raises(BadScene, match="is of cluster 1, not 2"):
            self.build(catalogue, {2: models[1]})

    def test_a_rejected_photograph_in_a_model_is_an_error(
        self, catalogue: dict[str, np.ndarray], tmp_path: Path
    ) -> None:
        colmap.write_model(tmp_path / "x", small_model([f"{sha(n)}.jpg" for n in "abd"]))
        with pytest.raises(BadScene, match="not an accepted photograph"):
            self.build(catalogue, {1: [tmp_path / "x"]})

    def test_columns_of_another_length_are_an_error(
        self, catalogue: dict[str, np.ndarray], tmp_path: Path
    ) -> None:
        with pytest.raises(BadScene, match="reason has another length"):
            self.build(catalogue | {"photos/reason": np.array(["x"])}, {})


def test_a_model_that_does_not_exist_is_an_error(many_places: MakeScene, tmp_path: Path) -> None:
    with pytest.raises(BadScene, match="model 5 does not exist: the scene has 2"):
        many_places(places=2, views=3).to_colmap(tmp_path, 5)


def test_a_pair_of_a_photograph_with_itself_is_an_error() -> None:
    with pytest.raises(BadScene, match="photograph 3 with itself"):
        Pairs.sorted([1, 3], [2, 3], [5, 5])


def test_model_of_photos_takes_the_first_of_equals(make_scene: MakeScene) -> None:
    scene = make_scene({"one": {"a.jpg": [1, 2], "b.jpg": [1, 2]}})
    built = building.Built(scene.models, scene.cameras, scene.visibility, scene.points)
    assert building.model_of_photos(built, 3).tolist() == [0, 0, -1]
