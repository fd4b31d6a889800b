"""One table, however it is written, gives the same rows; what may mean two things is an error."""

import csv
import io
from itertools import product

import numpy as np
import pytest

from storage.outside.numbers import ANY, number_of
from storage.outside.tables import Columns, read_header, read_table
from storage.outside.text import BadText

PLACES = Columns(
    (
        (("name", "easting", "northing"), ("heading",)),
        (("name", "latitude", "longitude"), ("heading",)),
    ),
    {
        "easting": ANY,
        "northing": ANY,
        "latitude": (-90, 90),
        "longitude": (-180, 180),
        "heading": (-360, 720),
    },
    key="name",
)
HEADER = ["name", "latitude", "longitude", "heading"]
ROWS = [
    ["église.jpg", "48.8583", "2.2945", ""],
    ["walk/a, b; c.jpg", "-33.5", "151.25", "90"],
    [' quoted "x"\ttab.jpg', "-.5", "+1e-3", "359.125"],
]
MARKS = {"utf-8": "", "utf-8-sig": "", "utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}
CASES = {"lower": str.lower, "upper": str.upper, "title": lambda name: f" {name.title()} "}


def written(separator: str, decimal: str, quoting: int, case: str, end: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=end)
    writer.writerow([CASES[case](name) for name in HEADER])
    for name, *numbers in ROWS:
        writer.writerow([name, *(number.replace(".", decimal) for number in numbers)])
    return out.getvalue()


@pytest.mark.parametrize(("encoding", "end"), product(MARKS, ("\n", "\r\n", "\r")))
def test_every_way_to_write_a_table_gives_the_same_rows(tmp_path, encoding, end):
    ways = product(
        ((",", "."), (";", "."), ("\t", "."), (";", ","), ("\t", ",")),
        (csv.QUOTE_MINIMAL, csv.QUOTE_ALL),
        CASES,
        ("", "sep"),
        (True, False),
    )
    for (separator, decimal), quoting, case, hint, last in ways:
        text = written(separator, decimal, quoting, case, end)
        text = (f"sep={separator}{end}" if hint else "") + (text if last else text.removesuffix(end))
        (tmp_path / "t.csv").write_bytes((MARKS[encoding] + text).encode(encoding))
        table = read_table(tmp_path / "t.csv", PLACES)
        assert table.columns["name"] == [row[0] for row in ROWS]
        assert table.line == [first + bool(hint) for first in (2, 3, 4)]
        for place, column in enumerate(HEADER[1:], start=1):
            expected = [float(row[place] or "nan") for row in ROWS]
            np.testing.assert_array_equal(table.numbers(column, empty=True), expected)


def test_order_of_columns_blank_lines_and_empty_columns_of_excel(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\r\nNorthing;NAME;easting;;\r\n2;a;1;;\r\n;;;;\r\n\r\n4;b;3;;\r\n")
    table = read_table(tmp_path / "t.csv", PLACES)
    assert table.columns == {"northing": ["2", "4"], "name": ["a", "b"], "easting": ["1", "3"]}
    assert table.line == [3, 6]
    (tmp_path / "t.csv").write_bytes(b"name;easting;northing;\na;1;2;3\n")
    with pytest.raises(BadText, match="line 2: 4 fields, the header has 3"):
        read_table(tmp_path / "t.csv", PLACES)


def test_a_line_break_in_quotes_belongs_to_the_field_and_lines_are_still_counted(tmp_path):
    (tmp_path / "t.csv").write_bytes(b'name,easting,northing\r\n"a\nb.jpg",1,2\r\nc,x,2\r\n')
    with pytest.raises(BadText, match="line 4: easting is 'x'"):
        read_table(tmp_path / "t.csv", PLACES).numbers("easting")
    assert read_table(tmp_path / "t.csv", PLACES).columns["name"][0] == "a\nb.jpg"


METRES, COMMAS = "name;easting;northing\n", "name,easting,northing\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            METRES + "a;500,001;5300000\n",
            "line 2: easting is '500,001', which may be 500.001 or 50",
        ),
        (
            "name\teasting\tnorthing\na\t1.234\t5\n",
            r"line 2: easting is '1\.234', which may be 1\.234 or 1234",
        ),
        (
            METRES + "a;1,5;2\nb;1.25;2\n",
            r"line 2: easting is '1,5', but '1\.25' in line 3: .*two",
        ),
        (
            METRES + "a;1,5;2\nb;500.001;2\n",
            "line 2: easting is '1,5', but '500.001' in line 3",
        ),
        (COMMAS + 'a,"500,001",2\n', "line 2: easting is '500,001', in a file .* commas"),
        (COMMAS + 'b,1.5,2\na,"1,5",2\n', "line 3: easting is '1,5', in a file"),
        (METRES + "a;5.300.000;2\n", r"line 2: easting is '5\.300\.000'; give a number"),
        (METRES + "a;1.234,5;2\n", r"line 2: easting is '1\.234,5'; give a number"),
        (METRES + "a;500 001;2\n", "line 2: easting is '500 001'"),
        (METRES + "a;1_000;2\n", "line 2: easting is '1_000'"),
        (COMMAS + "a,nan,2\n", "line 2: easting is 'nan'"),
        (COMMAS + "a,1e999,2\n", "line 2: easting is '1e999'"),
        (COMMAS + "a,\u0661,2\n", "line 2: easting is"),
        ("name;latitude;longitude\na;91,5;2\n", "latitude is '91,5'; give a number from -90 to 90"),
        ("name,easting;northing\na,1;2\n", "the columns are 'name,easting;northing'; they must be"),
        (COMMAS + 'a,1,2\n"b,1,2\nc,1,2\n', "line 3: .*every quotation mark closed"),
        (COMMAS + 'a,1,2\n"b"x,1,2\n', "line 3: .*expected"),
        (COMMAS + "a,1,2\nb;1;2\n", "line 3: 1 fields, the header has 3"),
        (COMMAS + "a,1,2\n\0,1,2\n", "line 3: holds a NUL byte"),
        (COMMAS + "a,1,2\n" + "b" * 200_000 + ",1,2\n", "line 3: field larger than"),
    ],
)
def test_what_may_mean_two_things_or_nothing_is_an_error_with_its_line(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")

    def read() -> None:
        table = read_table(tmp_path / "t.csv", PLACES)
        for column in table.limits:
            table.numbers(column)

    with pytest.raises(BadText, match=rf"t\.csv.*{message}"):
        read()


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (["48,858", "2,294"], [48.858, 2.294]),  # as thousands they would be out of range
        (["48,8583", "2,294"], [48.8583, 2.294]),
    ],
)
def test_the_limits_of_a_column_and_other_numbers_decide(tmp_path, numbers, expected):
    (tmp_path / "t.csv").write_text(f"name;latitude;longitude\na;{';'.join(numbers)}\n")
    table = read_table(tmp_path / "t.csv", PLACES)
    assert [table.numbers(column)[0] for column in ("latitude", "longitude")] == expected
    (tmp_path / "t.csv").write_text("name;easting;northing\na;500,001;5300000,5\n")
    assert read_table(tmp_path / "t.csv", PLACES).numbers("easting")[0] == 500.001


def test_other_columns_may_be_there_where_that_is_said(tmp_path):
    (tmp_path / "t.csv").write_text("id;Usage;more\nq;Private;1,5\n")
    columns = Columns(((("id", "usage"), ()),), others=True)
    assert read_table(tmp_path / "t.csv", columns).columns == {"id": ["q"], "usage": ["Private"]}
    with pytest.raises(BadText, match="unknown column 'more'"):
        read_table(tmp_path / "t.csv", Columns(((("id", "usage"), ()),)))
    assert read_header(tmp_path / "t.csv", columns) == ["id", "usage", "more"]


def test_numbers_are_ascii_and_finite():
    assert number_of("-1.5e3", ".") == -1500 and number_of("1,", ",") == 1 and number_of(",5", ",") == 0.5
    for text in ("", "inf", "1,5", "0x1", "1__0", "１", " 1", "1e99999"):
        assert np.isnan(number_of(text, "."))
