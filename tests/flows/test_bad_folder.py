"""A folder as people have it: what is no photograph is named with its reason and changes nothing else."""

import os
import shutil
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage.hdf5 import file as hdf5
from storage.store import ledger
from storage.store.store import Store
from town.town import TownOptions, render_town

ROOT = Path(__file__).resolve().parents[2]
SETS = ("reconstruction.working.working_size=320", "reconstruction.description.image_size=96")
ODD_NAMES = ("two  spaces and more.jpg", "line\nbreak.jpg", "größe 東京 🗼.jpg")
ROTATED_BY_90 = 6


@dataclass(frozen=True)
class Result:
    """A run on a folder: its scene, and name -> row of photos/."""

    scene: dict[str, Any]
    rows: dict[str, int]
    mapping: list[str]
    output: str

    def of(self, name: str, column: str) -> Any:
        return self.scene[f"photos/{column}"][self.rows[name]]


def reconstructed(photos: Path, store: Path) -> Result:
    sets = [part for text in SETS for part in ("--set", text)]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "flows.cli.main",
            "run",
            photos,
            "--store",
            store,
            "--until",
            "reconstruct",
            *sets,
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output
    opened = Store.open(store)
    record = ledger.load(opened, "latest")
    scene = hdf5.read(opened.path(record.refs_of("scene")[0]), "scene")
    rows = {str(name): row for row, name in enumerate(scene["photos/name"])}
    return Result(scene, rows, [ref.content_sha256 for ref in record.refs_of("mapping")], output)


def add_bad_files(folder: Path, elsewhere: Path) -> None:
    """Files that are no photographs, odd photographs of places seen once, odd names for good ones."""
    single, other, third = render_singles(elsewhere)
    good = sorted(path for path in folder.iterdir())
    for name, path in zip(ODD_NAMES, good, strict=False):
        path.rename(folder / name)
    (folder / "text.jpg").write_text("Dear diary, this is no photograph.")
    (folder / "empty.jpg").touch()
    whole = single.read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "huge.png").write_bytes(png_header(60_000, 60_000))
    Image.open(single).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    Image.open(other).convert("L").save(folder / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = ROTATED_BY_90
    Image.open(third).save(folder / "rotated.jpg", exif=exif, quality=95)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "itself.jpg").symlink_to(folder / "itself.jpg")
    (folder / "below").mkdir()
    shutil.copy(good[-1], folder / "below" / "copy.jpg")
    (folder / "notes.txt").write_text("neither an image nor named like one")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.jpg")).write_bytes(whole)


def render_singles(folder: Path) -> list[Path]:
    """Photographs of three places, each seen once, of another town."""
    options = TownOptions(
        seed=1, buildings=1, min_views=2, max_views=2, distractors=3, image_width=320, image_height=240
    )
    town = render_town(folder, options)
    return [folder / town.names[row] for row in np.flatnonzero(town.building == -1)]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    lines = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + lines + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Result]:
    """The good photographs alone, and the same among bad ones, in two stores."""
    folder = tmp_path_factory.mktemp("bad_folder")
    options = TownOptions(
        buildings=3, min_views=6, max_views=6, distractors=2, image_width=320, image_height=240
    )
    render_town(folder / "good", options)
    shutil.copytree(folder / "good", folder / "bad")
    add_bad_files(folder / "bad", folder / "elsewhere")
    with ThreadPoolExecutor(2) as pool:
        runs_ = [
            pool.submit(reconstructed, folder / name, folder / f"store-{name}") for name in ("good", "bad")
        ]
        return runs_[0].result(), runs_[1].result()


pytestmark = pytest.mark.slow


def test_every_file_has_a_verdict_and_a_reason(results: tuple[Result, Result]) -> None:
    good, bad = results
    expected = {
        "text.jpg": ("rejected", "image"),
        "empty.jpg": ("rejected", "empty"),
        "truncated.jpg": ("rejected", "truncated"),
        "huge.png": ("rejected", "more pixels"),
        "itself.jpg": ("rejected", "opened"),
        "\\xff\\xfe.jpg": ("rejected", "UTF-8"),
        "below/copy.jpg": ("ok", ""),
        "cmyk.jpg": ("ok", ""),
        "grey.png": ("ok", ""),
        "rotated.jpg": ("ok", ""),
        **dict.fromkeys(ODD_NAMES, ("ok", "")),
    }
    found = {name: (bad.of(name, "status"), bad.of(name, "reason")) for name in expected}
    assert {name: status for name, (status, _) in found.items()} == {n: s for n, (s, _) in expected.items()}
    for name, (_, word) in expected.items():
        assert word in found[name][1] and bool(word) == bool(found[name][1]), (name, found[name])
    assert len(bad.rows) == len(good.rows) + 10  # no file of the linked folder, nor notes.txt
    assert "notes.txt" not in bad.rows and "left out, no photographs: 1 .txt" in bad.output


def test_a_duplicate_points_at_the_photograph_that_stands_for_it(results: tuple[Result, Result]) -> None:
    _, bad = results
    row = int(np.flatnonzero(bad.scene["photos/status"] == "duplicate")[0])
    same = bad.scene["photos/sha256"] == bad.of("below/copy.jpg", "sha256")
    assert list(np.flatnonzero(same)) == sorted([bad.rows["below/copy.jpg"], row])
    assert bad.scene["photos/alias_of"][row] == bad.rows["below/copy.jpg"]
    assert (bad.scene["photos/status"] == "duplicate").sum() == 1


def test_a_rotated_photograph_stands_upright(results: tuple[Result, Result]) -> None:
    _, bad = results
    assert bad.of("rotated.jpg", "orientation") == ROTATED_BY_90
    assert (bad.of("rotated.jpg", "working_width"), bad.of("rotated.jpg", "working_height")) == (240, 320)
    assert (bad.of("grey.png", "working_width"), bad.of("grey.png", "working_height")) == (320, 240)


def test_the_good_photographs_give_the_same_models(results: tuple[Result, Result]) -> None:
    good, bad = results
    ours, theirs = models(good.scene), models(bad.scene)
    assert len(ours) >= 2 and sum(map(len, ours)) >= 12
    assert ours.keys() == theirs.keys()
    for photographs, cameras in ours.items():
        for sha in photographs:
            for name, values in cameras[sha].items():
                np.testing.assert_array_equal(values, theirs[photographs][sha][name], err_msg=f"{sha} {name}")
    assert sorted(good.mapping) == sorted(bad.mapping)


def models(scene: dict[str, Any]) -> dict[frozenset[str], dict[str, dict[str, Any]]]:
    """Photographs of a model -> per photograph (sha256) its camera and what it sees, free of row numbers."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    indptr, params = scene["visibility/indptr"], scene["cameras/params/indptr"]
    for row, photo in enumerate(scene["cameras/photo"].tolist()):
        seen = slice(indptr[row], indptr[row + 1])
        camera = {
            "cam_from_world": scene["cameras/cam_from_world"][row],
            "params": scene["cameras/params/value"][params[row] : params[row + 1]],
            "xy_px": scene["visibility/xy_px"][seen],
            "keypoint": scene["visibility/keypoint"][seen],
            "depth": scene["visibility/depth"][seen],
            "xyz": scene["points/xyz"][scene["visibility/point"][seen]],
        }
        sha = str(scene["photos/sha256"][photo])
        found.setdefault(int(scene["cameras/model"][row]), {})[sha] = camera
    return {frozenset(cameras): cameras for cameras in found.values()}
