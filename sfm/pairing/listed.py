"""An explicit list of pairs: a text file with two photograph names per line, as COLMAP and hloc write it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from storage.outside.names import Names, UnknownName
from storage.outside.text import BadText, read_text

logger = logging.getLogger(__name__)

_REMEDY = "write names as they are below the root of the photographs, or the sha256 of the file"


class UnusablePairList(ValueError):
    """A list of pairs that cannot be read, or that names a photograph which is not there."""


def listed_pairs(path: Path, names: Mapping[str, str], shas: Collection[str]) -> list[tuple[str, str]]:
    """The pairs (sha256, sha256) that a text file lists, in its order.

    names: file -> sha256 of its photograph, that of the original for a copy, "" where it cannot be used;
    shas: the usable photographs. One pair per line, two names (or sha256) with blanks or one tab between;
    blank lines and lines that begin with # are left out, and so are pairs of an unusable photograph and of
    one with itself. Names count in whatever form they are written (`storage.outside.names`). Raises
    UnusablePairList with the line.
    """
    known = {**{sha: sha for sha in shas}, **names}
    forms = Names(known)
    found, unusable = [], 0
    for where, line in _lines(path):
        first, second = (known[name] for name in _cut(line, forms, where))
        if not first or not second:
            unusable += 1
        elif first != second:
            found.append((first, second))
    if unusable:
        logger.warning("%s: %d pairs left out, their photographs cannot be used", path, unusable)
    return found


def count_listed(path: Path) -> int:
    """How many pairs a list holds at most. Raises UnusablePairList where it cannot be read."""
    return sum(1 for _ in _lines(path))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(file and line number, line) of every pair."""
    try:
        text = read_text(path)
        for number, line in text.lines():
            if line.strip() and not line.startswith("#"):
                yield text.where(number), line
    except BadText as error:
        raise UnusablePairList(str(error)) from error


def _cut(line: str, known: Names, where: str) -> tuple[str, str]:
    """The two known names of a line: cut at a tab where it has one, else at a blank.

    A cut into two names as they stand counts before one into names of another form.
    """
    separator = "\t" if "\t" in line.strip() else " "
    text = line if separator == "\t" else line.strip()
    ends = [index for index, letter in enumerate(text) if letter == separator]
    cuts = list(dict.fromkeys((_name(text[:end], known), _name(text[end + 1 :], known)) for end in ends))
    for is_known in (known.has, known.means):
        good = [cut for cut in cuts if is_known(cut[0]) and is_known(cut[1])]
        if len(good) > 1:
            raise UnusablePairList(
                f"{where}: {line!r} can be read as {good[0]!r} and as {good[1]!r}; put a tab between the "
                "names"
            )
        if good:
            return _found(good[0], known, where)
    if len(cuts) != 1:
        raise UnusablePairList(
            f"{where}: {line!r} is not two photographs of the collection; {_REMEDY}, with a tab between"
        )
    return _found(cuts[0], known, where)


def _found(cut: tuple[str, str], known: Names, where: str) -> tuple[str, str]:
    try:
        return known.find(cut[0]), known.find(cut[1])
    except UnknownName as error:
        raise UnusablePairList(f"{where}: {error}; {_REMEDY}") from error


def _name(text: str, known: Names) -> str:
    return text if known.has(text) else text.strip(" \t")
