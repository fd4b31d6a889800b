"""From bytes to pixels: one picture for models and networks, whatever format, colours and EXIF."""

from __future__ import annotations

import ast
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from retrieval.describe.images import UnreadablePhotograph, load_photograph
from sfm.photographs.working import WorkingOptions, WorkingResources, working_copy
from storage.pictures import decoding
from storage.pictures import depth as picture_depth
from storage.pictures.decoding import Rejected, TooLarge, Unsupported, check_usable, decode
from storage.pictures.formats import PILLOW_FORMATS
from tests.official import official, there

REPOSITORY = Path(__file__).resolve().parents[3]
CASES = official("cases")
ORIENTATION, GPS, PHOTO_BLOCK = 0x0112, 0x8825, 0x8769
STORED_AS = {1: None} | {
    orientation: decoding.exif.UPRIGHT[{6: 8, 8: 6}.get(orientation, orientation)]
    for orientation in range(2, 9)
}
"""How a camera that was held so stores an upright picture."""


def case(name: str) -> Path:
    return there(CASES / name)


def scene(width: int = 60, height: int = 40) -> Image.Image:
    """An upright picture without any symmetry: blocks of 10 px, so that no codec blurs it much."""
    blocks = np.random.default_rng(7).integers(20, 236, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.fromarray(blocks.repeat(10, axis=0).repeat(10, axis=1))


def encoded(image: Image.Image, kind: str, **more) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def stored(image: Image.Image, orientation: int) -> Image.Image:
    how = STORED_AS[orientation]
    return image if how is None else image.transpose(how)


def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI4s", tag, kind, count, value)


def exif_block(orientation: int, *more: bytes, tail: bytes = b"") -> bytes:
    """A TIFF block with an orientation and other entries of any kind, sorted by tag; tail: what follows."""
    entries = sorted([entry(ORIENTATION, 3, 1, struct.pack("<HH", orientation, 0)), *more])
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + tail


def odd_gps(*entries: bytes) -> tuple[bytes, bytes]:
    """The pointer to a GPS block behind two entries, and the block."""
    start = 8 + 2 + 2 * 12 + 4
    block = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return entry(GPS, 4, 1, struct.pack("<I", start)), block


def mutated(orientation: int, rng: np.random.Generator) -> dict[str, bytes]:
    """EXIF blocks that hold the orientation beside what no program can write back."""
    altitude_text = odd_gps(entry(6, 2, 4, b"12m\0"))
    altitude_negative = odd_gps(entry(6, 10, 1, struct.pack("<I", 38)), entry(5, 9, 1, struct.pack("<i", -1)))
    noise = odd_gps(*(entry(tag, int(rng.integers(0, 14)), 3, rng.bytes(4)) for tag in range(1, 8)))
    whole = exif_block(orientation)
    return {
        "plain": whole,
        "text for a number": exif_block(orientation, altitude_text[0], tail=altitude_text[1]),
        "negative unsigned": exif_block(orientation, altitude_negative[0], tail=altitude_negative[1]),
        "noise for GPS": exif_block(orientation, noise[0], tail=noise[1]),
        "a block far away": exif_block(orientation, entry(PHOTO_BLOCK, 4, 1, b"\xff\xff\xff\x7f")),
        "unknown types": exif_block(orientation, entry(0x0110, 99, 5, b"ab"), entry(0x9999, 13, 9, b"xy")),
        "an orientation that is a block": exif_block(orientation, entry(0x0132, 12, 2, b"\xff\xff\xff\xff")),
        "cut at the end": whole[:-3],
    }


def both(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """What a working copy is made from, before it is resized, and what a network gets: [H, W, 3]."""
    path.write_bytes(content)
    decoded = decode(content, halved_to=10**6)
    return np.asarray(decoded.upright().convert("RGB")).astype(int), load_photograph(path, None).astype(int)


EXACT = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "JPEG2000": {}}
LOSSY = {"JPEG": {"quality": 97, "subsampling": 0}}
if features.check("avif"):
    LOSSY["AVIF"] = {"quality": 95, "subsampling": "4:4:4"}
if decoding.register_heif():
    LOSSY["HEIF"] = {"quality": 95, "chroma": 444}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of corrupt EXIF data
@pytest.mark.parametrize("orientation", range(1, 9))
def test_one_upright_picture_whatever_the_format_and_the_exif(orientation, tmp_path):
    """Formats x orientations x EXIF: one turn, the same pixels for models and networks."""
    upright, rng = scene(), np.random.default_rng(orientation)
    camera = stored(upright, orientation)
    for kind, more in {**EXACT, **LOSSY}.items():
        blocks = mutated(orientation, rng) if kind in ("JPEG", "PNG", "WEBP") else {"plain": b""}
        for name, block in blocks.items():
            content, expected = _with_exif(camera, upright, kind, more, orientation, block)
            model, network = both(content, tmp_path / "photograph")
            assert model.shape == network.shape, (kind, name)
            assert np.abs(model - network).max() <= 1, (kind, name)
            difference = np.abs(model - np.asarray(expected).astype(int))
            assert difference.max() <= (1 if kind in EXACT else 40), (kind, name)
            assert difference.mean() <= (1 if kind in EXACT else 3), (kind, name)
            outcome, copy = working_copy(content, WorkingOptions())
            assert (outcome.status, Image.open(io.BytesIO(copy)).size) == ("ok", expected.size), (kind, name)
            if kind not in ("JPEG2000", "AVIF", "HEIF"):
                assert (outcome.width, outcome.height) == camera.size, (kind, name)


def _with_exif(camera, upright, kind, more, orientation, block) -> tuple[bytes, Image.Image]:
    """The stored picture as a file, and how it is to be seen; Pillow writes no EXIF into JPEG 2000."""
    if kind == "JPEG2000":
        return encoded(camera, kind), camera
    if kind == "TIFF":
        return encoded(camera, kind, tiffinfo={ORIENTATION: orientation}), upright
    if kind in ("AVIF", "HEIF"):
        data = Image.Exif()
        data[ORIENTATION] = orientation
        return encoded(camera, kind, exif=data.tobytes(), **more), upright
    return encoded(camera, kind, exif=block, **more), upright


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_bytes_in_the_exif_block_change_no_pixel_but_the_turn(tmp_path):
    rng, camera = np.random.default_rng(1), scene()
    pointer, gps = odd_gps(entry(6, 5, 1, struct.pack("<I", 60)), entry(1, 2, 2, b"N\0\0\0"))
    content = encoded(camera, "JPEG", quality=90, exif=exif_block(6, pointer, tail=gps + bytes(40)))
    plain = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    start = content.index(b"Exif")
    end = start - 2 + int.from_bytes(content[start - 2 : start])
    turns = set()
    for _ in range(150):
        broken = bytearray(content)
        for place in rng.integers(start + 6, end, int(rng.integers(1, 12))).tolist():
            broken[place] = int(rng.integers(256))
        model, network = both(bytes(broken), tmp_path / "photograph.jpg")
        np.testing.assert_array_equal(model, network)
        outcome, _ = working_copy(bytes(broken), WorkingOptions())
        turns.add(outcome.orientation)
        turned = decoding.turned(Image.fromarray(plain.astype(np.uint8)), outcome.orientation)
        np.testing.assert_array_equal(model, np.asarray(turned))
    assert {1, 6} <= turns


def kinds_of_pixels() -> dict[str, tuple[bytes, np.ndarray | None]]:
    """Files of every colour mode and the RGB that they show, None where only one picture is asked for."""
    rgb, grey = scene(), scene().convert("L")
    g = np.asarray(grey)
    seen = rgb.copy()
    seen.paste("white", (0, 0, 30, 40))
    clear = rgb.convert("RGBA")
    clear.paste((9, 9, 9, 0), (0, 0, 30, 40))
    la = grey.convert("LA")
    la.paste((9, 0), (0, 0, 30, 40))
    half_white = np.asarray(grey.convert("RGB")).copy()
    half_white[:, :30] = 255
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    deep = g.astype(np.uint16) * 256 + 77
    shown = np.asarray(grey.convert("RGB"))
    return {
        "L": (encoded(grey, "PNG"), shown),
        "L jpeg": (encoded(grey, "JPEG"), None),
        "RGB": (encoded(rgb, "PNG"), np.asarray(rgb)),
        "P": (encoded(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "P gif": (encoded(palette, "GIF"), None),
        "P with alpha": (encoded(clear.convert("P"), "PNG", transparency=bytes([0, 128, 255])), None),
        "1": (encoded(grey.convert("1"), "PNG"), np.asarray(grey.convert("1").convert("RGB"))),
        "RGBA": (encoded(clear, "PNG"), np.asarray(seen)),
        "RGBA webp": (encoded(clear, "WEBP", lossless=True, exact=True), np.asarray(seen)),
        "LA": (encoded(la, "PNG"), half_white),
        "L with a transparent value": (encoded(grey, "PNG", transparency=int(g[0, 0])), None),
        "RGB with a transparent value": (encoded(rgb, "PNG", transparency=rgb.getpixel((0, 0))), None),
        "CMYK": (encoded(rgb.convert("CMYK"), "JPEG", quality=97), None),
        "CMYK tiff": (encoded(rgb.convert("CMYK"), "TIFF"), np.asarray(rgb)),
        "YCbCr": (encoded(rgb.convert("YCbCr"), "TIFF"), None),
        "LAB": (encoded(_lab(rgb), "TIFF"), np.asarray(rgb)),
        "I;16": (encoded(Image.fromarray(deep), "PNG"), shown),
        "I;16B": (encoded(Image.fromarray(deep.astype(">u2")), "TIFF"), shown),
        "I": (encoded(Image.fromarray(deep.astype(np.int32)), "TIFF"), shown),
        "I of 8 bits": (encoded(Image.fromarray(g.astype(np.int32)), "TIFF"), shown),
        "F of 0..1": (encoded(Image.fromarray(g / np.float32(255)), "TIFF"), shown),
        "F of 0..255": (encoded(Image.fromarray(g.astype(np.float32)), "TIFF"), shown),
        "PGM of 16 bits": (b"P5 60 40 65535\n" + deep.astype(">u2").tobytes(), shown),
        "PPM": (encoded(rgb, "PPM"), np.asarray(rgb)),
        "BMP": (encoded(rgb, "BMP"), np.asarray(rgb)),
    }  # fmt: skip


def _lab(rgb: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")


@pytest.mark.parametrize("kind", kinds_of_pixels())
def test_one_meaning_of_every_kind_of_pixels(kind, tmp_path):
    content, expected = kinds_of_pixels()[kind]
    model, network = both(content, tmp_path / "photograph")
    assert np.abs(model - network).max() <= 1
    if expected is not None:
        assert np.abs(model - expected).max() <= (8 if kind == "LAB" else 1)
    copy = np.asarray(Image.open(io.BytesIO(working_copy(content, WorkingOptions())[1])).convert("RGB"))
    assert np.abs(copy.astype(int) - network).mean() < 8


def test_a_transparent_value_is_white():
    grey = scene().convert("L")
    shown = decode(encoded(grey, "PNG", transparency=grey.getpixel((0, 0)))).pixels
    assert shown.mode == "L" and shown.getpixel((0, 0)) == 255 and grey.getpixel((0, 0)) < 250


def test_twelve_bits_in_sixteen_are_stretched_with_a_note():
    grey = np.asarray(scene().convert("L")).astype(np.uint16)
    twelve = Image.fromarray(grey * 16)
    decoded = decode(encoded(twelve, "PNG"))
    assert decoded.note == f"stretched from {16 * grey.min()}..{16 * grey.max()} to 8 bits"
    shown = np.asarray(decoded.pixels).astype(float)
    assert (shown.min(), shown.max()) == (0, 255)
    assert np.corrcoef(shown.ravel(), grey.ravel())[0, 1] > 0.9999
    assert decode(encoded(Image.fromarray(grey * 257), "PNG")).note == ""


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_temperatures_are_stretched_and_a_dead_pixel_is_not_asked(kind):
    grey = np.asarray(scene(120, 80).convert("L"))
    kelvin = (29_315 + 4 * grey.astype(np.int64)).astype(kind)
    kelvin[3, 3], kelvin[4, 4] = 0, 65_000 if kind is not np.float32 else np.nan
    decoded = decode(encoded(Image.fromarray(kelvin), "TIFF"))
    assert decoded.note.startswith("stretched from 29")
    shown = np.asarray(decoded.pixels).astype(float)
    assert (
        np.corrcoef(np.delete(shown.ravel(), [363, 484]), np.delete(grey.ravel(), [363, 484]))[0, 1] > 0.999
    )
    assert np.ptp(shown) == 255


def test_deep_colour_of_few_bits_is_not_left_dark():
    """Pillow keeps the upper 8 of 16 bits per channel: with 12 bits almost nothing."""
    rgb = np.asarray(scene()).astype(np.uint16)
    with pytest.raises(Rejected, match="lower 12 are used"):
        decode(png16(rgb * 16))
    stretched = decode(png16(rgb * 64))
    assert stretched.note == "stretched from 14 of 16 bits"
    assert np.abs(np.asarray(stretched.pixels).astype(float) - rgb * (255 / 236)).max() < 12
    plain = decode(png16(rgb * 257))
    assert plain.note == ""
    np.testing.assert_array_equal(np.asarray(plain.pixels), rgb)


def png16(rgb: np.ndarray) -> bytes:
    height, width = rgb.shape[:2]
    rows = np.concatenate(
        [np.zeros((height, 1), np.uint8), rgb.astype(">u2").view(np.uint8).reshape(height, -1)], axis=1
    )
    return png(width, height, 16, 2, zlib.compress(rows.tobytes()))


def png(width: int, height: int, depth: int, colour: int, pixels: bytes, *more: tuple[bytes, bytes]) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *more, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


@pytest.mark.parametrize(
    ("image", "kind", "reason"),
    [
        (Image.new("RGB", (1, 1)), "PNG", "1 x 1 px"),
        (Image.new("RGB", (1, 3000)), "PNG", "1 x 3000 px"),
        (scene(31, 40), "PNG", "30 x 40 px"),
        (scene(3000, 40), "PNG", "a strip"),
        (Image.new("RGB", (60, 40), "red"), "PNG", "one even colour"),
        (Image.new("L", (60, 40), 7), "JPEG", "one even colour"),
        (Image.new("RGBA", (60, 40), (1, 2, 3, 0)), "PNG", "one even colour"),
        (Image.fromarray(np.full((40, 60), 700, np.uint16)), "PNG", "the same value 700"),
        (Image.fromarray(np.full((40, 60), np.nan, np.float32)), "TIFF", "no finite values"),
    ],
)
def test_nothing_can_be_made_of_it(image, kind, reason):
    outcome, copy = working_copy(encoded(image, kind), WorkingOptions())
    assert (outcome.status, copy) == ("rejected", b"")
    assert reason in outcome.reason


def test_a_single_pixel_of_contrast_is_not_judged():
    image = Image.new("RGB", (60, 40), "red")
    image.putpixel((33, 21), (0, 0, 0))
    check_usable(decode(encoded(image, "PNG")))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n%%EndComments\n(a) (w) file closefile\n"


def test_postscript_is_never_started(monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "a.jpg").write_bytes(POSTSCRIPT)
    for read in (lambda: decode(POSTSCRIPT), lambda: decode(tmp_path / "a.jpg")):
        with pytest.raises(Rejected, match="not an image of a format"):
            read()
    for as_reference in (False, True):
        with pytest.raises(UnreadablePhotograph, match=r"a\.jpg"):
            load_photograph(tmp_path / "a.jpg", None, as_reference=as_reference)


def test_only_formats_of_photographs_are_tried():
    assert not {"EPS", "WMF", "PDF", "MPEG", "FITS", "PSD", "ICO", "FLI"} & set(PILLOW_FORMATS)
    assert set(decoding.readable_formats()) <= set(PILLOW_FORMATS)
    for kind in ("ICO", "PCX", "TGA", "DDS"):
        with pytest.raises((Rejected, Unsupported)):
            decode(encoded(scene(), kind))


def test_the_limit_is_a_resource_and_named():
    content = encoded(scene(), "PNG")
    outcome, _ = working_copy(content, WorkingOptions(), WorkingResources(max_megapixels=0.002))
    assert outcome.status == "rejected" and outcome.limit_megapixels == 0.002
    assert "60 x 40 pixels, the limit is 0.002 megapixels" in outcome.reason
    assert working_copy(content, WorkingOptions())[0].limit_megapixels is None


BOMBS = {
    "16 bits": lambda: png(60_000, 60_000, 16, 0, zlib.compress(bytes(10))),
    "one more than the limit": lambda: png(200_000_001, 1, 8, 2, zlib.compress(bytes(10))),
    "more than Pillow's own": lambda: png(2**31 - 1, 2**31 - 1, 8, 2, zlib.compress(bytes(10))),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.filterwarnings("error")
def test_a_bomb_is_refused_by_its_header(name):
    with pytest.raises(TooLarge, match=r"limit|megapixels"):
        decode(BOMBS[name](), max_megapixels=200)


PEAK = """
import resource, sys, numpy
from pathlib import Path
from storage.pictures.decoding import Rejected, Unsupported, decode
import PIL.Image
PIL.Image.init()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(Path(sys.argv[1]), halved_to=1280, max_megapixels=200)
    print("ok", end=" ")
except (Rejected, Unsupported) as why:
    print("refused", end=" ")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def peak_megabytes(content: bytes, folder: Path) -> tuple[str, int]:
    """How a process of its own decodes a file, and what that takes; it writes nothing else."""
    (folder / "bomb.png").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder / "bomb.png")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.stderr == ""
    status, megabytes = done.stdout.split()
    return status, int(megabytes)


def test_what_is_refused_takes_no_memory_and_warns_nobody(tmp_path):
    for content in (
        png(30_000, 30_000, 16, 0, zlib.compress(bytes(10))),
        png(60, 40, 8, 2, b"", (b"zTXt", b"a\0\0" + zlib.compress(bytes(300 << 20), 9))),
        png(60, 40, 8, 2, b"", (b"iCCP", b"a\0\0" + zlib.compress(bytes(300 << 20), 9))),
    ):
        status, megabytes = peak_megabytes(content, tmp_path)
        assert status == "refused" and megabytes < 60


@pytest.mark.slow
def test_sixteen_bits_take_no_more_than_their_pixels(tmp_path):
    """The picture of 13,000 x 13,000 that took 3.3 GB: two bytes per pixel, and one of the result."""
    row = b"\0" + np.linspace(0, 65535, 13_000).astype(">u2").tobytes()
    compressor = zlib.compressobj(1)
    pixels = b"".join([*(compressor.compress(row) for _ in range(13_000)), compressor.flush()])
    status, megabytes = peak_megabytes(png(13_000, 13_000, 16, 0, pixels), tmp_path)
    assert status == "ok" and megabytes < 900


def test_large_pictures_are_converted_in_strips_alike(monkeypatch):
    contents = [content for content, _ in kinds_of_pixels().values()]
    whole = [np.asarray(decode(content).pixels) for content in contents]
    monkeypatch.setattr(picture_depth, "_STRIP_PX", 60 * 7)
    for content, expected in zip(contents, whole, strict=True):
        np.testing.assert_array_equal(np.asarray(decode(content).pixels), expected)


def test_a_file_without_end_is_not_read(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TooLarge, match="more than 200 megapixels"):
        decode(tmp_path / "a.jpg", max_megapixels=200)


def claiming(content: bytes, width: int, height: int) -> bytes:
    """A JPEG or BMP whose header tells another size."""
    if content.startswith(b"BM"):
        return content[:18] + struct.pack("<ii", width, height) + content[26:]
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_more_pixels_than_the_bytes_can_hold_take_no_memory(kind, monkeypatch):
    content = encoded(scene(), kind)
    width, height = scene().size
    assert decode(claiming(content, width, height)).pixels.size == (width, height)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were taken"))
    with pytest.raises(Rejected, match=rf"20000 x 9000 pixels, which {len(content)} bytes cannot hold"):
        decode(claiming(content, 20_000, 9_000))


def test_an_even_picture_takes_few_bytes_and_is_decoded():
    """The fewest bytes that a pixel can have: an even JPEG, one bit a pixel in PBM."""
    even = Image.new("L", (8000, 8000), 128)
    content = encoded(even, "JPEG", quality=1, progressive=True, optimize=True)
    assert 64_000_000 / len(content) > 200 and decode(content).pixels.size == even.size
    assert decode(encoded(even.convert("1"), "PPM")).pixels.size == even.size


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_are_rejected_and_nothing_else():
    """Mutations of headers and bodies of every format: no other error, and what is accepted can be used."""
    rng = np.random.default_rng(3)
    contents = [content for content, _ in kinds_of_pixels().values()]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        contents.append(encoded(scene(), kind, save_all=True, append_images=[scene().rotate(90)]))
    contents += [encoded(scene(), "TIFF", compression=name) for name in ("tiff_lzw", "jpeg", "packbits")]
    accepted, reasons = 0, set()
    for _ in range(1200):
        broken = bytearray(contents[rng.integers(len(contents))])
        for _ in range(int(rng.integers(1, 6))):
            place = int(rng.integers(0, min(len(broken), int(rng.choice([64, 400, 10**9])))))
            broken[place : place + 4] = [b"\xff\xff\xff\xff", b"\0\0\0\0", rng.bytes(3), b""][rng.integers(4)]
            broken = broken[: max(9, place)] if rng.random() < 0.1 else broken
        try:
            decoded = decode(bytes(broken), halved_to=100, max_megapixels=10)
            check_usable(decoded)
        except (Rejected, Unsupported) as why:
            reasons.add(str(why))
        else:
            accepted += 1
            assert decoded.upright().mode in ("L", "RGB")
    assert accepted > 50
    assert all(reasons) and not [why for why in reasons if "object at" in why or " 0x" in why]


def test_animations_give_their_first_frame_with_a_note():
    frames = [scene(), scene().rotate(180)]
    for kind, more in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})):
        decoded = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **more))
        assert decoded.note == "first of 2 frames", kind
        check_usable(decoded)
        difference = np.abs(np.asarray(decoded.upright().convert("RGB")).astype(int) - np.asarray(frames[0]))
        assert difference.max() <= (60 if kind == "GIF" else 0), kind


CASE_FILES = {
    "tiff_orientation/orientation6.tif": ("ok", (168, 224), (224, 168)),
    "exif_not_rewritable/gps_alt_ascii.jpg": ("ok", (448, 336), (336, 448)),
    "exif_not_rewritable/gps_alt_neg.jpg": ("ok", (448, 336), (336, 448)),
    "endings/DSCF0001.MPO": ("ok", (224, 168), (224, 168)),
    "tiny_photograph/m23_1x1.png": ("rejected", (0, 0), (0, 0)),
    "tiny_photograph/m23_1xN.png": ("rejected", (0, 0), (0, 0)),
}


@pytest.mark.parametrize("name", CASE_FILES)
def test_the_cases_that_were_seen(name):
    content = case(name).read_bytes()
    status, size, shown = CASE_FILES[name]
    outcome, _ = working_copy(content, WorkingOptions())
    assert (outcome.status, (outcome.width, outcome.height)) == (status, size)
    assert (outcome.working_width, outcome.working_height) == shown


def test_the_turned_tiff_shows_its_png(tmp_path):
    upright = np.asarray(Image.open(case("tiff_orientation/upright.png"))).astype(int)
    for seen in both(case("tiff_orientation/orientation6.tif").read_bytes(), tmp_path / "a.tif"):
        assert np.abs(seen - upright).max() <= 1


@pytest.mark.parametrize("name", ["avif_native/small.avif", "heic_named_jpg/IMG_0001.JPG"])
def test_what_the_scan_accepts_a_network_can_read(name):
    path = case(name)
    outcome, _ = working_copy(path.read_bytes(), WorkingOptions())
    if outcome.status == "ok":
        assert load_photograph(path, None).shape == (168, 224, 3)
    else:
        assert outcome.status == "unsupported" and "retrieval-sfm[heif]" in outcome.reason


@pytest.mark.parametrize(
    "name", ["m_f01.tif", "m_la.png", "m_ptrans.png", "m_rgba_black.png", "m_rgba_red.png"]
)
def test_two_decoders_have_become_one(name, tmp_path):
    model, network = both(case(f"two_decoders/{name}").read_bytes(), tmp_path / name)
    np.testing.assert_array_equal(model, network)


def test_the_deep_grey_of_the_case_is_bright():
    outcome, copy = working_copy(case("deep_grey/grey_12_bit_in_16.png").read_bytes(), WorkingOptions())
    assert outcome.reason.startswith("stretched from")
    assert np.asarray(Image.open(io.BytesIO(copy))).mean() > 80


OPENING = {"storage/pictures/decoding.py"}
"""Where Pillow opens a file; the official benchmarks are opened there too (`retrieval.describe.images`)."""


def test_photographs_are_opened_in_one_place():
    found = set()
    for package in ("flows", "browse", "report", "tasks", "sfm", "retrieval", "storage"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and _is_opening(node):
                    found.add(path.relative_to(REPOSITORY).as_posix())
    assert found == OPENING


def _is_opening(node: ast.Attribute) -> bool:
    owner = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
    return (owner, node.attr) in {("Image", "open"), ("ImageOps", "exif_transpose")} or node.attr in {
        "imread",
        "imdecode",
        "read_image",
        "decode_image",
        "decode_jpeg",
    }
