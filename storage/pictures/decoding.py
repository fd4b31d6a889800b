"""From the bytes of a photograph to its pixels: the only way, for models, networks, searches and sheets.

Everything that can be wrong with a photograph is found here: COLMAP accepts truncated files and aborts on
headers that promise too many pixels, so it is given nothing that has not been decoded in full first.
Official benchmarks alone are read otherwise: as their references read them (`retrieval.describe.images`).
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from storage.pictures import depth, exif
from storage.pictures.depth import NoContrast
from storage.pictures.formats import HEAD_BYTES, PILLOW_FORMATS, VIDEO, format_of

MOST_MEGAPIXELS = 200
"""Larger photographs are rejected by their header, unless `resources.max_megapixels` says otherwise."""
CEILING_MEGAPIXELS = 1000
"""No resource allows more; what the scan let through is decoded later up to here."""
LEAST_SIDE_PX = 32
MOST_ELONGATED = 20
"""Longer side / shorter side: of a thinner strip a smaller scale leaves nothing that a network sees."""
_BYTES_PER_PIXEL = 8  # four channels of 16 bits
_BYTES_BESIDE = 64 << 20  # metadata and previews
_MOST_PIXELS_PER_BYTE = {"raw": 8, "jpeg": 1024}
"""By Pillow's name of the codec: one bit each, six bits for 256 of them with room; others have no limit."""

# Once for the process, as both are its own: what is too large is refused by the header here, in words.
Image.MAX_IMAGE_PIXELS = CEILING_MEGAPIXELS * 10**6 // 2  # Pillow refuses twice as many
warnings.filterwarnings("ignore", module=r"PIL\.")

_HEIF_REMEDY = "HEIC or AVIF, which needs the extra: pip install 'retrieval-sfm[heif]'"
_VIDEO_REMEDY = "a video; extract frames first: ffmpeg -i FILE -vf fps=2 frames/%06d.jpg"


class Rejected(ValueError):
    """The file is no usable photograph; the text says why."""


class TooLarge(Rejected):
    """More pixels than the limit, or than there is memory for: with another limit it may be usable."""


class Unsupported(ValueError):
    """The file's format is not read here; the text says what to do about it."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pixels of mode RGB or L in 8 bits, and what the file says of them.

    width, height: as stored in the file. size: of `pixels` before the decoder halved them. turn: the EXIF
    orientation that `pixels` still lack (1 = none: Pillow turns TIFF and libheif HEIC while loading), see
    `upright`. focal_px: on the stored grid, nan = unknown; position: see `exif.position`. as_stored: the
    file's bytes are an upright JPEG of these pixels. note: what was noticed, "" for nothing.
    """

    pixels: Image.Image
    width: int
    height: int
    size: tuple[int, int]
    orientation: int
    turn: int
    focal_px: float
    position: tuple[float, float, float] | None
    as_stored: bool
    note: str = ""

    def upright(self) -> Image.Image:
        """The pixels as a person sees the photograph."""
        return turned(self.pixels, self.turn)


def decode(
    source: bytes | Path, *, halved_to: int | None = None, max_megapixels: float = CEILING_MEGAPIXELS
) -> Decoded:
    """Decode a file, or its bytes, in full; a picture of any size and content, see `check_usable`.

    halved_to: the decoder of JPEG may halve the picture while its longer side has at least so many px.
    Raises OSError for a file that cannot be read, else Rejected or Unsupported with the reason; no other
    error, whatever the bytes are.
    """
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), len(source), halved_to, max_megapixels)
    with source.open("rb") as file:  # not by its name: Pillow would map it into memory
        return _decode(file, os.fstat(file.fileno()).st_size, halved_to, max_megapixels)


def check_usable(decoded: Decoded) -> None:
    """Raises Rejected for a picture that nothing can be made of: tiny, a strip, without any contrast."""
    width, height = decoded.width, decoded.height
    if min(width, height) < LEAST_SIDE_PX:
        raise Rejected(f"{width} x {height} px: a photograph has {LEAST_SIDE_PX} px on its shorter side")
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise Rejected(
            f"{width} x {height} px: a strip more than {MOST_ELONGATED} times as long as wide; cut it"
        )
    if depth.is_flat(decoded.pixels):
        raise Rejected("one even colour everywhere: nothing can be found in it")


def check_size(width: int, height: int, max_megapixels: float) -> None:
    """Raises Rejected for a header without pixels, TooLarge for more of them than the limit."""
    if width < 1 or height < 1:
        raise Rejected(f"its header claims {width} x {height} pixels")
    if width * height > max_megapixels * 10**6:
        raise TooLarge(
            f"its header claims {width} x {height} pixels, the limit is {max_megapixels:g} megapixels; "
            "resize it, or raise resources.max_megapixels"
        )


def check_held(image: Image.Image, num_bytes: int) -> None:
    """Raises Rejected, before memory is taken, for more pixels than the file's bytes can stand for."""
    codecs = [tile[0] for tile in getattr(image, "tile", [])]
    most = _MOST_PIXELS_PER_BYTE.get(codecs[0]) if codecs else None
    if most is not None and image.width * image.height > most * num_bytes:
        raise Rejected(
            f"its header claims {image.width} x {image.height} pixels, which {num_bytes} bytes cannot hold: "
            "the file is cut off or damaged"
        )


def open_picture(file: IO[bytes]) -> Image.Image:
    """A file as Pillow opens it, not yet decoded: of the formats of photographs, nothing else is tried."""
    return Image.open(file, formats=readable_formats())


@lru_cache(maxsize=1)
def readable_formats() -> tuple[str, ...]:
    """Those of `PILLOW_FORMATS` that can be read on this machine."""
    register_heif()
    Image.init()
    return tuple(name for name in PILLOW_FORMATS if name in Image.OPEN)


def register_heif() -> bool:
    """Let Pillow read HEIC, and AVIF where it cannot by itself, if the extra is installed; True if it is."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    Image.init()
    if "AVIF" not in Image.OPEN and hasattr(pillow_heif, "register_avif_opener"):
        pillow_heif.register_avif_opener()
    return True


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """A stored picture turned upright by its EXIF orientation."""
    return image.transpose(exif.UPRIGHT[orientation]) if orientation in exif.UPRIGHT else image


def thumbnail(path: Path, longer_side: int) -> Image.Image:
    """An upright RGB picture of at most so many px. Raises OSError, Rejected, Unsupported."""
    small = decode(path, halved_to=2 * longer_side).upright().convert("RGB")
    small.thumbnail((longer_side, longer_side))
    return small


def _decode(file: IO[bytes], num_bytes: int, halved_to: int | None, max_megapixels: float) -> Decoded:
    if not num_bytes:
        raise Rejected("the file is empty (0 bytes)")
    if num_bytes > _BYTES_PER_PIXEL * 10**6 * max_megapixels + _BYTES_BESIDE:
        raise TooLarge(f"{num_bytes} bytes: more than {max_megapixels:g} megapixels, the limit, can need")
    try:
        with open_picture(file) as image:
            check_held(image, num_bytes)
            decoded = _decode_opened(image, halved_to, max_megapixels)
            # MPO: previews and depth. GIF has to look for a second picture, and forgets the first
            several = image.format == "GIF" or (
                image.format != "MPO" and getattr(image, "is_animated", False)
            )
        note = _frames(file) if several else ""
        return replace(decoded, note="; ".join(filter(None, (note, decoded.note))))
    except (Rejected, Unsupported):
        raise
    except NoContrast as why:
        raise Rejected(str(why)) from None
    except Image.DecompressionBombError:
        raise TooLarge(
            f"its header claims more pixels than the limit of {max_megapixels:g} megapixels; resize it first"
        ) from None
    except UnidentifiedImageError:
        raise _unknown(file) from None
    except MemoryError:
        raise TooLarge("not enough memory to decode it; resize it first") from None
    except Exception as error:  # codecs raise many kinds for broken files; each is a reason, none a crash
        raise Rejected(f"cannot be decoded: {_one_line(error)}") from None


def _decode_opened(image: Image.Image, halved_to: int | None, max_megapixels: float) -> Decoded:
    width, height = _stored_size(image)
    check_size(width, height, max_megapixels)
    if halved_to is not None and image.format == "JPEG":
        image.draft(None, (halved_to, halved_to))
    is_tiff, deep = image.format == "TIFF", depth.is_deep_colour(image)
    facts = None
    if is_tiff:  # while loading, Pillow turns it and forgets that it did
        facts = exif.read(image, width, height)
        exif.keep_orientation_alone(image)
    image.load()
    facts = facts or exif.read(image, width, height)  # PNG may have it behind the pixels
    turn = exif.orientation(image) if is_tiff else facts.orientation
    pixels, note = depth.to_eight_bits(image, deep)
    return Decoded(
        pixels=pixels,
        width=width,
        height=height,
        size=pixels.size if is_tiff else (width, height),
        orientation=facts.orientation,
        turn=turn,
        focal_px=facts.focal_px,
        position=facts.position,
        as_stored=image.format == "JPEG" and image.mode in ("RGB", "L") and facts.orientation == 1,
        note=note,
    )


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in the file; of TIFF Pillow gives those of the picture as it will turn it."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    return (int(tags[256]), int(tags[257])) if 256 in tags and 257 in tags else image.size


def _frames(file: IO[bytes]) -> str:
    """A note that only the first of several pictures is used; they are counted in the file opened anew."""
    try:
        file.seek(0)
        with open_picture(file) as image:
            count = getattr(image, "n_frames", 1)
            return f"first of {count} frames" if count > 1 else ""
    except Exception:  # a later frame is damaged: the first one is not
        return "first of several frames"


def _unknown(file: IO[bytes]) -> Rejected | Unsupported:
    file.seek(0)
    found = format_of(file.read(HEAD_BYTES))
    if found in ("HEIF", "AVIF") and found not in readable_formats():
        return Unsupported(_HEIF_REMEDY)
    if found == VIDEO:
        return Unsupported(_VIDEO_REMEDY)
    return Rejected("not an image of a format that is read, or too damaged to tell")


def _one_line(error: Exception) -> str:
    if isinstance(error, struct.error):
        return "broken header"
    return " ".join(str(error).split())[:200] or type(error).__name__
