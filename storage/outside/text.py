"""Text files from outside: bytes to text to numbered lines, whatever program on whatever system wrote them.

UTF-8 with or without its mark, UTF-16 and UTF-32 with theirs, Windows-1252 where that is beyond doubt. A line
ends with LF, CRLF or CR and with nothing else: NEL, form feeds and Unicode's separators are part of a name.
"""

from __future__ import annotations

import codecs
import logging
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 128 << 20
MOST_LINE = 1 << 20
MOST_LINES = 5_000_000
_MARKS = (  # the longer ones first: UTF-16's mark is the beginning of UTF-32's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ENDS = re.compile(r"\r\n|\n|\r")
_HIGH = re.compile(rb"[\x80-\xff]+")
_WESTERN = frozenset(
    byte
    for byte in range(0x80, 0x100)
    if (letter := bytes([byte]).decode("cp1252", "replace")).isalpha() and letter not in "ªºµƒˆÿ"
)
"""Bytes that are letters in Windows-1252."""
_LONGEST_RUN = 2
"""Of such letters beside each other; more are words of another alphabet."""
_log = logging.getLogger(__name__)


class BadText(ValueError):
    """A file from outside that cannot be read as text; the message names file, line and remedy."""


@dataclass(frozen=True)
class Text:
    """The text of a file. most_line: characters of its longest line that is still read, None = any."""

    path: Path
    content: str
    most_line: int | None = MOST_LINE

    def where(self, line: int) -> str:
        return f"{self.path}, line {line}"

    def lines(self, *, keep_ends: bool = False) -> Iterator[tuple[int, str]]:
        """(number from 1 on, line), without its end unless asked; nothing after the last end is no line.

        Raises BadText for one that is longer than any line of such a file.
        """
        begin = number = 0
        for number, end in enumerate(_ENDS.finditer(self.content), start=1):
            if number > MOST_LINES:
                raise BadText(f"{self.path}: more than {MOST_LINES} lines are not read; divide the file")
            yield number, self._line(number, begin, end.end() if keep_ends else end.start())
            begin = end.end()
        if begin < len(self.content):
            yield number + 1, self._line(number + 1, begin, len(self.content))

    def _line(self, number: int, begin: int, end: int) -> str:
        if self.most_line is not None and end - begin > self.most_line:
            raise BadText(
                f"{self.where(number)}: {end - begin} characters long; a line has at most {self.most_line}, "
                "so this is no such file, or its line ends are lost"
            )
        return self.content[begin:end]

    def filled_lines(self) -> list[tuple[int, str]]:
        """(number, line without blanks around it) of the lines that hold more than blanks."""
        return [(number, line.strip(" \t")) for number, line in self.lines() if line.strip(" \t")]


def read_text(
    path: Path | str,
    *,
    most_bytes: int = MOST_BYTES,
    most_line: int | None = MOST_LINE,
    fallback: bool = True,
) -> Text:
    """The text of a file from outside; its size is looked at before it is read. fallback: see `decoded`.

    Raises BadText: not there, no regular file, too large, no text, an encoding that is in doubt.
    """
    path = Path(path)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BadText(f"{path}: no regular file; it cannot be read, give a text file")
        if found.st_size > most_bytes:
            raise BadText(f"{path}: {found.st_size} bytes; more than {most_bytes} are not read as text")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, BadText):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise BadText(f"{path}: {reason}; it cannot be read, give an existing text file") from error
    if len(content) > most_bytes:
        raise BadText(f"{path}: grows beyond {most_bytes} bytes while it is read; give a finished file")
    return Text(path, decoded(content, str(path), fallback=fallback), most_line)


def decoded(content: bytes, where: str, *, fallback: bool = True) -> str:
    """Bytes of a text file -> its text without a mark. where: the file, for errors and the note.

    fallback: whether Windows-1252 is taken where it is beyond doubt. Raises BadText with line and byte.
    """
    encoding, begin = next(
        ((name, len(mark)) for mark, name in _MARKS if content.startswith(mark)), ("utf-8", 0)
    )
    try:
        text = str(memoryview(content)[begin:], encoding)
    except UnicodeDecodeError as error:
        cut = error.end == len(content) and "unexpected end" in error.reason  # UTF-8, its end is missing
        if cut or begin or not (fallback and encoding == "utf-8" and _is_western(content)):
            raise _undecodable(content, begin + error.start, encoding, where) from error
        text = content.decode("cp1252")
        line = _line_of(text, error.start)
        _log.warning("%s: is not UTF-8 (line %d), read as Windows-1252; save it as UTF-8", where, line)
    nul = text.find("\0")
    if nul >= 0:
        line = _line_of(text, nul)
        raise BadText(
            f"{where}, line {line}: holds a NUL byte at character {nul}; it is no text, or UTF-16 without "
            "its mark: save it as UTF-8"
        )
    return text


def _is_western(content: bytes) -> bool:
    """Whether bytes that are not UTF-8 can only be Windows-1252: letters of it alone, by ones and twos.

    Words of Cyrillic, Greek or East Asian encodings are longer runs or other bytes; no run may be valid
    UTF-8, for the file would be a mixture or damaged then.
    """
    for run in _HIGH.finditer(content):
        letters = run.group()
        if len(letters) > _LONGEST_RUN or not _WESTERN.issuperset(letters):
            return False
        try:
            letters.decode("utf-8")
        except UnicodeDecodeError:
            continue
        return False
    return True


def _undecodable(content: bytes, at: int, encoding: str, where: str) -> BadText:
    before = content[:at].decode(encoding, "replace")
    shown = f"0x{content[at]:02X}" if at < len(content) else "the end"
    return BadText(
        f"{where}, line {_line_of(before, len(before))}: is not {encoding.upper()} (byte {at} is {shown}); "
        "save it as UTF-8"
    )


def _line_of(text: str, at: int) -> int:
    return sum(1 for _ in _ENDS.finditer(text, 0, at)) + 1
