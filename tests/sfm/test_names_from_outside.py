"""Every list finds the same photographs, whatever system wrote their names; positions that are none."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm.features.imported import group_names
from sfm.lists.photographs import Listed, UnusablePhotographs, find_photographs
from sfm.lists.position_tables import read_positions
from sfm.lists.positions import PositionOptions, from_csv
from sfm.lists.select import ListOptions, kind_of, select_from_list
from sfm.pairing.listed import UnusablePairList, listed_pairs
from sfm.scene.importing import UnknownImages, photographs_of
from storage.outside.text import BadText
from storage.photographs.scanning import scan
from storage.photographs.tables import PhotoEntry
from tests.sfm.exported_scenes import catalogue_of
from tests.sfm.hloc_files import blank, write_hloc

NAMES = ["Fête/Église ü.JPG", "Fête/b.jpg", "Straße 1.jpeg"]
FORMS: dict[str, Callable[[str], str]] = {
    "as they are": str,
    "decomposed": lambda name: unicodedata.normalize("NFD", name),
    "backslashes": lambda name: name.replace("/", "\\"),
    "other endings": lambda name: name.rpartition(".")[0] + "." + name.rpartition(".")[2].swapcase(),
    "all of it": lambda name: (
        ".\\" + unicodedata.normalize("NFD", name).replace("/", "\\").replace("jpg", "JPG")
    ),
}
SHAS = {name: f"{number:064d}" for number, name in enumerate(NAMES)}


def photographs_by_list(names: list[str], tmp_path: Path) -> list[str]:
    files = [PhotoEntry(name, sha, 1, 1, 1, "ok") for name, sha in SHAS.items()]
    listed = Listed(names, [""] * 3, [""] * 3, ("", "ims/"))
    return [file.name for file in find_photographs(listed, files, "a.csv")]


def photographs_by_pairs(names: list[str], tmp_path: Path) -> list[str]:
    lines = [f"{one}\t{other}" for one, other in zip(names, [*names[1:], names[0]], strict=True)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines), encoding="utf-8")
    pairs = listed_pairs(tmp_path / "pairs.txt", SHAS, SHAS.values())
    return [name for pair in pairs for name, sha in SHAS.items() if sha == pair[0]]


def photographs_by_model(names: list[str], tmp_path: Path) -> list[str]:
    photos = catalogue_of({sha: name for name, sha in SHAS.items()})
    found = photographs_of(names, photos)
    return [str(photos["name"][found[name]]) for name in names]


def photographs_by_hloc(names: list[str], tmp_path: Path) -> list[str]:
    groups = dict(zip(names, SHAS.values(), strict=True))
    file = write_hloc(tmp_path / "f.h5", {name: blank() for name in groups})
    found = group_names(file, SHAS, list(SHAS.values()))
    return [name for listed in names for name, sha in SHAS.items() if found[sha] == listed]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "lookup", [photographs_by_list, photographs_by_pairs, photographs_by_model, photographs_by_hloc]
)
def test_every_list_finds_the_same_photographs_in_every_form(lookup, form, tmp_path):
    assert lookup([FORMS[form](name) for name in NAMES], tmp_path) == NAMES


def test_the_form_of_a_folder_is_found_too(tmp_path):
    """Names composed in the list, decomposed on disk, and the other way round."""
    listed, on_disk = "place é/ü.png", unicodedata.normalize("NFD", "place é/ü.png")
    for written, there in ((listed, on_disk), (on_disk, listed)):
        root = tmp_path / str(written == listed)
        (root / there).parent.mkdir(parents=True)
        for number, name in enumerate((there, "other.png")):
            pixels = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name)
        (tmp_path / "p.csv").write_text(f"name;easting;northing\n{written};1,5;2\nother.PNG;3;4\n")
        assert kind_of(tmp_path / "p.csv") == "positions"
        files = scan(root, tmp_path / "scan.json").entries
        places = PositionOptions(val_fraction=0, test_fraction=0)
        options = ListOptions(list=tmp_path / "p.csv", positions=places)
        chosen = select_from_list(options, files, lambda name, root=root: root / name)
        assert chosen.images.name.tolist() == [there, "other.png"]
        assert (
            from_csv(tmp_path / "p.csv", root, places).images.sha256.tolist() == chosen.images.sha256.tolist()
        )


def test_a_name_that_only_nearly_agrees_says_so(tmp_path):
    names = [NAMES[0].lower(), *NAMES[1:]]
    with pytest.raises(UnusablePhotographs, match=r"1 of 3 .*only upper and lower case differ from 'Fête"):
        photographs_by_list(names, tmp_path)
    with pytest.raises(UnusablePairList, match=r"pairs\.txt, line 1: .*only upper and lower case differ"):
        photographs_by_pairs(names, tmp_path)
    with pytest.raises(UnknownImages, match=r"1 of 3 images .*only upper and lower case differ from"):
        photographs_by_model(names, tmp_path)
    twins = [PhotoEntry(name, name, 1, 1, 1, "ok") for name in ("x.JPG", "x.jpg")]
    with pytest.raises(UnusablePhotographs, match=r"it may be 'x\.JPG' and 'x\.jpg'"):
        find_photographs(Listed(["x.Jpg"], [""], [""]), twins, "a.csv")


def test_a_pair_of_names_as_they_stand_is_no_pair_of_other_forms(tmp_path):
    known = {"a b.jpg": "1", "a": "2", "b.jpg c.jpg": "3", "c.jpg": "4", "B.JPG c.jpg": "5"}
    (tmp_path / "pairs.txt").write_text("a b.jpg c.jpg\n")
    with pytest.raises(UnusablePairList, match=r"line 1: .*can be read as"):
        listed_pairs(tmp_path / "pairs.txt", known, known.values())
    known = {"a b.jpg": "1", "c.jpg": "4", "a": "2", "b.jpg c.JPG": "3"}
    assert listed_pairs(tmp_path / "pairs.txt", known, known.values()) == [("1", "4")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_pairs_of_any_system(tmp_path, encoding, end):
    lines = ["# pairs", "", f"{NAMES[0]}\t{NAMES[1]}", f"{NAMES[1]}\t{NAMES[2]}"]
    (tmp_path / "pairs.txt").write_bytes(end.join(lines).encode(encoding))
    first, second, third = SHAS.values()
    assert listed_pairs(tmp_path / "pairs.txt", SHAS, SHAS.values()) == [(first, second), (second, third)]
    (tmp_path / "pairs.txt").write_bytes(end.join([*lines, f"{NAMES[0]}\tnone.jpg"]).encode(encoding))
    with pytest.raises(UnusablePairList, match=r"line 5: no photograph is called 'none\.jpg'"):
        listed_pairs(tmp_path / "pairs.txt", SHAS, SHAS.values())


ALL_TRAIN = PositionOptions(val_fraction=0, test_fraction=0)
FIXED = "a,48.1,16.2\nb,48.10001,16.2\nc,48.2,16.2\n"
EIGHT = "".join(f"lost {n},0.0,0.0\n" for n in range(8))


@pytest.mark.parametrize("columns", ["latitude,longitude", "easting,northing"])
@pytest.mark.parametrize("zero", ["0.0,0.0", "0,-0", ",", "0.000,0e0"])
def test_places_without_a_fix_are_left_out_with_a_note(tmp_path, caplog, columns, zero):
    """Eight photographs at 0, 0 became each other's positives."""
    rows = FIXED if columns.startswith("lat") else "a,500000,5300000\nb,500001,5300000\nc,501000,5300000\n"
    (tmp_path / "p.csv").write_text(f"name,{columns}\n{rows}{EIGHT.replace('0.0,0.0', zero)}")
    with caplog.at_level(logging.WARNING):
        chosen = from_csv(tmp_path / "p.csv", options=ALL_TRAIN)
    assert chosen.images.name.tolist() == ["a", "b", "c"] and chosen.queries.image.tolist() == [0, 1]
    note = "8 without a position (empty or 0, 0), left out: 'lost 0', 'lost 1'"
    assert note in caplog.text and chosen.summary["warnings"][0].startswith(note)
    assert chosen.summary["without_position"] == 8


def test_the_origin_of_a_local_frame_is_a_position(tmp_path):
    (tmp_path / "p.csv").write_text("name,easting,northing\na,0,0\nb,3,4\n")
    rows = read_positions(tmp_path / "p.csv")
    assert rows.names == ["a", "b"] and rows.notes == () and rows.without_position == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,latitude,longitude\na,151.2,-33.8\nb,151.1,-33.9\n", "line 2: .*look exchanged"),
        ("name,latitude,longitude\na,151.2,-133.8\n", "line 2: latitude is '151.2'; give a number .* 90$"),
        ("name,latitude,longitude\na,48.1,\n", "line 2: longitude is ''; give a number"),
        ("name,latitude,longitude\na,,16\n", "line 2: latitude is ''; give a number"),
        ("name,latitude,longitude\na,0,0\nb,,\n", "no row has a position"),
        ("name,easting,northing,heading\na,1,2,4000\n", "line 2: heading is '4000'"),
    ],
)
def test_implausible_positions_are_errors(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(BadText, match=message):
        read_positions(tmp_path / "p.csv")


def test_odd_metres_are_said(tmp_path, caplog):
    (tmp_path / "p.csv").write_text("name;easting;northing\na;2,29451;48,85831\nb;2,34991;48,85303\n")
    with caplog.at_level(logging.WARNING):
        assert "look like degrees" in read_positions(tmp_path / "p.csv").notes[0]
    assert "look like degrees" in caplog.text
