"""queries.csv and database.csv of places, as people's programs write them."""

import logging
import shutil
import unicodedata
from pathlib import Path

import pytest

from retrieval.benchmarks.msls import InvalidMsls, read_msls
from retrieval.official.readers.files import InvalidBenchmarkFile, MissingBenchmarkFile
from retrieval.official.readers.gldv2 import _solution
from retrieval.official.registry import read_benchmark
from tests.official import needs, official

BOM = official("cases", "places_bom")
QUERIES = [("queries/é 1.jpg", 500_000.5, 5_300_000), ("queries/2.jpg", 501_000, 5_300_001)]
DATABASE = [("database/1.jpg", 500_001, 5_300_000), ("database/2.jpg", 501_002.25, 5_300_000)]


def places(
    root: Path, separator: str = ",", decimal: str = ".", encoding: str = "utf-8", more: str = ""
) -> Path:
    root.mkdir(exist_ok=True)
    for file, rows in (("queries.csv", QUERIES), ("database.csv", DATABASE)):
        lines = [separator.join([name, *(str(n).replace(".", decimal) for n in at)]) for name, *at in rows]
        lines = [separator.join(["Image", "EASTING", " northing "]), *lines, *([more] if more else [])]
        (root / file).write_bytes("\r\n".join(lines).encode(encoding))
    return root


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(("separator", "decimal"), [(",", "."), (";", ","), ("\t", ","), ("\t", ".")])
def test_every_way_to_write_places_is_the_same_benchmark(tmp_path, separator, decimal, encoding):
    found = read_benchmark("places", places(tmp_path, separator, decimal, encoding), images=False)
    assert found.digest == read_benchmark("places", places(tmp_path / "plain"), images=False).digest
    assert found.query_names == ("queries/é 1.jpg", "queries/2.jpg")
    assert [ids.tolist() for ids in found.positives] == [[0], [1]]


@needs(BOM)
def test_the_places_with_a_mark_that_were_seen(tmp_path):
    found = read_benchmark("places", BOM, images=False)
    for file in BOM.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    assert found.digest == read_benchmark("places", tmp_path, images=False).digest and len(found.queries) > 0


def test_places_without_a_fix_are_left_out_and_said(tmp_path, caplog):
    root = places(tmp_path, more="lost.jpg,0.0,0.0")
    with caplog.at_level(logging.WARNING):
        found = read_benchmark("places", root, images=False)
    assert found.query_names == ("queries/é 1.jpg", "queries/2.jpg") and len(found.database) == 2
    note = "1 queries and 1 database images without a position (0, 0) left out"
    assert note in caplog.text and note in found.notes


def test_files_are_found_in_whatever_form_the_list_names_them(tmp_path):
    root = places(tmp_path)
    for name, *_ in (*QUERIES, *DATABASE):
        file = root / unicodedata.normalize("NFD", name).replace(".jpg", ".JPG")
        file.parent.mkdir(exist_ok=True)
        file.touch()
    found = read_benchmark("places", root)
    assert [unicodedata.normalize("NFC", image.file) for image in found.queries] == [
        "queries/é 1.JPG", "queries/2.JPG",
    ]  # fmt: skip
    text = (root / "queries.csv").read_text().replace("queries/", "queries\\")
    (root / "queries.csv").write_text(text)
    assert read_benchmark("places", root).queries == found.queries
    shutil.rmtree(root / "queries")
    with pytest.raises(MissingBenchmarkFile):
        read_benchmark("places", root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "picture,easting,northing\na,1,2\n",
            r"queries\.csv, line 1: the columns are 'picture,easting,northing'",
        ),
        ("image,easting,northing\na,1,x\n", r"queries\.csv, line 2: northing is 'x'"),
        ("image,easting,northing\na,nan,1\n", r"queries\.csv, line 2: easting is 'nan'"),
        ("image;easting;northing\na;500,001;1\n", r"queries\.csv, line 2: .*may be"),
        ("image,easting,northing\na,1\n", r"queries\.csv, line 2: 2 fields"),
        ("", r"queries\.csv, line 1"),
    ],
)
def test_a_bad_table_is_named_with_its_line(tmp_path, text, message):
    places(tmp_path)
    (tmp_path / "queries.csv").write_text(text)
    with pytest.raises(InvalidBenchmarkFile, match=message):
        read_benchmark("places", tmp_path, images=False)


def test_other_lists_name_their_line_too(tmp_path):
    (tmp_path / "list_query.txt").write_text("\ufeff0000/0000_000_01_a.jpg 0\n\n0001/x.jpg 1\n")
    (tmp_path / "list_gallery.txt").write_text("0000/0000_001_01_a.jpg 0\n")
    with pytest.raises(InvalidBenchmarkFile, match=r"list_query\.txt', line 3: .*expected lines such as"):
        read_benchmark("msmt17", tmp_path, images=False)
    (tmp_path / "s.csv").write_bytes(b"\xef\xbb\xbfid,images,Usage\r\nq,a b,Private\r\nr,c,Public")
    assert _solution(tmp_path / "s.csv") == ({"q": "Private", "r": "Public"}, {"q": ["a", "b"], "r": ["c"]})
    for side in ("query", "database"):
        (tmp_path / "train_val" / "cph" / side).mkdir(parents=True)
        for name in ("seq_info", "subtask_index", "postprocessed", "raw"):
            (tmp_path / "train_val" / "cph" / side / f"{name}.csv").write_text(",key\n0,a\n")
    with pytest.raises(InvalidMsls, match=r"seq_info\.csv', line 1: has no column 'sequence_key' but key"):
        read_msls(tmp_path, task="im2im", subtask="all")
