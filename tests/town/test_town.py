"""The rendered town: renderer against hand-computed pictures, truth against pixels, SfM against truth."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.town.alignment import similarity
from town.details import foliage, person
from town.geometry import BACK, DOWN, RIGHT, Building, Quad
from town.photography import look_at, sample_points
from town.render import Camera, Light, rasterise, shade
from town.textures import Texture, smooth_noise, texture, wall
from town.town import Town, TownFolderNotEmpty, TownOptions, contact_sheet, render_town

SMALL = TownOptions(
    buildings=2, min_views=3, max_views=3, distractors=2, image_width=160, image_height=120, texels_per_m=20
)
FLAT = Light(1.0, np.array([0.0, 0.0, 1.0]), None, 0.0, (1, 1, 1), ((0, 0, 0), (0, 0, 0)))
AHEAD = np.hstack([np.eye(3), np.zeros((3, 1))])


def plain(colour: tuple[float, float, float], holes: NDArray[np.bool_] | None = None) -> Texture:
    return texture(np.full((8, 8, 3), colour), None if holes is None else ~holes)


def facing(depth: float, half: float, sheet: Texture, **kinds: bool) -> Quad:
    """A square of half size `half` before the camera AHEAD, at a depth."""
    corner = np.array([-half, -half, depth])
    return Quad(corner, np.array([2 * half, 0, 0]), np.array([0, 2 * half, 0]), sheet, **kinds)


def render(quads: list[Quad], camera: Camera, supersample: int = 1) -> NDArray[np.float32]:
    buffers, projected = rasterise(quads, camera, supersample)
    sky = np.zeros((camera.height, camera.width, 3), dtype=np.float32)
    return shade(quads, projected, buffers, FLAT, sky, supersample)


def test_a_square_covers_the_pixels_that_projection_says() -> None:
    # half 1 m at 4 m with focal 8 px: 2 px to each side of the middle of 8 x 6 pixels
    picture = render([facing(4.0, 1.0, plain((1, 0, 0)))], Camera(AHEAD, 8.0, 8, 6))
    expected = np.zeros((6, 8), dtype=np.float32)
    expected[1:5, 2:6] = 1.0
    np.testing.assert_allclose(picture[..., 0], expected, atol=1e-6)
    np.testing.assert_allclose(picture[..., 1:], 0, atol=1e-6)


def test_supersampling_gives_a_border_its_share() -> None:
    # half 0.75 m: 1.5 px, the border pixels are half covered, the corner ones a quarter
    picture = render([facing(4.0, 0.75, plain((1, 1, 1)))], Camera(AHEAD, 8.0, 8, 6), supersample=2)
    np.testing.assert_allclose(picture[1, 2:6, 0], [0.25, 0.5, 0.5, 0.25], atol=1e-6)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_square_hides_the_farther_in_any_order(order: tuple[int, int]) -> None:
    quads = [facing(4.0, 4.0, plain((1, 0, 0))), facing(3.0, 1.0, plain((0, 1, 0)))]
    picture = render([quads[k] for k in order], Camera(AHEAD, 8.0, 8, 6))
    np.testing.assert_allclose(picture[3, 4], [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(picture[0, 0], [1, 0, 0], atol=1e-6)


def test_a_hole_shows_what_is_behind() -> None:
    holes = np.zeros((8, 8), dtype=bool)
    holes[:, :4] = True
    quads = [facing(3.0, 1.5, plain((0, 1, 0), holes)), facing(4.0, 4.0, plain((1, 0, 0)))]
    picture = render(quads, Camera(AHEAD, 8.0, 8, 6))
    np.testing.assert_allclose(picture[2, 3], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(picture[2, 4], [0, 1, 0], atol=1e-6)


def test_a_square_seen_from_behind_shows_only_when_it_has_two_sides() -> None:
    behind = np.hstack([np.diag([-1.0, 1.0, -1.0]), [[0.0], [0.0], [8.0]]])  # at z = 8, looking back at z = 4
    camera = Camera(behind, 8.0, 8, 6)
    assert render([facing(4.0, 1.0, plain((1, 1, 1)))], camera).max() == 0
    assert render([facing(4.0, 1.0, plain((1, 1, 1)), both_sides=True)], camera).max() > 0.9


def test_what_is_behind_the_camera_or_edge_on_is_not_drawn() -> None:
    camera = Camera(AHEAD, 8.0, 8, 6)
    edge_on = Quad(
        np.array([0.0, -1, 2]), np.array([0, 0, 4.0]), np.array([0, 2.0, 0]), plain((1, 1, 1)), True
    )
    assert render([facing(-4.0, 1.0, plain((1, 1, 1)), both_sides=True), edge_on], camera).max() == 0


def test_textures_are_perspective_correct() -> None:
    """Red encodes s and green t; every pixel must show the s and t where its ray meets the tilted plane."""
    ramp = np.zeros((256, 256, 3))
    ramp[..., 0], ramp[..., 1] = np.arange(256)[None, :] / 255, np.arange(256)[:, None] / 255
    corner, across, down = np.array([-3.0, -2, 5]), np.array([6.0, 0, 6]), np.array([0.0, 4, 1])
    quad = Quad(corner, across, down, texture(ramp), both_sides=True)
    camera = Camera(AHEAD, 90.0, 160, 120)
    picture = render([quad], camera)
    x, y = np.meshgrid(np.arange(160) + 0.5, np.arange(120) + 0.5)
    rays = np.stack([(x - 80) / 90, (y - 60) / 90, np.ones_like(x)], axis=-1)
    normal = np.cross(across, down)
    points = rays * (corner @ normal / (rays @ normal))[..., None]
    st = np.linalg.lstsq(np.column_stack([across, down]), (points - corner).reshape(-1, 3).T, rcond=None)[0]
    s, t = st.reshape(2, 120, 160)
    inside = (s > 0.02) & (s < 0.98) & (t > 0.02) & (t < 0.98)
    assert inside.sum() > 2000
    error = picture[inside][:, :2] - np.column_stack([s[inside], t[inside]])
    assert np.abs(error).max() < 0.02  # half a texel of the coarsest level that is used
    assert np.abs(error.mean(axis=0)).max() < 0.002


def test_light_adds_ambient_and_sun_and_stops_at_the_shadow() -> None:
    quad = Quad(np.array([-4.0, 2, 4]), RIGHT * 8, DOWN * 8, plain((1, 1, 1)))
    camera = Camera(look_at(np.zeros(3), np.array([0.0, 2, 0]), 0.0), 8.0, 8, 8)
    sun = np.array([0.0, -1, 0])
    half_space = (0.0, -1.0, 0.0)  # -z > 0: the lower half lies in the shade
    light = Light(0.4, sun, half_space, 0.0, (1, 1, 1), ((0, 0, 0), (0, 0, 0)))
    buffers, projected = rasterise([quad], camera, 1)
    picture = shade([quad], projected, buffers, light, np.zeros((8, 8, 3), dtype=np.float32), 1)
    np.testing.assert_allclose(picture[0], 1.0, atol=1e-5)
    np.testing.assert_allclose(picture[-1], 0.4, atol=1e-5)


@pytest.mark.parametrize("roll", [0.0, 0.3, -1.0])
def test_look_at_is_a_rotation_that_sees_the_target_ahead(roll: float) -> None:
    center, target = np.array([1.0, -8, 2]), np.array([0.5, 0, 4])
    pose = look_at(center, target, roll)
    np.testing.assert_allclose(pose[:, :3] @ pose[:, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:, :3]) == pytest.approx(1.0)
    np.testing.assert_allclose(pose @ [*target, 1], [0, 0, np.linalg.norm(target - center)], atol=1e-12)
    np.testing.assert_allclose(Camera(pose, 100.0, 4, 4).center_in_world, center, atol=1e-12)
    above = pose @ [0.5, 0, 4.1, 1]
    assert np.arctan2(-above[0], -above[1]) == pytest.approx(roll, abs=0.02)


def test_a_box_has_five_faces_that_look_outwards() -> None:
    building = Building(1, 1, 1, (0.5, 0.5, 0.5))
    sheet = texture(np.random.default_rng(0).uniform(size=(40, 20, 3)))
    building.add_box((0.0, 0.0, 0.0), (2.0, 1.0, 3.0), sheet)
    middle = np.array([1.0, 0.5, 1.5])
    normals = [quad.normal for quad in building.quads]
    for quad in building.quads:
        assert quad.normal @ (quad.corner + (quad.across + quad.down) / 2 - middle) > 0
    expected = [-BACK, -DOWN, DOWN, -RIGHT, RIGHT]
    np.testing.assert_allclose(normals, expected, atol=1e-12)
    assert sum(quad.texture.image.shape[0] for quad in building.quads) == 40


def test_points_are_drawn_by_area_and_never_in_holes() -> None:
    holes = np.zeros((8, 8), dtype=bool)
    holes[:, 4:] = True
    large, small = facing(1.0, 1.0, plain((1, 1, 1), holes)), facing(2.0, 0.5, plain((1, 1, 1)))
    unseen = facing(3.0, 9.0, plain((1, 1, 1)), sampled=False)
    points, owner = sample_points(np.random.default_rng(1), [large, small, unseen], 3000)
    assert set(owner) == {0, 1}
    assert (owner == 0).mean() == pytest.approx(2 / 3, abs=0.03)  # 4 m2 half open against 1 m2
    assert points[owner == 0][:, 0].max() <= 0
    np.testing.assert_allclose(points[owner == 1][:, 2], 2.0)


def test_noise_has_the_spread_and_the_cells_it_is_asked_for() -> None:
    noise = smooth_noise(np.random.default_rng(2), (256, 256), (8, 8))
    assert noise.shape == (256, 256)
    assert 0.5 < noise.std() < 1.1
    assert np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1] > 0.9
    assert abs(np.corrcoef(noise[:, :-24].ravel(), noise[:, 24:].ravel())[0, 1]) < 0.15


@pytest.mark.parametrize("kind", ["brick", "ashlar", "plaster", "timber", "panels"])
def test_two_walls_of_one_kind_share_their_look_but_not_their_texture(kind: str) -> None:
    first, second = (wall(np.random.default_rng(k), kind, (0.6, 0.5, 0.4), (4, 3), 24) for k in (0, 1))  # type: ignore[arg-type]
    assert first.shape == (72, 96, 3)
    np.testing.assert_allclose(first.mean((0, 1)), second.mean((0, 1)), atol=0.15)
    assert abs(np.corrcoef(first[..., 0].ravel(), second[..., 0].ravel())[0, 1]) < 0.6
    assert first[..., 0].std() > 0.03


def test_figures_have_an_outline() -> None:
    rng = np.random.default_rng(3)
    for figure in (person(rng, 40), foliage(rng, (2, 2), 40, trunk=True)):
        assert 0.1 < figure.opaque.mean() < 0.9
        assert figure.has_holes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("town") / "photographs"


@pytest.fixture(scope="module")
def town(folder: Path) -> Town:
    return render_town(folder, SMALL)


def test_the_folder_holds_the_photographs_and_nothing_else(town: Town, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == list(town.names)
    assert len(set(town.names)) == 8
    assert sorted(town.building) == [-1, -1, 0, 0, 0, 1, 1, 1]
    for name, size in zip(town.names, town.image_size, strict=True):
        with Image.open(folder / name) as photograph:
            assert photograph.size == tuple(size)
            assert photograph.format == "JPEG"
            assert np.asarray(photograph).std() > 15


def test_names_tell_neither_order_nor_building() -> None:
    from town.town import _plan

    plan = _plan(TownOptions())
    rank = {name: k for k, name in enumerate(sorted(name for names in plan for name in names))}
    owner = np.repeat(np.arange(len(plan)), [len(names) for names in plan])
    ranks = np.array([rank[name] for names in plan for name in names])
    assert abs(np.corrcoef(owner, ranks)[0, 1]) < 0.25
    assert [len(names) for names in plan[12:]] == [1] * 20
    assert all(10 <= len(names) <= 14 for names in plan[:12])


def test_the_same_options_give_the_same_bytes(town: Town, folder: Path, tmp_path: Path) -> None:
    again = render_town(tmp_path / "again", SMALL)
    assert again.names == town.names
    for name in town.names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    np.testing.assert_array_equal(again.depths.toarray(), town.depths.toarray())


def test_another_seed_shares_neither_names_nor_points(town: Town, tmp_path: Path) -> None:
    other = render_town(tmp_path / "other", SMALL.model_copy(update={"seed": 1, "buildings": 1}))
    assert not set(other.names) & set(town.names)
    assert not np.isin(other.points[:, 0], town.points[:, 0]).any()


def test_more_distractors_leave_the_buildings_as_they_are(town: Town, folder: Path, tmp_path: Path) -> None:
    render_town(tmp_path / "more", SMALL.model_copy(update={"distractors": 3}))
    before = {(folder / name).read_bytes() for name in town.names}
    after = {path.read_bytes() for path in (tmp_path / "more").iterdir()}
    assert len(before & after) >= 6


def test_a_camera_sees_points_of_its_own_building_inside_its_picture(town: Town) -> None:
    for row in range(len(town.names)):
        seen = town.visible_points[[row]].indices
        if town.building[row] < 0:
            assert len(seen) == 0
            continue
        assert len(seen) > 50
        assert (town.point_building[seen] == town.building[row]).all()
        camera = town.points[seen] @ town.cam_from_world[row, :, :3].T + town.cam_from_world[row, :, 3]
        np.testing.assert_allclose(camera[:, 2], town.depths[[row]].data)
        xy = camera[:, :2] / camera[:, 2:] * town.focal_px[row] + town.image_size[row] / 2
        assert (xy >= 0).all() and (xy < town.image_size[row]).all()


def test_visible_points_show_the_same_texture_in_two_photographs(town: Town, folder: Path) -> None:
    """Pixels at the projections of shared points agree between views; of shuffled points they do not."""
    rng, true, shuffled = np.random.default_rng(0), [], []
    for building in range(2):
        rows = town.views_of(building)
        for first, second in pairwise(rows):
            shared = np.flatnonzero(
                town.visible_points[[first]].toarray()[0] & town.visible_points[[second]].toarray()[0]
            )
            grey = [_grey_at(town, folder, row, shared) for row in (first, second)]
            true.append(np.corrcoef(*grey)[0, 1])
            shuffled.append(np.corrcoef(grey[0], rng.permutation(grey[1]))[0, 1])
    assert np.mean(true) > 0.5
    assert np.mean(np.abs(shuffled)) < 0.2


def _grey_at(town: Town, folder: Path, row: int, points: NDArray[np.int64]) -> NDArray[np.float64]:
    camera = town.points[points] @ town.cam_from_world[row, :, :3].T + town.cam_from_world[row, :, 3]
    column, line = (
        (camera[:, :2] / camera[:, 2:] * town.focal_px[row] + town.image_size[row] / 2).astype(int).T
    )
    with Image.open(folder / town.names[row]) as photograph:
        return np.asarray(photograph.convert("L"), dtype=float)[line, column]


def test_the_truth_survives_a_file(town: Town, tmp_path: Path) -> None:
    town.save(tmp_path / "truth.h5")
    loaded = Town.load(tmp_path / "truth.h5")
    assert loaded.names == town.names
    for name in ("building", "image_size", "focal_px", "cam_from_world", "points", "point_building"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(town, name))
    np.testing.assert_array_equal(loaded.depths.toarray(), town.depths.toarray())
    np.testing.assert_array_equal(loaded.visible_points.toarray(), town.depths.toarray() > 0)
    assert loaded.extent(0) == pytest.approx(town.extent(0))


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_bytes(b"")
    with pytest.raises(TownFolderNotEmpty, match="already holds files"):
        render_town(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jpg"]


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_views 4 is below min_views 10"):
        render_town(tmp_path / "new", TownOptions(max_views=4))
    with pytest.raises(ValueError, match="view"):
        TownOptions(view=3)  # type: ignore[call-arg]


def test_a_town_of_distractors_only_is_refused() -> None:
    with pytest.raises(ValueError, match="buildings"):
        TownOptions(buildings=0)


def test_progress_counts_every_photograph(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    options = SMALL.model_copy(update={"buildings": 1, "distractors": 1})
    render_town(tmp_path / "one", options, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_contact_sheet_has_a_cell_per_photograph(town: Town, folder: Path) -> None:
    sheet = contact_sheet([folder / name for name in town.names], columns=3, thumbnail_px=50)
    assert sheet.size == (150, 150)
    cells = np.asarray(sheet.convert("L"))
    assert (cells[110:140, 110:140] == 250).all()  # eight photographs leave the ninth cell empty
    assert cells[110:140, 60:90].std() > 5


@pytest.mark.slow
def test_structure_from_motion_recovers_a_building(tmp_path: Path) -> None:
    """Every view in one model, centres within 1 % of the extent, rotations within 0.5 degrees."""
    pycolmap = pytest.importorskip("pycolmap")
    folder = tmp_path / "photographs"
    town = render_town(folder, TownOptions(buildings=1, min_views=10, max_views=10, distractors=1))
    names = [town.names[row] for row in town.views_of(0)]
    model = _reconstruct(pycolmap, folder, list(town.names), tmp_path)
    registered = {image.name: image for image in model.images.values() if image.has_pose}
    assert set(registered) == set(names)
    rows = [town.names.index(name) for name in names]
    centers = np.array([registered[name].projection_center() for name in names])
    scale, rotation, shift = similarity(centers, town.center_in_world[rows])
    errors = np.linalg.norm(scale * centers @ rotation.T + shift - town.center_in_world[rows], axis=1)
    assert np.median(errors) < 0.01 * town.extent(0)
    for name, row in zip(names, rows, strict=True):
        cam_from_world = registered[name].cam_from_world().rotation.matrix() @ rotation.T
        turn = np.trace(cam_from_world @ town.cam_from_world[row, :, :3].T)
        assert np.degrees(np.arccos(np.clip((turn - 1) / 2, -1, 1))) < 0.8


def _reconstruct(pycolmap, folder: Path, names: list[str], work: Path):  # type: ignore[no-untyped-def]
    """The only model of the photographs, exhaustively matched and incrementally mapped with fixed seeds."""
    database = work / "database.db"
    pycolmap.Database.open(database).close()
    pycolmap.import_images(database, folder, pycolmap.CameraMode.PER_IMAGE, image_names=sorted(names))
    extraction = pycolmap.FeatureExtractionOptions(num_threads=1, use_gpu=False)
    pycolmap.extract_features(
        database, folder, image_names=sorted(names), camera_mode=pycolmap.CameraMode.PER_IMAGE,
        extraction_options=extraction,
    )  # fmt: skip
    matching = pycolmap.FeatureMatchingOptions(num_threads=1, use_gpu=False)
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = 0
    pycolmap.match_exhaustive(database, matching_options=matching, verification_options=verification)
    options = pycolmap.IncrementalPipelineOptions(num_threads=1, random_seed=0, min_model_size=3)
    options.mapper.random_seed = options.triangulation.random_seed = 0
    options.mapper.init_min_tri_angle, options.mapper.init_min_num_inliers = 4, 50
    options.mapper.abs_pose_min_num_inliers = 15
    models = pycolmap.incremental_mapping(database, folder, work, options)
    assert len(models) == 1
    return models[0]
