"""Working copies: good photographs upright and limited, bad files with the reason, never an exception."""

import hashlib
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from sfm.photographs.outcome import read_outcomes
from sfm.photographs.working import (
    FileChanged,
    WorkingOptions,
    WorkingResources,
    make_working_copies,
    working_copy,
)
from storage.pictures import decoding, exif
from storage.pictures.decoding import Rejected, Unsupported, decode

SMALL = WorkingOptions(working_size=64)
NO_NUMBER = TiffImagePlugin.IFDRational(0, 0)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A gradient that is red to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    rgb = np.stack([x, y, np.full_like(x, 100)], axis=2).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **more) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def with_exif(image: Image.Image, orientation: int = 1, **camera: float) -> bytes:
    data = Image.Exif()
    data[0x0112] = orientation
    block = data.get_ifd(0x8769)
    codes = {"equivalent": 0xA405, "focal": 0x920A, "resolution": 0xA20E, "unit": 0xA210, "wide": 0xA002}
    for name, value in camera.items():
        block[codes[name]] = value
    return encoded(image, quality=95, exif=data)


def png_header(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(10))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, data)
    )


def opened(copy: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(copy))
    image.load()
    return image


def test_an_upright_small_jpeg_is_kept_byte_for_byte():
    content = encoded(picture(60, 40), quality=80)
    outcome, copy = working_copy(content, SMALL)
    assert copy == content
    assert (outcome.status, outcome.width, outcome.height) == ("ok", 60, 40)
    assert (outcome.working_width, outcome.working_height, outcome.focal_prior_px) == (60, 40, 0.0)


def test_a_large_photograph_is_reduced_and_a_small_one_never_enlarged():
    outcome, copy = working_copy(encoded(picture(200, 100)), SMALL)
    assert opened(copy).size == (64, 32) == (outcome.working_width, outcome.working_height)
    assert (outcome.width, outcome.height) == (200, 100)
    assert opened(working_copy(encoded(picture(40, 32), "PNG"), SMALL)[1]).size == (40, 32)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_becomes_upright(orientation):
    upright = picture(60, 40)
    undo = {value: key for key, value in exif.UPRIGHT.items()}
    stored = upright
    if orientation > 1:  # how the camera would have stored it
        inverse = {6: 8, 8: 6}.get(orientation, orientation)
        stored = upright.transpose(exif.UPRIGHT[inverse])
    assert len(undo) == 7
    outcome, copy = working_copy(with_exif(stored, orientation), SMALL)
    assert outcome.orientation == orientation
    assert (outcome.width, outcome.height) == stored.size
    shown = np.asarray(opened(copy)).astype(int)
    assert shown.shape == (40, 60, 3)
    assert np.abs(shown - np.asarray(upright)).mean() < 4
    assert opened(copy).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize(
    ("camera", "focal"),
    [
        ({"equivalent": 36.0}, 36.0 / math.hypot(36, 24) * math.hypot(640, 480)),
        ({"focal": 8.0, "resolution": 100.0, "unit": 4}, 800.0),
        ({"focal": 8.0, "resolution": 2540.0, "unit": 2}, 800.0),
        ({"focal": 8.0, "resolution": 100.0, "unit": 4, "wide": 1280}, 400.0),
        ({"focal": 8.0}, 0.0),
        ({"equivalent": 0}, 0.0),
        ({"equivalent": 60000}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_focal_prior_is_on_the_working_copy(camera, focal):
    content = with_exif(picture(640, 480), **camera)
    whole, _ = working_copy(content, WorkingOptions(working_size=640))
    half, _ = working_copy(content, WorkingOptions(working_size=320))
    assert whole.focal_prior_px == pytest.approx(focal, rel=1e-6)
    assert half.focal_prior_px == pytest.approx(focal / 2, rel=1e-6)


def with_gps(
    *, latitude=(48.0, 30.0, 36.0), north="N", longitude=(11.0, 15.0, 0.0), east="E", **more
) -> bytes:
    """A JPEG with a GPS block; None leaves an entry out."""
    data = Image.Exif()
    codes = {"below": 5, "altitude": 6, "status": 9}
    entries = {1: north, 2: latitude, 3: east, 4: longitude} | {codes[key]: more[key] for key in more}
    data.get_ifd(0x8825).update({key: value for key, value in entries.items() if value is not None})
    return encoded(picture(60, 40), exif=data)


def position_of(content: bytes) -> tuple[float | None, ...]:
    outcome, _ = working_copy(content, SMALL)
    assert outcome.status == "ok"
    return outcome.latitude_deg, outcome.longitude_deg, outcome.altitude_m


@pytest.mark.parametrize(
    ("gps", "expected"),
    [
        ({}, (48.51, 11.25, None)),
        ({"north": "S", "east": "W"}, (-48.51, -11.25, None)),
        ({"north": "s", "latitude": (48.0, 30.6)}, (-48.51, 11.25, None)),
        ({"latitude": (48.51,), "altitude": 520.5}, (48.51, 11.25, 520.5)),
        ({"altitude": 3.5, "below": b"\x01"}, (48.51, 11.25, -3.5)),
        ({"altitude": 3.5, "below": b"\x00", "status": "A"}, (48.51, 11.25, 3.5)),
        ({"altitude": NO_NUMBER}, (48.51, 11.25, None)),
        ({"latitude": (0.0, 0.0, 0.0)}, (0.0, 11.25, None)),
    ],
)
def test_the_gps_position_in_degrees_and_metres(gps, expected):
    assert position_of(with_gps(**gps)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "gps",
    [
        {"north": None},
        {"east": None},
        {"north": ""},
        {"north": "E"},
        {"latitude": None},
        {"longitude": None},
        {"latitude": (48.0, 30.0, NO_NUMBER)},
        {"latitude": (NO_NUMBER, NO_NUMBER, NO_NUMBER)},
        {"latitude": (91.0, 0.0, 0.0)},
        {"longitude": (180.0, 0.0, 1.0)},
        {"latitude": (48.0, 61.0, 0.0)},
        {"latitude": (48.0, 0.0, 0.0, 0.0)},
        {"status": "V"},
        {"latitude": (0.0, 0.0, 0.0), "longitude": (0.0, 0.0, 0.0)},
    ],
)
def test_half_a_position_is_none(gps):
    assert position_of(with_gps(**gps)) == (None, None, None)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of corrupt EXIF data
def test_a_gps_block_of_any_content_is_no_crash():
    rng = np.random.default_rng(0)
    content = bytearray(with_gps(altitude=5.0))
    start = content.index(b"Exif")
    end = start - 2 + int.from_bytes(content[start - 2 : start])
    for _ in range(300):
        broken = bytearray(content)
        for place in rng.integers(start + 6, end, 4).tolist():
            broken[place] = int(rng.integers(256))
        latitude, longitude, _altitude = position_of(bytes(broken))
        assert (latitude is None) == (longitude is None)
        assert latitude is None or abs(latitude) <= 90


def test_without_a_position_nothing_is_written_about_it(tmp_path):
    assert "latitude" not in str(working_copy(encoded(picture(60, 40)), SMALL)[0].as_row())
    content = with_gps()
    sha = hashlib.sha256(content).hexdigest()
    (tmp_path / "a.jpg").write_bytes(content)
    make_working_copies([(sha, tmp_path / "a.jpg")], SMALL, tmp_path / "out")
    assert read_outcomes([tmp_path / "out"])[sha] == working_copy(content, SMALL)[0]


def test_the_focal_prior_of_a_rotated_photograph_has_no_axis():
    upright, _ = working_copy(with_exif(picture(640, 480), 1, equivalent=36.0), SMALL)
    rotated, _ = working_copy(with_exif(picture(640, 480), 6, equivalent=36.0), SMALL)
    assert rotated.focal_prior_px == upright.focal_prior_px
    assert (rotated.working_width, rotated.working_height) == (48, 64)


BROKEN_JPEG = encoded(picture(300, 200))
BAD = {
    "empty": (b"", "empty"),
    "text": (b"these are no pixels", "not an image"),
    "truncated jpeg": (BROKEN_JPEG[: len(BROKEN_JPEG) // 2], "truncated|cannot be decoded"),
    "jpeg header only": (BROKEN_JPEG[:200], "not an image|cannot be decoded"),
    "huge png": (png_header(60_000, 60_000), "pixels"),
    "png without data": (png_header(10, 10), "cannot be decoded"),
    "png header only": (png_header(60_000, 60_000)[:33], "too damaged"),
    "broken tiff": (b"II*\0\xff\xff\xff\xff" + bytes(50), "not an image|cannot be decoded"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_rejected_with_the_reason(name):
    content, reason = BAD[name]
    outcome, copy = working_copy(content, SMALL)
    assert (outcome.status, copy) == ("rejected", b"")
    assert any(part in outcome.reason for part in reason.split("|")), outcome.reason


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_damage_never_raises():
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        good = np.frombuffer(encoded(picture(50, 40), kind), np.uint8)
        for _ in range(25):
            bad = good.copy()
            bad[rng.integers(0, len(bad), 8)] = rng.integers(0, 256, 8)
            outcome, copy = working_copy(bad[: rng.integers(1, len(bad))].tobytes(), SMALL)
            assert (outcome.status == "ok") == bool(copy)


def test_the_size_limit_is_a_resource():
    content = encoded(picture(40, 32), "PNG")
    within, above = (WorkingResources(max_megapixels=px / 10**6) for px in (1280, 1279))
    assert working_copy(content, SMALL, within)[0].status == "ok"
    outcome, _ = working_copy(content, SMALL, above)
    assert outcome.reason.startswith("its header claims 40 x 32 pixels, the limit is 0.001279 megapixels")
    assert outcome.limit_megapixels == 0.001279


def test_the_options_of_an_earlier_run_are_read_without_their_limit():
    assert WorkingOptions.model_validate({"max_pixels": 178_956_970}) == WorkingOptions()
    with pytest.raises(ValueError, match="max_pixels"):
        WorkingOptions.model_validate({"max_pixels": 1000})


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (encoded(picture(60, 40, "CMYK")), "RGB"),
        (encoded(picture(60, 40, "L"), "PNG"), "L"),
        (encoded(picture(60, 40, "P"), "PNG"), "RGB"),
        (encoded(picture(60, 40, "1"), "PNG"), "L"),
        (encoded(picture(60, 40, "RGBA"), "PNG"), "RGB"),
        (encoded(picture(60, 40, "LA"), "PNG"), "L"),
        (encoded(picture(60, 40, "YCbCr"), "TIFF"), "RGB"),
        (encoded(picture(60, 40), "WEBP"), "RGB"),
    ],
)
def test_other_modes_and_formats_become_grey_or_rgb(content, mode):
    outcome, copy = working_copy(content, SMALL)
    assert outcome.status == "ok"
    assert (opened(copy).format, opened(copy).mode) == ("JPEG", mode)


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.tile(np.linspace(0, 65535, 60).astype(np.uint16), (40, 1))
    shown = np.asarray(opened(working_copy(encoded(Image.fromarray(ramp), "PNG"), SMALL)[1])).astype(int)
    assert np.abs(shown - ramp // 256).max() <= 4


def test_transparency_shows_white():
    clear = Image.new("RGBA", (60, 40), (10, 20, 30, 0))
    clear.paste((10, 20, 30, 255), (0, 0, 20, 40))
    shown = np.asarray(opened(working_copy(encoded(clear, "PNG"), SMALL)[1]))
    assert shown[:, 30:].min() >= 250 and shown[:, :10].max() < 40


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue", "green")]
    for frame in frames:
        frame.paste("black", (0, 0, 10, 40))
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    outcome, copy = working_copy(content, SMALL)
    assert (outcome.status, outcome.reason) == ("ok", "first of 3 frames")
    assert np.asarray(opened(copy))[20, 30, 0] > 200


def test_video_is_unsupported_with_the_remedy():
    outcome, _ = working_copy(b"\0\0\0\x18ftypisom" + bytes(64), SMALL)
    assert (outcome.status, "ffmpeg" in outcome.reason) == ("unsupported", True)


def test_heic_is_read_or_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(decoding, "register_heif", lambda: False)
    with pytest.raises(Unsupported, match=r"retrieval-sfm\[heif\]"):
        decode(b"\0\0\0\x18ftypheic" + bytes(64))


def test_heic_of_the_extra_is_a_photograph():
    pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    assert decoding.register_heif()
    outcome, _ = working_copy(encoded(picture(60, 40), "HEIF"), SMALL)
    assert (outcome.status, outcome.working_width) == ("ok", 60)


def test_a_rejection_does_not_name_the_machine(tmp_path):
    with pytest.raises(Rejected) as caught:
        decode(b"no picture")
    assert "object at" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def chunk(folder: Path, files: dict[str, bytes]) -> list[tuple[str, Path]]:
    folder.mkdir()
    listed = []
    for name, content in files.items():
        (folder / name).write_bytes(content)
        listed.append((hashlib.sha256(content).hexdigest(), folder / name))
    return listed


def test_a_chunk_is_a_folder_of_copies_and_outcomes(tmp_path):
    photographs = chunk(
        tmp_path / "photos", {"a b.jpg": encoded(picture(200, 100)), "\n.jpg": b"", "ü.png": b"no"}
    )
    out = tmp_path / "chunk"
    digests = make_working_copies(photographs, SMALL, out)
    outcomes = read_outcomes([out])
    assert set(digests) == set(outcomes) == {sha for sha, _ in photographs}
    assert [outcomes[sha].status for sha, _ in photographs] == ["ok", "rejected", "rejected"]
    assert sorted(path.name for path in out.iterdir()) == sorted([f"{photographs[0][0]}.jpg", "photos.json"])


def test_a_photograph_does_not_depend_on_its_company(tmp_path):
    files = {f"{n}.png": encoded(picture(70 + n, 50), "PNG") for n in range(4)}
    photographs = chunk(tmp_path / "photos", files)
    together = make_working_copies(photographs[::-1], SMALL, tmp_path / "all")
    alone = make_working_copies(photographs[2:3], SMALL, tmp_path / "one")
    sha = photographs[2][0]
    assert alone == {sha: together[sha]}
    assert (tmp_path / "one" / f"{sha}.jpg").read_bytes() == (tmp_path / "all" / f"{sha}.jpg").read_bytes()
    assert len(set(together.values())) == 4


def test_bytes_that_changed_since_the_scan_are_refused(tmp_path):
    (sha, path), *_ = chunk(tmp_path / "photos", {"a.jpg": encoded(picture(60, 40))})
    path.write_bytes(encoded(picture(61, 40)))
    with pytest.raises(FileChanged, match=r"a\.jpg.*changed"):
        make_working_copies([(sha, path)], SMALL, tmp_path / "out")
