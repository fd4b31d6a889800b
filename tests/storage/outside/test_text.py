"""Text from outside: encodings, line ends, and what is no text."""

import logging
import os
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.outside import text as outside_text
from storage.outside.text import BadText, decoded, read_text

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
MARKS = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
# what str.splitlines would take for line ends, and a character beyond 16 bits
LINES = ["name é.jpg", "a\x85b", "a\x0bb\x0cc", "a\u2028b\u2029c", "", "  x\t", "\U0001f5ff"]


def encoded(text: str, encoding: str) -> bytes:
    return MARKS.get(encoding, b"") + text.encode(encoding)


@pytest.mark.parametrize(("encoding", "end", "last"), product(ENCODINGS, ("\n", "\r\n", "\r"), (True, False)))
def test_every_encoding_and_line_end_gives_the_same_lines(tmp_path, encoding, end, last):
    (tmp_path / "a.txt").write_bytes(encoded(end.join(LINES) + end * last, encoding))
    text = read_text(tmp_path / "a.txt")
    assert list(text.lines()) == list(enumerate(LINES, start=1))
    assert "".join(line for _, line in text.lines(keep_ends=True)) == text.content
    assert text.where(3) == f"{tmp_path / 'a.txt'}, line 3"


def test_mixed_line_ends_are_counted_one_by_one(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\r\n\nb\rc\n\r")
    assert [line for _, line in read_text(tmp_path / "a.txt").lines()] == ["a", "", "b", "c", ""]
    (tmp_path / "empty.txt").write_bytes(b"")
    assert list(read_text(tmp_path / "empty.txt").lines()) == []


@pytest.mark.parametrize("word", ["église.jpg", "Straße.jpg", "façade œuvre.jpg", "Ærø.jpg"])
def test_windows_1252_is_read_where_it_is_beyond_doubt_and_said(word, caplog):
    with caplog.at_level(logging.WARNING):
        assert decoded(f"name\r\n{word}\r\n".encode("cp1252"), "a.csv") == f"name\r\n{word}\r\n"
    assert "a.csv: is not UTF-8 (line 2), read as Windows-1252; save it as UTF-8" in caplog.text
    with pytest.raises(BadText, match="line 2: is not UTF-8"):
        decoded(f"name\r\n{word}\r\n".encode("cp1252"), "a.yaml", fallback=False)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("храм.jpg".encode("cp1251"), "line 1: is not UTF-8 (byte 0 is 0xF5)"),
        ("a\nναός".encode("cp1253"), "line 2: is not UTF-8 (byte 2 is 0xED)"),
        ("写真".encode("shift-jis"), "line 1"),
        ("教堂".encode("gbk"), "line 1"),
        ("성당".encode("euc-kr"), "line 1"),
        ("łódź".encode("cp1250"), "line 1"),
        ("é".encode() + b"\xe9", "line 1: is not UTF-8 (byte 2 is 0xE9)"),
        (b"caf\xc3", "line 1: is not UTF-8 (byte 3 is 0xC3)"),
        (b"a\r\xff", "line 2: is not UTF-8 (byte 2 is 0xFF)"),
        (b"\xef\xbb\xbf\n\xe9", "line 2: is not UTF-8 (byte 4 is 0xE9)"),
        (b"\xff\xfea\0\n\0b", "line 2: is not UTF-16-LE"),
        (b"\xff\xfe\x00\xd8a\x00", "line 1: is not UTF-16-LE"),
    ],
)
def test_an_encoding_in_doubt_is_an_error_with_line_and_byte(content, place):
    with pytest.raises(BadText) as raised:
        decoded(content, "list.txt")
    assert str(raised.value).startswith(f"list.txt, {place}") and "save it as UTF-8" in str(raised.value)


@pytest.mark.parametrize("content", [b"a\nb\0c", "a\nb".encode("utf-16-le"), b"\xff\xfea\0\n\0b\0\0\0"])
def test_nul_is_no_text(content):
    with pytest.raises(BadText, match=r"f, line [12]: holds a NUL byte at character \d"):
        decoded(content, "f")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_text_or_an_error_that_names_the_file(content):
    said = ""
    try:
        assert "\0" not in decoded(content, "some file")
    except BadText as error:
        said = str(error)
    assert not said or said.startswith("some file, line ")


def test_sizes_are_looked_at_before_anything_is_read(tmp_path, monkeypatch):
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadText, match=r"huge\.txt: 1099511627776 bytes; more than"):
        read_text(tmp_path / "huge.txt")
    (tmp_path / "long.txt").write_text("a\n" + "b" * 101)
    with pytest.raises(BadText, match=r"long\.txt, line 2: 101 characters long; a line has at most 100"):
        list(read_text(tmp_path / "long.txt", most_line=100).lines())
    monkeypatch.setattr(outside_text, "MOST_LINES", 3)
    (tmp_path / "many.txt").write_text("\n" * 4)
    with pytest.raises(BadText, match="more than 3 lines"):
        list(read_text(tmp_path / "many.txt").lines())


def test_what_is_no_file_is_named(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):  # a FIFO would be waited for without end
        with pytest.raises(BadText, match="no regular file"):
            read_text(path)
    with pytest.raises(BadText, match="none: No such file or directory; it cannot be read"):
        read_text(tmp_path / "none")
    with pytest.raises(BadText, match="cannot be read"):
        read_text("a\0b")
