"""Somebody's camera on the pixel grid of a working copy: scaled, and turned upright as EXIF says.

COLMAP ignores the EXIF orientation, working copies are upright. Turning a picture by a quarter turns the
camera about its optical axis and leaves the 3D points where they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sfm.scene.colmap_model import CAMERA_MODELS, ColmapCamera, ColmapImage, quaternion_of

_QUARTERS = {1: 0, 6: 1, 3: 2, 8: 3}  # clockwise turns that make a picture with this orientation upright
_TOLERANCE = 0.02  # of the aspect ratio; whole pixels of small copies
_TANGENTIAL = frozenset({"OPENCV", "FULL_OPENCV", "THIN_PRISM_FISHEYE", "RAD_TAN_THIN_PRISM_FISHEYE"})


class WrongGrid(ValueError):
    """A camera that cannot belong to the photograph, or cannot be turned upright."""


def on_working_copy(
    camera: ColmapCamera, image: ColmapImage, orientation: int, size: tuple[int, int]
) -> tuple[ColmapCamera, ColmapImage]:
    """Camera and image in pixels of the working copy.

    orientation: the file's EXIF orientation, size: (width, height) of the upright working copy. A camera with
    the upright aspect ratio counts as upright already, unless the ratio cannot tell. Raises WrongGrid.
    """
    turns = _turns(camera, orientation, size, image.name)
    if turns:
        if camera.model in _TANGENTIAL and np.any(camera.params[_extra(camera) :]):
            raise WrongGrid(
                f"image {image.name!r} has EXIF orientation {orientation} and a {camera.model} camera, which "
                "cannot be turned upright; undistort the images or turn them upright before COLMAP"
            )
        for _ in range(turns):
            camera, image = _turned(camera, image)
    scale = np.array([size[0] / camera.width, size[1] / camera.height])
    return _scaled(camera, scale, size), replace(image, xy_px=image.xy_px * scale)


def _turns(camera: ColmapCamera, orientation: int, size: tuple[int, int], name: str) -> int:
    ratio, upright = camera.width / camera.height, size[0] / size[1]
    stored = 1 / upright if orientation >= 5 else upright
    if abs(ratio / stored - 1) <= _TOLERANCE:
        if orientation not in _QUARTERS:
            raise WrongGrid(
                f"image {name!r} is mirrored (EXIF orientation {orientation}); save it upright before COLMAP"
            )
        return _QUARTERS[orientation]
    if abs(ratio / upright - 1) <= _TOLERANCE:
        return 0
    raise WrongGrid(
        f"image {name!r}: its camera has {camera.width} x {camera.height} px, the upright photograph the "
        f"proportions of {size[0]} x {size[1]}; give the photographs that the model was made of"
    )


def _extra(camera: ColmapCamera) -> int:
    """Where the parameters after focal lengths and principal point begin."""
    return CAMERA_MODELS[camera.model][2] + 2


def _turned(camera: ColmapCamera, image: ColmapImage) -> tuple[ColmapCamera, ColmapImage]:
    """A quarter turn clockwise: (x, y) of [w, h] becomes (h - y, x) of [h, w]."""
    focal, extra = _extra(camera) - 2, _extra(camera)
    center = camera.params[focal:extra]
    params = np.concatenate(
        [camera.params[:focal][::-1], [camera.height - center[1], center[0]], camera.params[extra:]]
    )
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    rotation = quarter @ image.rotation
    xy: NDArray[np.float64] = np.stack([camera.height - image.xy_px[:, 1], image.xy_px[:, 0]], axis=1)
    turned = replace(
        image,
        quaternion=quaternion_of(rotation),
        translation=quarter @ image.translation,
        xy_px=xy,
    )
    return replace(camera, width=camera.height, height=camera.width, params=params), turned


def _scaled(camera: ColmapCamera, scale: NDArray[np.float64], size: tuple[int, int]) -> ColmapCamera:
    focal, extra = _extra(camera) - 2, _extra(camera)
    params = camera.params.copy()
    params[:focal] *= scale if focal == 2 else scale.mean()
    params[focal:extra] *= scale
    return replace(camera, width=size[0], height=size[1], params=params)
