"""Copies of a picture are found at any size and quality; frames of a camera that stood still are none."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sfm.photographs.catalogue import make_catalogue, pictures, read_names
from sfm.photographs.outcome import read_outcomes
from sfm.photographs.same_pictures import Picture, copies
from sfm.photographs.working import WorkingOptions, make_working_copies
from storage.hdf5 import file as hdf5
from tests.official import needs, official

PHOTOS = official("photos")
WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True)
class File:
    name: str
    sha256: str
    size: int
    status: str = "ok"
    reason: str = ""


def view(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A picture with detail at every scale, as photographs have."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for size in (3, 6, 12, 24, 48, 96, 192):
        noise = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
        total += (
            np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)) / size**0.7
        )
    total -= total.min()
    return Image.fromarray((total / total.max() * 255).astype(np.uint8))


def noisy(picture: Image.Image, seed: int, sigma: float = 2.0) -> Image.Image:
    """The next frame of a camera that stands still."""
    noise = np.random.default_rng(seed).normal(0, sigma, (*picture.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).round().astype(np.uint8))


def encoded(picture: Image.Image, kind: str = "JPEG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **more)
    return buffer.getvalue()


def resized(picture: Image.Image, longer: int) -> Image.Image:
    scale = longer / max(picture.size)
    return picture.resize(
        (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS
    )


def found(folder: Path, files: dict[str, bytes]) -> dict[str, str]:
    """Name of a copy -> name of the picture that stands for it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    rows = [File(name, hashlib.sha256(each).hexdigest(), len(each)) for name, each in files.items()]
    name_of = {row.sha256: row.name for row in rows}
    pairs = [(row.sha256, folder / row.name) for row in rows]
    make_working_copies(pairs, WorkingOptions(working_size=480), folder / "working")
    outcomes = read_outcomes([folder / "working"])
    same = copies(
        pictures(rows, outcomes, [folder / "working"]), lambda sha: folder / name_of[sha], threads=2
    )
    make_catalogue(rows, outcomes, folder / "catalogue.h5", copies=same)
    return {name_of[copy]: name_of[stands] for copy, stands in same.items()}


COPIES: dict[str, Any] = {
    "at 600 px": lambda p: encoded(resized(p, 600), quality=85),
    "at 320 px, poor": lambda p: encoded(resized(p, 320), quality=20),
    "a thumbnail": lambda p: encoded(resized(p, 120), quality=50),
    "a tiny thumbnail": lambda p: encoded(resized(p, 64), quality=75),
    "sharpened": lambda p: encoded(resized(p, 320).filter(ImageFilter.UnsharpMask(1, 150, 0)), quality=75),
    "webp": lambda p: encoded(resized(p, 320), "WEBP", quality=40),
    "grey": lambda p: encoded(resized(p, 400).convert("L"), "PNG"),
    "png": lambda p: encoded(p, "PNG"),
    "tiff": lambda p: encoded(p, "TIFF"),
    "written at 75": lambda p: encoded(p, quality=75),
    "written at 30": lambda p: encoded(p, quality=30),
    "metadata taken out": lambda p: encoded(p, quality=92, comment=b"the same pixels"),
    "turned by EXIF": lambda p: encoded(
        resized(p, 500).transpose(Image.Transpose.ROTATE_90), quality=85, exif=orientation(6)
    ),
}


def orientation(value: int, taken: str = "", part: str = "") -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
        exif.get_ifd(0x8769)[0x9291] = part
    return exif


def test_copies_of_a_picture_are_found_and_the_largest_stands(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for seed in range(2):
        picture = view(seed)
        files[f"{seed}.jpg"] = encoded(picture, quality=92)
        for name, make in COPIES.items():
            files[f"{seed} {name}"] = make(picture)
    same = found(tmp_path / "photos", files)
    for seed in range(2):
        own = {name for name in files if name.startswith(f"{seed}")}
        stands = own - same.keys()
        assert len(stands) == 1, (stands, same)
        (largest,) = stands
        assert Image.open(io.BytesIO(files[largest])).size == (WIDTH, HEIGHT)
        assert {same[name] for name in own - stands} == {largest}


def test_frames_of_a_camera_that_stood_still_are_different_photographs(tmp_path: Path) -> None:
    still = view(0)
    files = {f"{n}.jpg": encoded(noisy(still, n), quality=92) for n in range(4)}
    assert found(tmp_path / "photos", files) == {}


def test_a_copy_belongs_to_the_frame_that_it_was_made_of(tmp_path: Path) -> None:
    moved = view(0)
    patch = view(5, 60, 60)
    moved.paste(patch, (200, 200))
    files = {"still.jpg": encoded(view(0), quality=92), "moved.jpg": encoded(moved, quality=92)}
    files["copy"] = encoded(resized(moved, 300), quality=80)
    assert found(tmp_path / "photos", files) == {"copy": "moved.jpg"}


def test_other_views_of_a_place_are_no_copies(tmp_path: Path) -> None:
    wide = view(0, 900, 700)
    crops = {name: wide.crop((x, 20, x + WIDTH, 20 + HEIGHT)) for name, x in (("a", 0), ("b", 20), ("c", 90))}
    files = {f"{name}.jpg": encoded(each) for name, each in crops.items()}
    files |= {
        f"{name} small.png": encoded(resized(view(9), 300 + 10 * n), "PNG") for n, name in enumerate("a")
    }
    files["zoomed.jpg"] = encoded(resized(wide.crop((60, 60, 60 + 560, 60 + 420)), 600))
    assert found(tmp_path / "photos", files) == {}


def test_photographs_taken_at_different_times_are_different(tmp_path: Path) -> None:
    picture = view(0)
    times = {"a.jpg": ("2024:05:01 10:00:00", ""), "b.jpg": ("2024:05:01 10:00:01", "")}
    times |= {"c.jpg": ("2024:05:01 10:00:02", "10"), "d.jpg": ("2024:05:01 10:00:02", "60")}
    files = {
        name: encoded(resized(picture, 640 - 40 * n), exif=orientation(1, *when))
        for n, (name, when) in enumerate(times.items())
    }
    assert found(tmp_path / "photos", files) == {}
    files["e.jpg"] = encoded(resized(picture, 400), exif=orientation(1, "2024:05:01 10:00:01"))
    assert found(tmp_path / "more", files) == {"e.jpg": "b.jpg"}


def test_pictures_without_structure_are_no_copies_of_each_other(tmp_path: Path) -> None:
    files = {}
    for n in range(4):
        noise = np.random.default_rng(n).normal(20, 4, (300 + 20 * n, 400, 3))
        files[f"night {n}.png"] = encoded(Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)), "PNG")
    assert found(tmp_path / "photos", files) == {}
    assert copies([], lambda sha: tmp_path) == {}


def test_the_catalogue_says_which_picture_stands(tmp_path: Path) -> None:
    picture = encoded(view(0), quality=92)
    small, other = encoded(resized(view(0), 300)), encoded(view(0), "PNG")
    files = {
        "a small.jpg": small,
        "b.jpg": picture,
        "c again.jpg": picture,
        "d small.jpg": small,
        "e.png": other,
    }
    found(tmp_path, files)
    rows = hdf5.read(tmp_path / "catalogue.h5", "catalogue")
    with hdf5.open_artifact(tmp_path / "catalogue.h5", "catalogue") as artifact:
        assert artifact.validate() == []
    status = dict(zip(rows["photos/name"].tolist(), rows["photos/status"].tolist(), strict=True))
    assert [name for name, each in status.items() if each == "ok"] == ["e.png"]
    assert rows["photos/alias_of"].tolist() == [4, 4, 4, 4, -1]
    reasons = rows["photos/reason"].tolist()
    assert reasons[0] == reasons[3] == "the same picture as 'e.png', at another size"
    assert reasons[1] == "the same picture as 'e.png', written another time"
    shas = {name: hashlib.sha256(each).hexdigest() for name, each in files.items()}
    assert set(read_names(tmp_path / "catalogue.h5").values()) == {shas["e.png"]}
    assert [n for n, sha in read_names(tmp_path / "catalogue.h5", same_bytes=True).items() if sha] == [
        "e.png"
    ]


@pytest.mark.slow
@needs(PHOTOS)
def test_no_two_photographs_of_the_collections_are_copies(tmp_path: Path) -> None:
    """Frames of a rig that stood still among them: the hardest that there are."""
    rig = ["c93eb2606686", "e689741bc26d", "14fde6fa6589", "a679a2816143", "351f5387d773", "e602b062cc2e"]
    rig += ["4eeee646f977", "8c552792800d", "32ef8b2aadf5", "50039406bce6", "38e9e43ba8ae", "6c1065a020a3"]
    paths = [PHOTOS / "landmarks" / f"{name}.jpg" for name in rig]
    paths += sorted((PHOTOS / "collection").glob("*.jpg"))[:200]
    assert found(tmp_path / "photos", {path.name: path.read_bytes() for path in paths}) == {}


def test_the_order_does_not_matter(tmp_path: Path) -> None:
    files = {f"{n}": encoded(resized(view(n % 2), 300 + 20 * n)) for n in range(6)}
    first = found(tmp_path / "one", files)
    assert first == found(tmp_path / "two", dict(reversed(files.items()))) and len(first) == 4


def test_a_picture_knows_its_rank() -> None:
    large = Picture("b" * 64, Path("x"), 100, 80, 10)
    small = Picture("a" * 64, Path("x"), 90, 80, 99)
    heavy = Picture("c" * 64, Path("x"), 100, 80, 20)
    assert sorted([small, large, heavy], key=lambda picture: picture.order) == [heavy, large, small]
