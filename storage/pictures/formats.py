"""The formats of pictures that are read as photographs, stated once, and how a file's first bytes tell them.

Nothing else is tried on a file: a format outside the list may start a program (PostScript) or
has nothing to do with a camera.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

PILLOW_FORMATS = (
    "JPEG",
    "MPO",
    "PNG",
    "TIFF",
    "WEBP",
    "BMP",
    "GIF",
    "PPM",
    "JPEG2000",
    "HEIF",
    "AVIF",
)
"""Pillow's names; the last two are there where Pillow or its plugin pillow-heif reads them."""


RAW, VIDEO = "RAW", "video"
OTHER_PICTURES = ("JPEG XL", "JPEG XR", "Photoshop", "OpenEXR")
"""Pictures of a kind that nothing here reads."""

HEAD_BYTES = 1024
RULES = 1
"""Raised with every change in what `format_of` says, so that files are looked at again."""

_BEGINNINGS: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
    b"FUJIFILMCCD-RAW": RAW,
    b"IIRO": RAW,  # Olympus
    b"IIRS": RAW,
    b"MMOR": RAW,
    b"IIU\0": RAW,  # Panasonic
    b"FOVb": RAW,  # Sigma
    b"\0MRM": RAW,  # Minolta
    b"II\x1a\0\0\0HEAPCCDR": RAW,  # Canon before 2004
    b"\x1aE\xdf\xa3": VIDEO,  # Matroska, WebM
    b"0&\xb2u\x8ef\xcf\x11": VIDEO,  # Windows Media
    b"\0\0\x01\xba": VIDEO,  # MPEG program stream
    b"\0\0\x01\xb3": VIDEO,
    b"FLV\x01": VIDEO,
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"II\xbc": "JPEG XR",
    b"8BPS": "Photoshop",
    b"v/1\x01": "OpenEXR",
}
_TIFF: Mapping[bytes, str] = {
    b"II*\0": "<",
    b"MM\0*": ">",
    b"II\0*": "<",
    b"MM*\0": ">",
    b"II+\0": "",  # BigTIFF
    b"MM\0+": "",
}
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_PNM = re.compile(rb"P([1-6]|[fF])\s+(#[^\n]*\n\s*)*\d+\s+(#[^\n]*\n\s*)*\d+\s")
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
)
_QUICKTIME = frozenset({b"moov", b"mdat", b"wide", b"pnot"})
_SUBFILE, _DNG_VERSION = 254, 50706


def format_of(head: bytes) -> str:
    """What a file is by its first HEAD_BYTES: one of PILLOW_FORMATS, RAW, VIDEO, one of OTHER_PICTURES, or ""
    for anything else. An MPO begins as a JPEG and is called one."""
    for beginning, name in _BEGINNINGS.items():
        if head.startswith(beginning):
            return name
    if head[:4] in _TIFF:
        return RAW if _is_raw(head, _TIFF[head[:4]]) else "TIFF"
    if head[:4] == b"RIFF":
        return {b"WEBP": "WEBP", b"AVI ": VIDEO}.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if _PNM.match(head):
        return "PPM"
    return VIDEO if head[4:8] in _QUICKTIME or _is_transport_stream(head) else ""


def what_it_is(head: bytes) -> str:
    """A word on content that is no picture, for a person who sees the ending of one."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    known = {
        b"%!": "PostScript",
        b"%pdf": "a PDF document",
        b"pk\x03\x04": "a ZIP archive",
        b"\x1f\x8b": "a gzip archive",
        b"rar!": "a RAR archive",
        b"7z\xbc\xaf": "a 7z archive",
        b"\x89hdf": "HDF5",
        b"<!doctype html": "HTML",
        b"<html": "HTML",
        b"<?xml": "XML",
        b"<svg": "SVG",
        b"\x7felf": "a program",
    }
    for beginning, name in known.items():
        if text.startswith(beginning):
            return name
    printable = sum(each >= 32 or each in b"\t\r\n" for each in head)
    return "text" if head and printable == len(head) else "unknown, or damaged from its first bytes on"


def _by_brand(head: bytes) -> str:
    """Formats in ISO's container: what the file says that it can be read as."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if head[8:12] == b"crx ":
        return RAW  # Canon since 2018
    if head[8:12] not in _AVIF_BRANDS | _HEIF_BRANDS:
        return VIDEO
    return "AVIF" if brands & _AVIF_BRANDS else "HEIF"


def _is_raw(head: bytes, order: str) -> bool:
    """A TIFF as cameras write it: its first picture is a reduced one, or a tag says DNG or Canon."""
    if head[8:10] == b"CR":
        return True
    if not order:
        return False
    (start,) = struct.unpack_from(f"{order}I", head.ljust(8, b"\0"), 4)
    if start + 2 > len(head):
        return False
    (count,) = struct.unpack_from(f"{order}H", head, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(head) - 11), 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHII", head, at)
        if tag == _DNG_VERSION or (tag == _SUBFILE and kind == 4 and value == 1):
            return True
    return False


def _is_transport_stream(head: bytes) -> bool:
    """MPEG transport streams: 0x47 every 188 bytes, in camcorders' files every 192."""
    return any(
        len(head) > first + 2 * step and all(head[first + n * step] == 0x47 for n in range(3))
        for first, step in ((0, 188), (4, 192))
    )


def _endings(text: str) -> frozenset[str]:
    return frozenset(f".{each}" for each in text.split())


PICTURE_ENDINGS = _endings(
    "jpg jpeg jpe jfif mpo jps png apng tif tiff webp bmp dib gif ppm pgm pbm pnm pfm jp2 j2k jpx jpf "
    "heic heif hif heics heifs avif avifs"
)
RAW_ENDINGS = _endings("cr2 cr3 crw nef nrw arw dng orf rw2 raf pef srw x3f raw 3fr iiq mrw sr2 erf kdc dcr")
VIDEO_ENDINGS = _endings("mp4 mov avi mkv m4v webm mts m2ts 3gp wmv insv mpg mpeg")


def verdict(suffix: str, head: bytes) -> tuple[str, str] | None:
    """(status, reason) of a file with this ending (lower case, with the dot) and these first bytes: ok where
    it is worth decoding; None: it is no photograph and not called one."""
    found = format_of(head)
    if found in PILLOW_FORMATS and not (found == "TIFF" and suffix in RAW_ENDINGS):
        return "ok", ""
    if found in (RAW, "TIFF") or (not found and suffix in RAW_ENDINGS):
        return "unsupported", f"RAW photograph ({suffix or 'no ending'}); convert it to JPEG or TIFF"
    if found == VIDEO or (not found and suffix in VIDEO_ENDINGS):
        return "unsupported", f"video ({suffix or 'no ending'}); extract frames, see docs/video.md"
    if found:
        return "unsupported", f"a picture in the format {found}, which is not read; convert it to JPEG or PNG"
    if suffix not in PICTURE_ENDINGS:
        return None
    if not head:
        return "rejected", "the file is empty (0 bytes)"
    return "rejected", f"not an image, whatever its name ends in: its content is {what_it_is(head)}"
