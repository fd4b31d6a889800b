"""A camera on the working copy's grid sees the same points at the same place of the picture."""

import numpy as np
import pytest

from sfm.scene.colmap_model import ColmapCamera, ColmapImage, quaternion_of
from sfm.scene.image_grid import WrongGrid, on_working_copy

XYZ = np.array([[0.3, -0.2, 4.0], [-1.0, 0.5, 6.0], [0.0, 0.0, 5.0], [0.7, 0.9, 3.0]])
ANGLE = 0.3
ROTATION = np.array(
    [[np.cos(ANGLE), 0, np.sin(ANGLE)], [0, 1, 0], [-np.sin(ANGLE), 0, np.cos(ANGLE)]]
) @ np.array([[1, 0, 0], [0, np.cos(0.1), -np.sin(0.1)], [0, np.sin(0.1), np.cos(0.1)]])


def project(camera: ColmapCamera, image: ColmapImage) -> np.ndarray:
    """A pinhole or radial camera, by hand."""
    seen = XYZ @ image.rotation.T + image.translation
    plane = seen[:, :2] / seen[:, 2:]
    p = camera.params
    if camera.model == "SIMPLE_RADIAL":
        plane = plane * (1 + p[3] * np.sum(plane**2, axis=1, keepdims=True))
        return plane * p[0] + p[1:3]
    return plane * p[:2] + p[2:4]


def view(model: str, *params: float) -> tuple[ColmapCamera, ColmapImage]:
    camera = ColmapCamera(model, 400, 200, np.array(params))
    pose = quaternion_of(ROTATION), np.array([0.1, -0.2, 0.5])
    image = ColmapImage(*pose, 1, "a.jpg", np.zeros((4, 2)), np.arange(4))
    return camera, ColmapImage(*pose, 1, "a.jpg", project(camera, image), np.arange(4))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(
    "params", [("PINHOLE", 300.0, 310.0, 190.0, 105.0), ("SIMPLE_RADIAL", 300.0, 190.0, 105.0, -0.05)]
)
def test_points_fall_where_their_turned_keypoints_are(orientation: int, params: tuple) -> None:
    camera, image = view(*params)
    size = (200, 100) if orientation < 5 else (100, 200)
    moved_camera, moved = on_working_copy(camera, image, orientation, size)
    np.testing.assert_allclose(project(moved_camera, moved), moved.xy_px, atol=1e-9)
    x, y = image.xy_px.T / 2
    wanted = {1: (x, y), 3: (200 - x, 100 - y), 6: (100 - y, x), 8: (y, 200 - x)}[orientation]
    np.testing.assert_allclose(moved.xy_px.T, wanted)
    assert (moved_camera.width, moved_camera.height) == size
    centers = [-_rotation(each).T @ each.translation for each in (image, moved)]
    np.testing.assert_allclose(*centers, atol=1e-12)


def _rotation(image: ColmapImage) -> np.ndarray:
    return image.rotation


def test_a_camera_that_is_upright_already_is_only_scaled() -> None:
    camera, image = view("PINHOLE", 300.0, 310.0, 190.0, 105.0)
    moved_camera, moved = on_working_copy(camera, image, 6, (200, 100))
    np.testing.assert_array_equal(moved_camera.params, [150, 155, 95, 52.5])
    np.testing.assert_array_equal(moved.quaternion, image.quaternion)


@pytest.mark.parametrize(
    ("model", "orientation", "size", "message"),
    [
        ("PINHOLE", 1, (100, 100), "the upright photograph the proportions of 100 x 100"),
        ("PINHOLE", 2, (200, 100), "is mirrored"),
        ("PINHOLE", 5, (100, 200), "is mirrored"),
        ("OPENCV", 6, (100, 200), "cannot be turned upright"),
    ],
)
def test_what_cannot_be_is_named(model: str, orientation: int, size: tuple[int, int], message: str) -> None:
    _, image = view("PINHOLE", 300.0, 310.0, 190.0, 105.0)
    extra = [0.1] * 4 if model == "OPENCV" else []
    camera = ColmapCamera(model, 400, 200, np.array([300.0, 310.0, 190.0, 105.0, *extra]))
    with pytest.raises(WrongGrid, match=rf"'a\.jpg'.*{message}"):
        on_working_copy(camera, image, orientation, size)
