"""What the EXIF block of a photograph says about its orientation, its focal length and its position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image

from storage.pictures.coordinates import has_fix

_ORIENTATION = 0x0112
_EXIF_BLOCK = 0x8769
_TAKEN, _TAKEN_PART = 0x9003, 0x9291
_FOCAL_MM = 0x920A
_FOCAL_35MM = 0xA405
_PLANE_X_RESOLUTION = 0xA20E
_PLANE_RESOLUTION_UNIT = 0xA210
_PIXELS_WIDE = 0xA002
_PIXELS_HIGH = 0xA003
_GPS_BLOCK = 0x8825
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4
_ALTITUDE_REF, _ALTITUDE, _GPS_STATUS = 5, 6, 9
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
_FULL_FRAME_DIAGONAL_MM = math.hypot(36.0, 24.0)
_PLAUSIBLE_FOCAL = (0.2, 20.0)  # focal length / longer side: fisheye to long telephoto

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Facts:
    """Orientation 1..8, focal length in px of the stored picture (nan = unknown), see `position`."""

    orientation: int
    focal_px: float
    position: tuple[float, float, float] | None


def read(image: Image.Image, width: int, height: int) -> Facts:
    """What the EXIF block of an opened image says; width, height: px as stored. Nothing of it is written."""
    return Facts(orientation(image), focal_prior_px(image, width, height), position(image))


def keep_orientation_alone(image: Image.Image) -> None:
    """Let an opened image forget all else, which Pillow would follow, and fail on, while it turns a TIFF."""
    block = image.getexif()
    for tag in [tag for tag in block if tag != _ORIENTATION]:
        del block[tag]


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8 of an opened image; 1 where the block is missing, broken or says nonsense."""
    try:
        value = _number(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block is no reason to lose the photograph
        return 1
    return int(value) if value in UPRIGHT else 1


def taken(image: Image.Image) -> tuple[str, str]:
    """When an opened image says that it was taken, and parts of that second; "" = unknown."""
    block = _block(image, _EXIF_BLOCK)
    day, part = (str(block.get(tag, "")).strip("\0 ") for tag in (_TAKEN, _TAKEN_PART))
    return ("", "") if not day.strip(":0 ") else (day, part)


def focal_prior_px(image: Image.Image, width: int, height: int) -> float:
    """Focal length in pixels of the stored image, nan where the EXIF block gives none that is plausible.

    width, height: pixels as stored. Either the 35 mm equivalent (by the diagonal, CIPA DCG-001) or the focal
    length with the resolution of the sensor plane, which counts the camera's own pixels, so a later resize
    is taken out by them.
    """
    block = _block(image, _EXIF_BLOCK)
    focal = _from_equivalent(block, width, height)
    if math.isnan(focal):
        focal = _from_plane(block, width, height)
    low, high = _PLAUSIBLE_FOCAL
    return focal if low <= focal / max(width, height) <= high else math.nan


def position(image: Image.Image) -> tuple[float, float, float] | None:
    """Latitude and longitude in degrees (north and east positive), altitude in m above the sea (nan =
    unknown); None where the EXIF block gives no position that is whole and plausible.

    No position: a reference (N, S, E, W) or a number that is missing, 0/0, negative or out of range; status V
    (void); 0 degrees north 0 degrees east, which devices write that have no fix.
    """
    block = _block(image, _GPS_BLOCK)
    latitude = _degrees(block.get(_LATITUDE), block.get(_LATITUDE_REF), "NS", 90.0)
    longitude = _degrees(block.get(_LONGITUDE), block.get(_LONGITUDE_REF), "EW", 180.0)
    if _letter(block.get(_GPS_STATUS)) == "V" or not has_fix(latitude, longitude):
        return None
    below = block.get(_ALTITUDE_REF) in (1, b"\x01")
    altitude = _number(block.get(_ALTITUDE))
    return latitude, longitude, -altitude if below else altitude


def _block(image: Image.Image, tag: int) -> dict[int, Any]:
    """A part of the EXIF block; nothing where it is broken, which is no reason to lose the photograph."""
    try:
        return dict(image.getexif().get_ifd(tag))
    except Exception:
        return {}


def _degrees(parts: Any, reference: Any, letters: str, limit: float) -> float:
    """Degrees, minutes and seconds (or fewer of them) with their reference as signed degrees, else nan."""
    values = [_number(part) for part in parts] if isinstance(parts, tuple | list) else [_number(parts)]
    letter = _letter(reference)
    if not letter or letter not in letters or not 1 <= len(values) <= 3:
        return math.nan
    if any(not value >= 0 for value in values) or any(value > 60 for value in values[1:]):
        return math.nan
    degrees = sum(value / 60**power for power, value in enumerate(values))
    sign = -1.0 if letter in "SW" else 1.0
    return sign * degrees if degrees <= limit else math.nan


def _letter(value: Any) -> str:
    """The first letter of a text or of ASCII bytes, in capitals; empty for anything else."""
    text = value.decode("ascii", "ignore") if isinstance(value, bytes) else value
    return text.strip("\0 ")[:1].upper() if isinstance(text, str) else ""


def _from_equivalent(block: dict[int, Any], width: int, height: int) -> float:
    return _positive(block.get(_FOCAL_35MM)) / _FULL_FRAME_DIAGONAL_MM * math.hypot(width, height)


def _from_plane(block: dict[int, Any], width: int, height: int) -> float:
    per_mm = _positive(block.get(_PLANE_X_RESOLUTION)) / _MM_PER_UNIT.get(
        block.get(_PLANE_RESOLUTION_UNIT, 2), math.nan
    )
    camera_side = max(_positive(block.get(_PIXELS_WIDE)), _positive(block.get(_PIXELS_HIGH)))
    scale = 1.0 if math.isnan(camera_side) else max(width, height) / camera_side
    return _positive(block.get(_FOCAL_MM)) * per_mm * scale


def _positive(value: Any) -> float:
    """A positive finite number out of a rational, nan for anything else."""
    number = _number(value)
    return number if number > 0 else math.nan


def _number(value: Any) -> float:
    """A finite number out of a rational, nan for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan
