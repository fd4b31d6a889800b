"""Lists that people bring: what a file is, whose photographs it names, and the training set of each kind."""

from __future__ import annotations

import hashlib
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from sfm.lists import identities, positions
from sfm.lists.identities import IdentityOptions
from sfm.lists.photographs import Listed, UnusablePhotographs, find_photographs
from sfm.lists.positions import PositionOptions
from sfm.lists.select import ListOptions, UnknownList, kind_of, listed_digests, read_list, select_from_list
from sfm.training_set.cirtorch import CirtorchOptions
from sfm.training_set.cirtorch_file import image_path
from sfm.training_set.duplicates import Contradiction
from sfm.training_set.known_truth import NothingToTrainOn
from sfm.training_set.training_set import TrainingSet
from storage.outside.text import BadText
from storage.photographs.scanning import scan
from storage.photographs.tables import PhotoEntry

SIX = [f"{n} ü.png" for n in range(6)]
PLACES = PositionOptions(val_fraction=0, test_fraction=0)
PEOPLE = IdentityOptions(val_fraction=0, test_fraction=0)


def draw(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 255, (36, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for n, name in enumerate(SIX):
        draw(tmp_path / "photos" / name, 20 * n)
    return tmp_path / "photos"


def files_of(photos: Path) -> list[PhotoEntry]:
    return list(scan(photos, photos.parent / "scan.json").entries)


def sha_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def chosen(file: Path, photos: Path, **options: Any) -> TrainingSet:
    return select_from_list(ListOptions(list=file, **options), files_of(photos), lambda name: photos / name)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def places(path: Path) -> Path:
    rows = [f"{name},{100 * (n // 2) + n},0" for n, name in enumerate(SIX)]
    return written(path / "places.csv", "\n".join(["name,easting,northing", *rows]))


def people(path: Path) -> Path:
    rows = [f"{name},p{n // 2}" for n, name in enumerate(SIX)]
    return written(
        path / "people.csv", "\n".join(["Identity,NAME", *(",".join(r.split(",")[::-1]) for r in rows)])
    )


def reference(path: Path, cids: list[str]) -> Path:
    """Three clusters of two, the last in val, each first image a query."""
    train = {"cids": cids[:4], "cluster": [0, 0, 1, 1], "qidxs": [0, 2], "pidxs": [1, 3]}
    val = {"cids": cids[4:], "cluster": [0, 0], "qidxs": [0], "pidxs": [1]}
    (path / "list.pkl").write_bytes(pickle.dumps({"train": train, "val": val}, protocol=2))
    return path / "list.pkl"


def pairs(training_set: TrainingSet) -> set[tuple[str, str]]:
    names = training_set.images.name
    return {
        (names[q], names[p])
        for row, q in enumerate(training_set.queries.image)
        for p in training_set.positives.m3.row(row)
    }


NEIGHBOURS = {(SIX[n], SIX[n ^ 1]) for n in range(6)}


def test_what_a_file_is(tmp_path: Path) -> None:
    assert kind_of(places(tmp_path)) == "positions" and kind_of(people(tmp_path)) == "identities"
    assert kind_of(written(tmp_path / "gps.CSV", "\ufeffname,Latitude,longitude\n")) == "positions"
    assert kind_of(written(tmp_path / "a.PKL", "")) == "cirtorch"
    assert kind_of(written(tmp_path / "a.h5", "")) == "training_set"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "name,identity,easting,northing",
            "of positions and of identities at once; give name,easting,northing",
        ),
        ("file,label", "'file,label' are of neither positions nor identities; give name,easting"),
        (
            "name;northing;latitude;identity",
            r"of positions and .* or name,identity\[,camera\] \(identities\), parted by commas, semicolons",
        ),
        ("name|easting", "of neither"),
        ("", "of neither"),
    ],
)
def test_a_foreign_header_names_the_columns(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(UnknownList, match=message):
        kind_of(written(tmp_path / "rows.csv", f"{header}\n"))


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UnknownList, match="is no file; give a list"):
            kind_of(path)
    with pytest.raises(UnknownList, match=r"is no list that is read here; give a \.csv"):
        kind_of(written(tmp_path / "rows.txt", ""))
    (tmp_path / "japanese.csv").write_bytes("name,identity\n写真.jpg,1\n".encode("shift-jis"))
    with pytest.raises(BadText, match=r"line 2: is not UTF-8 \(byte 14 is 0x8E\); save it as UTF-8"):
        kind_of(tmp_path / "japanese.csv")
    with pytest.raises(BadText, match="they must be name,easting"):
        read_list(written(tmp_path / "half.csv", "name,easting\na,1\n"))
    with pytest.raises(ValueError, match=r"broken\.h5"):
        read_list(written(tmp_path / "broken.h5", "no HDF5"))


def test_positions_and_identities_are_those_of_the_csv(photos: Path, tmp_path: Path) -> None:
    for file, options, direct in (
        (places(tmp_path), {"positions": PLACES}, positions.from_csv),
        (people(tmp_path), {"identities": PEOPLE}, identities.from_csv),
    ):
        found = chosen(file, photos, **options)
        assert pairs(found) == NEIGHBOURS
        assert found.images.sha256.astype(str).tolist() == [sha_of(photos / name) for name in SIX]
        expected = direct(file, photos, next(iter(options.values()))).arrays()
        for path, array in found.arrays().items():
            np.testing.assert_array_equal(array, expected[path], err_msg=path)


def test_the_options_are_used(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToTrainOn):
        chosen(places(tmp_path), photos, positions=PositionOptions(positive_radius_m=0.5))
    far = PLACES.model_copy(update={"positive_radius_m": 500.0, "negative_radius_m": 600.0})
    assert len(pairs(chosen(places(tmp_path), photos, positions=far))) == 30
    rows = written(tmp_path / "cameras.csv", people(tmp_path).read_text().replace("\n", ",1\n") + ",1")
    rows.write_text(rows.read_text().replace("NAME,1", "NAME,camera"))
    with pytest.raises(NothingToTrainOn):
        chosen(rows, photos, identities=IdentityOptions(other_camera=True))


@pytest.mark.parametrize("folder", ["", "ims"])
def test_the_references_list_in_its_image_tree(tmp_path: Path, folder: str) -> None:
    cids = [hashlib.md5(bytes([n])).hexdigest() for n in range(6)]
    for n, cid in enumerate(cids):
        draw(tmp_path / "set" / folder / image_path(cid), 10 * n)
    (tmp_path / "set" / "README").write_text("no photograph")
    file = reference(tmp_path, cids)
    found = chosen(file, tmp_path / "set", cirtorch=CirtorchOptions(test_fraction=0))
    names = [str(Path(folder) / image_path(cid)) for cid in cids]
    assert found.images.name.tolist() == names
    assert found.images.sha256.astype(str).tolist() == [sha_of(tmp_path / "set" / name) for name in names]
    assert pairs(found) == {(names[0], names[1]), (names[2], names[3]), (names[4], names[5])}
    assert found.images.split.tolist() == [0, 0, 0, 0, 1, 1]


def test_our_own_list_is_matched_by_content(photos: Path, tmp_path: Path) -> None:
    first = chosen(people(tmp_path), photos, identities=PEOPLE)
    first.to_cirtorch(tmp_path / "list.pkl", tmp_path / "ims", photos)
    for root in (photos, tmp_path / "ims"):
        found = chosen(tmp_path / "list.pkl", root, cirtorch=CirtorchOptions(test_fraction=0))
        assert found.images.sha256.tolist() == first.images.sha256.tolist()
        assert len(pairs(found)) == 6 and (pairs(found) == NEIGHBOURS) == (root == photos)


def test_the_training_set_of_another_store(photos: Path, tmp_path: Path) -> None:
    first = chosen(people(tmp_path), photos, identities=PEOPLE)
    first.to_h5(tmp_path / "set.h5")
    (photos / SIX[0]).rename(photos / "renamed.png")
    found = chosen(tmp_path / "set.h5", photos)
    assert found.images.name.tolist() == ["renamed.png", *SIX[1:]]
    expected = first.arrays() | {"images/name": found.images.name}
    for path, array in found.arrays().items():
        np.testing.assert_array_equal(array, expected[path], err_msg=path)
    draw(photos / SIX[1], 255)
    with pytest.raises(
        UnusablePhotographs, match=r"'1 ü\.png': its content is another than when the list was"
    ):
        chosen(tmp_path / "set.h5", photos)


def test_a_training_set_that_knows_names_only(photos: Path, tmp_path: Path) -> None:
    identities.from_csv(people(tmp_path), options=PEOPLE).to_h5(tmp_path / "set.h5")
    found = chosen(tmp_path / "set.h5", photos)
    assert found.images.sha256.astype(str).tolist() == [sha_of(photos / name) for name in SIX]
    draw(photos / SIX[1], 0)
    with pytest.raises(Contradiction, match=r"image 1: '1 ü\.png' is the same photograph as '0 ü\.png'"):
        chosen(tmp_path / "set.h5", photos)


def test_photographs_that_cannot_be_used_are_named_with_the_reason(photos: Path, tmp_path: Path) -> None:
    file = people(tmp_path)
    (photos / "below").mkdir()
    (photos / SIX[0]).rename(photos / "below" / SIX[0])
    (photos / SIX[2]).unlink()
    with pytest.raises(UnusablePhotographs) as raised:
        chosen(file, photos, identities=PEOPLE)
    text = str(raised.value)
    assert text.startswith("people.csv: 2 of 6 photographs of the list")
    assert f"'0 ü.png' ({file}, line 2): not in the folder, did you mean 'below/0 ü.png'?" in text
    assert f"'2 ü.png' ({file}, line 4): not in the folder" in text
    assert "Names are paths below PHOTOS: give the folder that the list was made for" in text


def test_files_that_are_broken_are_named_before_anything_is_trained(photos: Path, tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(300 * 400 * 3)
    Image.frombytes("RGB", (400, 300), noise).save(photos / SIX[1], format="JPEG")
    whole = (photos / SIX[1]).read_bytes()
    (photos / SIX[1]).write_bytes(whole[: len(whole) // 2])
    (photos / SIX[4]).write_text("text")
    for row, why in (
        (4, "text"),
        (1, "truncated"),
    ):  # what the scan tells comes first, nothing is decoded yet
        with pytest.raises(UnusablePhotographs, match="1 of 6") as raised:
            chosen(people(tmp_path), photos, identities=PEOPLE)
        assert repr(SIX[row]) in str(raised.value) and why in str(raised.value)
        (photos / SIX[4]).write_bytes(whole)


def test_of_many_some_are_named() -> None:
    listed = Listed([f"{n}.jpg" for n in range(9)], [""] * 9, [""] * 9)
    with pytest.raises(
        UnusablePhotographs, match=r"9 of 9 .*'4\.jpg': not in the folder; and 4 more\. Names"
    ):
        find_photographs(listed, [], "list.pkl")
    film = PhotoEntry("0.jpg", "", 1, 1, 1, "unsupported", "video (.mp4); extract frames")
    with pytest.raises(UnusablePhotographs, match=r"'0\.jpg': unsupported: video"):
        find_photographs(listed, [film], "list.pkl")


def test_twins_of_a_folder_are_one_image(photos: Path, tmp_path: Path) -> None:
    draw(photos / SIX[1], 0)
    rows = written(tmp_path / "rows.csv", people(tmp_path).read_text().replace("p2", "p0"))
    found = chosen(rows, photos, identities=PEOPLE)
    assert found.images.name.tolist() == [SIX[0], *SIX[2:]]
    assert found.summary["warnings"][0].endswith("taken once: '1 ü.png' = '0 ü.png'")
    draw(photos / SIX[2], 0)
    with pytest.raises(Contradiction, match=r"line 4.*'2 ü.png'.*identities 'p0' and 'p1'"):
        chosen(rows, photos, identities=PEOPLE)
    with pytest.raises(Contradiction, match=r"line 4.*'2 ü.png' is the same .*102\.0 m apart"):
        chosen(places(tmp_path), photos, positions=PLACES)


def test_a_list_without_a_pair_in_train(photos: Path, tmp_path: Path) -> None:
    file = reference(tmp_path, [sha_of(photos / name) for name in SIX])
    lists = pickle.loads(file.read_bytes())
    lists["train"] |= {"qidxs": [], "pidxs": []}
    file.write_bytes(pickle.dumps(lists))
    with pytest.raises(
        NothingToTrainOn, match=r"none of the \d photographs of train has a positive in the list"
    ):
        chosen(file, photos)


def test_the_digests_of_a_list_for_a_plan(photos: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "two.csv", f"name,identity\n{SIX[3]},a\n{SIX[1]},a\n")
    assert listed_digests(file, files_of(photos)) == sorted(sha_of(photos / SIX[n]) for n in (1, 3))
    unread = [PhotoEntry(name, "", 1, 1, 1, "ok") for name in SIX]
    assert listed_digests(file, unread) == [SIX[1], SIX[3]]


def test_options_that_are_none_of_a_list(tmp_path: Path) -> None:
    with pytest.raises((ValidationError, ValueError), match="radius"):
        ListOptions(list=tmp_path, radius=3)
