"""What a file is by its first bytes, whatever it is called."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from storage.pictures.formats import HEAD_BYTES, PILLOW_FORMATS, RAW, VIDEO, format_of, verdict, what_it_is
from tests.official import official, there

CASES = official("cases")


def ftyp(brand: bytes, *compatible: bytes) -> bytes:
    body = brand + b"\0\0\0\0" + b"".join(compatible)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + b"\0" * 40


def tiff(order: str, *tags: tuple[int, int, int]) -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + b"".join(struct.pack(f"{order}HHII", tag, kind, 1, value) for tag, kind, value in tags)


@pytest.mark.parametrize("name", [name for name in PILLOW_FORMATS if name not in ("MPO", "HEIF")])
def test_what_pillow_writes_is_recognised(name: str) -> None:
    Image.init()
    if name not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {name}")
    picture = Image.fromarray(np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3))
    buffer = io.BytesIO()
    picture.save(buffer, name)
    assert format_of(buffer.getvalue()[:HEAD_BYTES]) == name


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"P5\n# made by hand\n64 48\n255\n....", "PPM"),
        (b"Pf\n64 48\n-1.0\n....", "PPM"),
        (ftyp(b"heic", b"mif1", b"heic"), "HEIF"),
        (ftyp(b"mif1", b"heic"), "HEIF"),
        (ftyp(b"mif1", b"avif", b"miaf"), "AVIF"),
        (ftyp(b"avis", b"msf1"), "AVIF"),
        (ftyp(b"qt  "), VIDEO),
        (ftyp(b"isom", b"mp42"), VIDEO),
        (ftyp(b"crx ", b"isom"), RAW),
        (b"\0\0\0\x14moov....", VIDEO),
        (b"RIFF\0\0\0\0AVI LIST", VIDEO),
        (b"\x1aE\xdf\xa3....", VIDEO),
        ((b"\x47" + b"\0" * 187) * 3, VIDEO),
        ((b"\0\0\0\0\x47" + b"\0" * 187) * 3, VIDEO),
        (tiff("<", (254, 4, 1)), RAW),  # NEF, ARW: a preview first
        (tiff(">", (256, 3, 9), (50706, 1, 1)), RAW),  # DNG
        (b"II*\0\x10\0\0\0CR\x02\0", RAW),
        (tiff("<", (254, 4, 0), (256, 3, 640)), "TIFF"),
        (b"II*\0\xff\xff\xff\xff", "TIFF"),
        (b"FUJIFILMCCD-RAW 0201", RAW),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", ""),
        (b"%PDF-1.7", ""),
        (b"<svg xmlns=", ""),
        (b"BM is how this text begins, and it is no bitmap", ""),
        (b"P5 is a page size", ""),
        (b"RIFF\0\0\0\0WAVEfmt ", ""),
        (b"PK\3\4", ""),
        (b"", ""),
    ],
)
def test_by_the_first_bytes(head: bytes, expected: str) -> None:
    assert format_of(head) == expected


def test_no_beginning_is_an_error() -> None:
    generator = np.random.default_rng(0)
    starts = [b"II*\0", b"MM\0*", b"RIFF", b"\0\0\0\x1cftyp", b"BM", b"P6\n", b""]
    for _ in range(2000):
        start = starts[generator.integers(len(starts))]
        head = start + generator.bytes(int(generator.integers(0, 80)))
        assert isinstance(format_of(head), str) and what_it_is(head)


JPEG = b"\xff\xd8\xff\xe0"


@pytest.mark.parametrize(
    ("suffix", "head", "status"),
    [
        (".jpg", JPEG, "ok"),
        (".mpo", JPEG, "ok"),
        ("", JPEG, "ok"),
        (".dat", JPEG, "ok"),
        (".mp4", JPEG, "ok"),
        (".hif", ftyp(b"heic"), "ok"),
        (".jpg", ftyp(b"heic"), "ok"),
        (".jpg", ftyp(b"qt  "), "unsupported"),
        (".jpg", tiff("<", (254, 4, 1)), "unsupported"),
        (".nef", tiff("<", (256, 3, 9)), "unsupported"),
        (".cr2", b"", "unsupported"),
        (".mov", b"anything", "unsupported"),
        (".jxl", b"\0\0\0\x0cJXL \r\n\x87\n", "unsupported"),
        (".jpg", b"%!PS-Adobe", "rejected"),
        (".png", b"", "rejected"),
        (".jpg", b"Dear diary", "rejected"),
        (".txt", b"Dear diary", None),
        (".eps", b"%!PS-Adobe", None),
        ("", b"", None),
    ],
)
def test_verdicts(suffix: str, head: bytes, status: str | None) -> None:
    found = verdict(suffix, head)
    assert (found[0] if found else None) == status
    if found and status != "ok":
        assert found[1]


def test_what_it_is_instead() -> None:
    words = {
        b"%!PS": "PostScript",
        b"<!DOCTYPE html>": "HTML",
        b"%PDF-1": "PDF",
        b"hello\n": "text",
        b"\0\1": "damaged",
    }
    for head, word in words.items():
        found = verdict(".jpg", head)
        assert found is not None and word in found[1]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("endings/DSC00001.HIF", "HEIF"),
        ("endings/DSCF0001.MPO", "JPEG"),
        ("heic_named_jpg/IMG_0001.JPG", "HEIF"),
        ("avif_native/small.avif", "AVIF"),
    ],
)
def test_files_that_people_had(file: str, expected: str) -> None:
    path = there(CASES / file)
    head = path.read_bytes()[:HEAD_BYTES]
    assert format_of(head) == expected
    assert verdict(path.suffix.lower(), head) == ("ok", "")
