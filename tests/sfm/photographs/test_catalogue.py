"""The catalogue tells of every file what became of it."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from sfm.photographs.catalogue import (
    MissingOutcome,
    make_catalogue,
    read_catalogue,
    read_names,
    read_positions,
    to_decode,
)
from sfm.photographs.outcome import Outcome
from storage.hdf5 import file as hdf5

A, B, C = "a" * 64, "b" * 64, "c" * 64
GOOD = Outcome("ok", "", 1000, 800, 6, 512, 640, 555.5)


@dataclass(frozen=True)
class File:
    name: str
    sha256: str
    status: str = "ok"
    reason: str = ""
    size: int = 1


FILES = [
    File("z/first.jpg", B),
    File("a copy.jpg", A),
    File("b\noriginal.jpg", A),
    File("broken.jpg", C),
    File("broken too.jpg", C),
    File("film.mp4", "", "unsupported", "video (.mp4)"),
]
OUTCOMES = {
    A: GOOD,
    B: Outcome("ok", "first of 3 frames", 10, 10, 1, 10, 10),
    C: Outcome("rejected", "empty"),
}


def test_each_content_is_decoded_once_under_its_first_name():
    assert to_decode(FILES[::-1]) == [(A, "a copy.jpg"), (B, "z/first.jpg"), (C, "broken too.jpg")]


def test_every_file_has_a_row(tmp_path):
    catalogue = make_catalogue(FILES, OUTCOMES, tmp_path / "catalogue.h5", inputs=["d" * 64])
    rows = hdf5.read(tmp_path / "catalogue.h5", "catalogue")
    assert rows["photos/name"].tolist() == sorted(file.name for file in FILES)
    by_name = dict(zip(rows["photos/name"].tolist(), rows["photos/status"].tolist(), strict=True))
    assert by_name == {
        "a copy.jpg": "ok",
        "b\noriginal.jpg": "duplicate",
        "broken too.jpg": "rejected",
        "broken.jpg": "rejected",
        "film.mp4": "unsupported",
        "z/first.jpg": "ok",
    }
    assert rows["photos/alias_of"].tolist() == [-1, 0, -1, -1, -1, -1]
    assert rows["photos/reason"].tolist()[2:] == ["empty", "empty", "video (.mp4)", "first of 3 frames"]
    assert rows["photos/focal_prior_px"][0] == 555.5 and math.isnan(rows["photos/focal_prior_px"][5])
    assert (rows["photos/working_width"][0], rows["photos/orientation"][0]) == (512, 6)
    assert catalogue.shas == (A, B)
    assert catalogue.names == ("a copy.jpg", "z/first.jpg")
    assert catalogue.counts == {"duplicate": 1, "ok": 2, "rejected": 2, "unsupported": 1}
    assert read_catalogue(tmp_path / "catalogue.h5") == catalogue


def test_the_order_of_the_scan_does_not_matter(tmp_path):
    make_catalogue(FILES, OUTCOMES, tmp_path / "1.h5")
    make_catalogue(FILES[::-1], OUTCOMES, tmp_path / "2.h5")
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_an_empty_folder_gives_an_empty_catalogue(tmp_path):
    assert make_catalogue([], {}, tmp_path / "c.h5").shas == ()


def test_a_photograph_that_nobody_decoded_is_an_error(tmp_path):
    with pytest.raises(MissingOutcome, match=r"a copy\.jpg"):
        make_catalogue(FILES, {B: GOOD, C: GOOD}, tmp_path / "c.h5")


def test_the_names_of_a_photograph_are_those_of_its_copies_too(tmp_path):
    make_catalogue(FILES, OUTCOMES, tmp_path / "c.h5")
    assert read_names(tmp_path / "c.h5") == {
        "a copy.jpg": A,
        "b\noriginal.jpg": A,
        "z/first.jpg": B,
        "broken.jpg": "",
        "broken too.jpg": "",
        "film.mp4": "",
    }


def test_positions_are_there_for_collections_that_have_one(tmp_path):
    make_catalogue(FILES, OUTCOMES, tmp_path / "none.h5")
    assert not [path for path in hdf5.read(tmp_path / "none.h5") if "latitude" in path or "altitude" in path]
    assert np.isnan(read_positions(tmp_path / "none.h5")).all()
    assert read_positions(tmp_path / "none.h5").shape == (2, 3)
    placed = OUTCOMES | {B: replace(OUTCOMES[B], latitude_deg=-10.5, longitude_deg=20.25)}
    make_catalogue(FILES, placed, tmp_path / "some.h5")
    np.testing.assert_array_equal(
        read_positions(tmp_path / "some.h5"), [[np.nan] * 3, [-10.5, 20.25, np.nan]]
    )
    with hdf5.open_artifact(tmp_path / "some.h5", "catalogue") as artifact:
        assert artifact.validate() == []
