"""Control characters of names are written out; a name forges no line of a log."""

import io
import logging
import sys
import unicodedata
from collections.abc import Iterator

import pytest

from storage.files.escaping import PlainRecord, escaped, escaped_lines, plain_logs, shown, traceback_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ünïcode 東京 שלום.jpg", "plain ünïcode 東京 שלום.jpg"),
        ("می‌خواهم 👩‍👩‍👧.jpg", "می‌خواهم 👩‍👩‍👧.jpg"),  # joiners belong to scripts
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07", r"\x1b]8;;http://x\x07link\x1b]8;;\x07"),
        ("\x9b31m\x7f\x00\r\n\t", r"\x9b31m\x7f\x00\r\n\t"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("\u2028\u2066\ufeff\U000e0041", r"\u2028\u2066\ufeff\U000e0041"),
        ("not UTF-8: \udcff", r"not UTF-8: \udcff"),
    ],
)
def test_written_out(text: str, expected: str) -> None:
    assert escaped(text) == expected == escaped(escaped(text))
    assert escaped_lines(text) == expected.replace(r"\n", "\n").replace(r"\t", "\t")
    assert shown(text).replace("\\[", "[") == expected


def test_no_control_character_is_left_of_any() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    left = {unicodedata.category(each) for each in escaped(every)}
    assert not left & {"Cc", "Cs", "Zl", "Zp"}
    assert all(
        unicodedata.bidirectional(c) not in ("LRE", "RLE", "LRO", "RLO", "PDF") for c in escaped(every)
    )
    escaped(every).encode()


def test_markup_is_text() -> None:
    from rich.text import Text

    assert Text.from_markup(shown("[red]a[/red] [link=http://x]b[/link]\\")).plain.startswith("[red]a[/red]")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a handler of another library writes of the logger `outside`."""
    before = logging.getLogRecordFactory()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("outside")
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    plain_logs()
    yield stream
    logging.setLogRecordFactory(before)


def test_a_record_is_one_line(log: io.StringIO) -> None:
    logging.getLogger("outside").warning("read %s and %d", "a\nERROR forged\x1b[2J", 3)
    assert log.getvalue() == "WARNING read a\\nERROR forged\\x1b[2J and 3\n"


def test_a_traceback_is_indented(log: io.StringIO) -> None:
    try:
        raise ValueError("a\nERROR forged\x1b[2J")
    except ValueError:
        logging.getLogger("outside").exception("failed")
    first, *rest = log.getvalue().splitlines()
    assert first == "ERROR failed" and all(line.startswith("    ") for line in rest)
    assert rest[0].strip() == "Traceback (most recent call last):" and "\x1b" not in log.getvalue()
    assert rest[-1] == r"    ERROR forged\x1b[2J"
    assert "forged" in traceback_text(ValueError("forged"))


def test_it_is_set_once() -> None:
    before = logging.getLogRecordFactory()
    try:
        plain_logs()
        plain_logs()
        assert logging.getLogRecordFactory() is PlainRecord
    finally:
        logging.setLogRecordFactory(before)
