"""Somebody else's ranks from a file: [Q, K] positions in the database, 0-based, best first, -1 pads.

`.npy`; `.npz` and `.h5` with an array called `ranks` (or a single one); text with one query per line, numbers
divided by spaces, tabs or commas. Text may also name images: `query image image ...`, best first, or with the
place before each (`query 0 image 7 image ...`, the Holidays tool: places from 0, those left out belong to
images without a label); or a csv with the header `id,images` (GLDv2). Queries may then come in any order;
names are those of the benchmark, with or without folder, ending.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.official.ranking import InvalidRankLists, checked_ranks
from retrieval.official.readers.common import Benchmark, Ids
from storage.outside.guarded import read_outside
from storage.outside.names import form
from storage.outside.numpy_files import DAMAGED, arrays_of_npz
from storage.outside.text import read_text

logger = logging.getLogger(__name__)
MAX_PLACE = 10_000_000
"""Of a named image: beyond any database that is measured."""
_MOST_TEXT = 512 << 20


def read_ranks(path: Path, benchmark: Benchmark) -> Ids:
    """[Q, K] of a file; a large .npy stays on disk. Raises InvalidRankLists that says what is wrong where."""
    if not path.is_file():
        raise InvalidRankLists(f"'{path}' is no file; give ranks as .npy, .npz, .h5 or text")
    try:
        ranks = _read(path, benchmark)
    except InvalidRankLists:
        raise
    except (*DAMAGED, OSError, ValueError, KeyError, EOFError, OverflowError, TypeError) as error:
        raise InvalidRankLists(f"'{path}' cannot be read as ranks: {error}") from error
    limit = None if benchmark.distractors else len(benchmark.database_names)
    try:
        found = checked_ranks(ranks, len(benchmark.query_names), limit)
    except InvalidRankLists as error:
        raise InvalidRankLists(f"'{path}': {error}") from None
    if found.size and found.shape[1] >= len(benchmark.database_names) and found.min() > 0:
        raise InvalidRankLists(
            f"'{path}': position 0 is in no list though each is as long as the database; count from 0, not 1"
        )
    return found


def _read(path: Path, benchmark: Benchmark) -> Any:
    match path.suffix.lower():
        case ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        case ".npz":
            arrays = arrays_of_npz(path)
            return arrays[_name(list(arrays), path)]
        case ".h5" | ".hdf5":
            return read_outside("retrieval.official.rank_files:read_h5", path)
    return _read_text(path, benchmark)


def read_h5(path: Path, *, watch: Callable[[str], None]) -> NDArray[Any]:
    """The ranks of an HDF5 file, in a process of its own. Raises InvalidRankLists, ArtifactError."""
    from storage.hdf5.access import open_file
    from storage.hdf5.outside import blocks_of, check_walk

    with open_file(path) as file:
        datasets = check_walk(path, file)
        names = [name for name in datasets if "/" not in name]
        return blocks_of(path, datasets[_name(names, path)], watch)


def _name(names: list[str], path: Path) -> str:
    if "ranks" in names or len(names) == 1:
        return "ranks" if "ranks" in names else names[0]
    raise InvalidRankLists(f"'{path}' holds {sorted(names)}; expected an array called 'ranks'")


def _read_text(path: Path, benchmark: Benchmark) -> Any:
    sequences = max(benchmark.query_frames, benchmark.database_frames) > 1  # commas join their frames
    lines = {}
    for number, line in read_text(path, most_bytes=_MOST_TEXT, most_line=None).lines():
        tokens = (line if sequences else line.replace(",", " ")).split()
        if tokens and not tokens[0].startswith("#"):
            lines[number] = tokens
    if not lines:
        raise InvalidRankLists(f"'{path}' is empty; expected one line per query")
    first, head = next(iter(lines.items()))
    queries, size = _Names(benchmark.query_names), len(benchmark.database_names)
    # Holidays: names are numbers too, but none that a position could be
    named = all(line[0] in queries and not _is_number(line[0], below=size) for line in lines.values())
    if all(map(_is_number, head)) and not named:
        return padded([[int(token) for token in line] for line in lines.values()])
    submission = head == ["id", "images"]
    if submission:
        del lines[first]
    return _by_name(path, lines, benchmark, queries, incomplete=submission)


def _by_name(
    path: Path, lines: dict[int, list[str]], benchmark: Benchmark, queries: _Names, *, incomplete: bool
) -> Ids:
    """Lists that name images; incomplete: a query without a list has an empty one (GLDv2), else an error."""
    database = _Names(benchmark.database_names)
    rows: dict[int, list[int]] = {}
    passed = 0
    for number, (query, *names) in lines.items():
        where = f"'{path}', line {number}:"
        if query not in queries:
            if not benchmark.more_queries:
                raise InvalidRankLists(f"{where} '{query}' is no query of {benchmark.name}")
            passed += 1
            continue
        q = queries.position(query, where)
        if q in rows:
            raise InvalidRankLists(f"{where} '{query}' has a list already; one line is one query")
        if names and names[0] not in database and _is_number(names[0]):
            names = _in_place(names, where)
        unknown = [name for name in names if name and name not in database]
        if unknown:
            raise InvalidRankLists(f"{where} '{unknown[0]}' is no database image of {benchmark.name}")
        rows[q] = [database.position(name, where) if name else -1 for name in names]
    absent = [name for q, name in enumerate(benchmark.query_names) if q not in rows]
    if absent and (not rows or not incomplete):
        raise InvalidRankLists(f"'{path}' has no list for query '{absent[0]}' ({len(absent)} in all)")
    if passed:
        logger.info("%s: the lists of %d other queries are passed over", path.name, passed)
    return padded([rows.get(q, []) for q in range(len(benchmark.query_names))])


def _in_place(tokens: list[str], where: str) -> list[str]:
    """`place image place image ...` as a list; "" at places that are not given, as those of distractors."""
    places, names = tokens[::2], tokens[1::2]
    if len(places) != len(names) or not all(place.isdecimal() for place in places):
        raise InvalidRankLists(f"{where} expected a place before each image: 0 image 1 image ...")
    named = dict(zip(map(int, places), names, strict=True))
    last = max(named)
    if len(named) < len(names) or last >= MAX_PLACE:
        what = f"place {last} is too far" if last >= MAX_PLACE else "a place is given twice"
        raise InvalidRankLists(f"{where} {what}; places are different whole numbers from 0")
    return [named.get(place, "") for place in range(last + 1)]


def padded(rows: list[list[int]]) -> Ids:
    """Lists of different length as one array, -1 at the end of the short ones."""
    width = max(map(len, rows), default=0)
    return np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int64).reshape(
        len(rows), width
    )


class _Names:
    """Positions of names; folder and image ending may be left out where that leaves no doubt."""

    def __init__(self, names: Sequence[str]) -> None:
        self._whole = {name: position for position, name in enumerate(names)}
        self._short: dict[str, int] = {}
        self._doubtful: set[str] = set()
        for position, name in enumerate(names):
            if self._short.setdefault(_stem(name), position) != position:
                self._doubtful.add(_stem(name))

    def __contains__(self, name: str) -> bool:
        return name in self._whole or _stem(name) in self._short

    def position(self, name: str, where: str) -> int:
        if name in self._whole:
            return self._whole[name]
        if _stem(name) in self._doubtful:
            raise InvalidRankLists(f"{where} several images are called '{name}'; name them with their folder")
        return self._short[_stem(name)]


def _stem(name: str) -> str:
    """Without folder and image ending, in the form that is compared; a dot elsewhere belongs to the name."""
    last = form(name).rsplit("/", 1)[-1]
    head, dot, end = last.rpartition(".")
    return head if dot and end.lower() in ("jpg", "jpeg", "png") else last


def _is_number(token: str, below: float = float("inf")) -> bool:
    return token.removeprefix("-").isdecimal() and int(token) < below
