"""A file's bytes -> an upright picture of limited size, or the reason why there is none.

Everything that can be wrong with a photograph is found here: COLMAP accepts truncated files and aborts on
headers that promise too many pixels, so it is given nothing that has not been decoded in full first.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from sfm import exif

PILLOW_PIXEL_LIMIT = 178_956_970  # above it Pillow refuses by itself

_HEIF_BRANDS = (
    b"heic",
    b"heix",
    b"hevc",
    b"heim",
    b"heis",
    b"hevm",
    b"hevs",
    b"mif1",
    b"msf1",
    b"avif",
    b"avis",
)
_VIDEO_BRANDS = (b"isom", b"iso2", b"mp41", b"mp42", b"M4V ", b"qt  ", b"avc1", b"3gp4", b"3gp5")
_HEIF_REMEDY = "HEIC or AVIF, which needs the extra: pip install 'retrieval-sfm[heif]'"
_VIDEO_REMEDY = "a video; extract frames first: ffmpeg -i FILE -vf fps=2 frames/%06d.jpg"


class Rejected(ValueError):
    """The file is no usable photograph; the text says why."""


class Unsupported(ValueError):
    """The file's format is not read here; the text says what to do about it."""


@dataclass(frozen=True)
class Decoded:
    """An upright picture of mode RGB or L, the stored size and orientation, and what was noted on the way.

    `focal_prior_px` is on the picture's own grid, nan = unknown. `as_stored`: the file's bytes are already
    this picture. `position`: see `exif.position`.
    """

    picture: Image.Image
    width: int
    height: int
    orientation: int
    focal_prior_px: float
    as_stored: bool
    note: str = ""
    position: tuple[float, float, float] | None = None


def decode(content: bytes, longer_side: int, max_pixels: int) -> Decoded:
    """Decode a file fully, upright, its longer side at most `longer_side` px, never enlarged.

    Raises Rejected or Unsupported with the reason; no other error, whatever the bytes are.
    """
    if not content:
        raise Rejected("the file is empty (0 bytes)")
    register_heif()
    try:
        with Image.open(io.BytesIO(content)) as image:
            return _decode_opened(image, longer_side, max_pixels)
    except (Rejected, Unsupported):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Rejected(
            f"its header claims more pixels than the limit of {max_pixels}; resize it first"
        ) from None
    except UnidentifiedImageError:
        _raise_for_unknown(content)
    except MemoryError:
        raise Rejected("not enough memory to decode it; resize it first") from None
    except Exception as error:  # codecs raise many kinds for broken files; each is a reason, none a crash
        raise Rejected(f"cannot be decoded: {_one_line(error)}") from None
    raise Rejected("cannot be decoded")


def register_heif() -> bool:
    """Let Pillow read HEIC and AVIF where the extra is installed; True if it is."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _decode_opened(image: Image.Image, longer_side: int, max_pixels: int) -> Decoded:
    width, height = image.size
    if width * height > max_pixels:
        raise Rejected(
            f"its header claims {width} x {height} pixels, the limit is {max_pixels}; resize it first"
        )
    orientation, focal = exif.orientation(image), exif.focal_prior_px(image, width, height)
    position = exif.position(image)
    small = max(width, height) <= longer_side
    as_stored = image.format == "JPEG" and image.mode in ("RGB", "L") and orientation == 1 and small
    frames = getattr(image, "n_frames", 1)
    if image.format == "JPEG":
        image.draft(
            None, (2 * longer_side, 2 * longer_side)
        )  # the decoder halves the picture while twice the size is left
    image.load()
    picture = _limit(to_grey_or_rgb(image), (width, height), longer_side)
    if orientation in exif.UPRIGHT:
        picture = picture.transpose(exif.UPRIGHT[orientation])
    scale = max(picture.size) / max(width, height)
    note = f"first of {frames} frames" if frames > 1 and image.format != "MPO" else ""
    return Decoded(picture, width, height, orientation, focal * scale, as_stored, note, position)


def _limit(picture: Image.Image, stored: tuple[int, int], longer_side: int) -> Image.Image:
    scale = min(1.0, longer_side / max(stored))
    size = (max(1, round(stored[0] * scale)), max(1, round(stored[1] * scale)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def to_grey_or_rgb(image: Image.Image) -> Image.Image:
    """Mode L for grey input, else RGB; transparency over white, more than 8 bits scaled down."""
    if image.mode in ("L", "RGB"):
        return image.copy()
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("L" if image.mode in ("LA", "La") else "RGB")
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit and float grey to 8 bits: the top byte of 16 bits; a float picture's own range."""
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F":
        finite = np.where(np.isfinite(values), values, 0.0)
        low, span = finite.min(), max(finite.max() - finite.min(), 1e-12)
        values = (finite - low) / span * 255.0
    elif values.max(initial=0.0) > 255:
        values = values / 256.0
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _raise_for_unknown(content: bytes) -> None:
    brand = content[8:12] if content[4:8] == b"ftyp" else b""
    if brand in _HEIF_BRANDS and not register_heif():
        raise Unsupported(_HEIF_REMEDY)
    if brand in _VIDEO_BRANDS or content[:4] == b"\x1aE\xdf\xa3" or content[8:12] == b"AVI ":
        raise Unsupported(_VIDEO_REMEDY)
    raise Rejected("not an image that Pillow reads, or too damaged to tell")


def _one_line(error: Exception) -> str:
    if isinstance(error, struct.error):
        return "broken header"
    return " ".join(str(error).split())[:200] or type(error).__name__
