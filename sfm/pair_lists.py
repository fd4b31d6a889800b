"""An explicit list of pairs: a text file with two photograph names per line, as COLMAP and hloc write it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from storage.options import nearest_name

logger = logging.getLogger(__name__)

_REMEDY = "write names as they are below the root of the photographs, or the sha256 of the file"


class UnusablePairList(ValueError):
    """A list of pairs that cannot be read, or that names a photograph which is not there."""


def listed_pairs(path: Path, names: Mapping[str, str], shas: Collection[str]) -> list[tuple[str, str]]:
    """The pairs (sha256, sha256) that a text file lists, in its order.

    names: file -> sha256 of its photograph, that of the original for a copy, "" where it cannot be used;
    shas: the usable photographs. One pair per line, two names (or sha256) with blanks or one tab between;
    blank lines and lines that begin with # are left out, and so are pairs of an unusable photograph and of
    one with itself. Raises UnusablePairList with the line.
    """
    known = {**{sha: sha for sha in shas}, **names}
    found, unusable = [], 0
    for number, line in _lines(path):
        first, second = _cut(line, known, f"{path}, line {number}")
        if not known[first] or not known[second]:
            unusable += 1
        elif known[first] != known[second]:
            found.append((known[first], known[second]))
    if unusable:
        logger.warning("%s: %d pairs left out, their photographs cannot be used", path, unusable)
    return found


def count_listed(path: Path) -> int:
    """How many pairs a list holds at most. Raises UnusablePairList where it cannot be read."""
    return sum(1 for _ in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UnusablePairList(f"{path}: {error.strerror}; give an existing text file") from error
    except UnicodeDecodeError as error:
        raise UnusablePairList(f"{path}: byte {error.start} is not UTF-8; save the list as UTF-8") from error
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.removesuffix("\r")
        if stripped.strip() and not stripped.startswith("#"):
            yield number, stripped


def _cut(line: str, known: Mapping[str, str], where: str) -> tuple[str, str]:
    """The two known names of a line: cut at a tab where it has one, else at a blank."""
    separator = "\t" if "\t" in line.strip() else " "
    text = line if separator == "\t" else line.strip()
    ends = [index for index, letter in enumerate(text) if letter == separator]
    cuts = dict.fromkeys((_name(text[:end], known), _name(text[end + 1 :], known)) for end in ends)
    good = [cut for cut in cuts if cut[0] in known and cut[1] in known]
    if len(good) == 1:
        return good[0]
    if good:
        raise UnusablePairList(
            f"{where}: {line!r} can be read as {good[0]!r} and as {good[1]!r}; put a tab between the names"
        )
    if len(cuts) != 1:
        raise UnusablePairList(
            f"{where}: {line!r} is not two photographs of the collection; {_REMEDY}, with a tab between"
        )
    wrong = next(name for cut in cuts for name in cut if name not in known)
    raise UnusablePairList(f"{where}: no photograph is called {wrong!r}{_hint(wrong, known)}; {_REMEDY}")


def _name(text: str, known: Mapping[str, str]) -> str:
    return text if text in known else text.strip(" \t")


def _hint(wrong: str, known: Mapping[str, str]) -> str:
    base = wrong.rsplit("/", 1)[-1]
    same = sorted(name for name in known if name.rsplit("/", 1)[-1] == base)
    nearest = same[0] if same else nearest_name(wrong, known)
    return f", did you mean {nearest!r}?" if nearest else ""
