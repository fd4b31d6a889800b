"""Photographs: size, crop, orientation, odd modes, bad files, loading ahead."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.describe.images import (
    PhotographCache,
    UnreadablePhotograph,
    limit_array,
    load_photograph,
    loaded_ahead,
    normalise,
)


def picture(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    picture(200, 100).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_longer_side_is_limited_and_never_enlarged(photo: Path) -> None:
    assert load_photograph(photo, 80).shape == (40, 80, 3)
    assert load_photograph(photo, 999).shape == (100, 200, 3)
    np.testing.assert_array_equal(load_photograph(photo, None), np.asarray(picture(200, 100)))


def test_lanczos_of_the_whole_photograph(photo: Path) -> None:
    expected = picture(200, 100)
    expected.thumbnail((50, 50), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(load_photograph(photo, 50), np.asarray(expected))


def test_a_crop_keeps_the_resolution_of_the_whole(photo: Path) -> None:
    # 100 of 200 px at image_size 80: limited to 80 * 100 / 200 = 40 px
    assert load_photograph(photo, 80, (50, 0, 150, 50)).shape == (20, 40, 3)
    whole = load_photograph(photo, None, (50, 10, 150, 60))
    np.testing.assert_array_equal(whole, np.asarray(picture(200, 100))[10:60, 50:150])
    with pytest.raises(UnreadablePhotograph, match="empty crop"):
        load_photograph(photo, 80, (50, 10, 50, 60))


def test_exif_rotation_is_a_choice(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(200, 100).save(tmp_path / "r.jpg", exif=exif)
    assert load_photograph(tmp_path / "r.jpg", 100).shape == (100, 50, 3)
    assert load_photograph(tmp_path / "r.jpg", 100, as_reference=True).shape == (50, 100, 3)


def test_odd_modes_become_rgb(tmp_path: Path) -> None:
    picture(20, 10).convert("CMYK").save(tmp_path / "cmyk.jpg")
    picture(20, 10).convert("L").save(tmp_path / "grey.png")
    picture(20, 10).convert("RGBA").save(tmp_path / "alpha.png")
    picture(20, 10).convert("P").save(tmp_path / "palette.gif")
    ramp = np.tile(np.linspace(0x40, 0xFFFF, 20).astype(np.uint16), (10, 1))
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    for name in ("cmyk.jpg", "grey.png", "alpha.png", "palette.gif", "deep.png"):
        pixels = load_photograph(tmp_path / name, None)
        assert pixels.shape == (10, 20, 3) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(load_photograph(tmp_path / "deep.png", None)[:, :, 0], ramp >> 8)


def test_draft_decoding_is_close_to_the_full_one(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    smooth = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((1600, 1200), 3)
    smooth.save(tmp_path / "a.jpg", quality=95)
    full = load_photograph(tmp_path / "a.jpg", 160)
    fast = load_photograph(tmp_path / "a.jpg", 160, draft=True)
    assert full.shape == fast.shape
    assert np.abs(full.astype(int) - fast).mean() < 2


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no photograph")
    (tmp_path / "empty.jpg").touch()
    picture(400, 300).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:2000])
    for name in ("text.jpg", "empty.jpg", "cut.jpg", "missing.jpg"):
        with pytest.raises(UnreadablePhotograph, match=name):
            load_photograph(tmp_path / name, 100)


def test_arrays_have_the_same_limit(photo: Path) -> None:
    full = np.asarray(picture(200, 100))
    np.testing.assert_array_equal(limit_array(full, 80), load_photograph(photo, 80))
    assert limit_array(full, 500) is full
    with pytest.raises(UnreadablePhotograph, match="uint8"):
        limit_array(full.astype(np.float32), 80)


def test_normalise_by_hand() -> None:
    pixels = np.array([[[0, 51, 255]]], dtype=np.uint8)
    tensor = normalise(pixels, (0.5, 0.1, 0.0), (0.5, 0.1, 2.0))
    torch.testing.assert_close(tensor, torch.tensor([-1.0, 1.0, 0.5]).view(1, 3, 1, 1))


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_loading_ahead_keeps_the_order_and_raises_in_its_turn(threads: int) -> None:
    def load(key: int) -> int:
        if key == 7:
            raise KeyError(key)
        return key * key

    assert list(loaded_ahead(range(7), load, threads=threads)) == [k * k for k in range(7)]
    values = loaded_ahead(range(20), load, threads=threads)
    assert [next(values) for _ in range(7)] == [k * k for k in range(7)]
    with pytest.raises(KeyError):
        next(values)


def test_loading_ahead_is_bounded_and_leaves_no_thread() -> None:
    asked: list[int] = []
    values = loaded_ahead(iter(range(100)), lambda key: asked.append(key) or key, threads=1, ahead=4)
    next(values)
    values.close()
    assert max(asked) <= 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_cache_loads_once_up_to_its_limit() -> None:
    asked: list[int] = []

    def load(key: int) -> np.ndarray:
        asked.append(key)
        return np.zeros((10, 10, 3), dtype=np.uint8)

    cache = PhotographCache(load, 650)
    for key in (0, 1, 2, 0, 1, 2):
        assert cache(key).shape == (10, 10, 3)
    assert asked == [0, 1, 2, 2]
