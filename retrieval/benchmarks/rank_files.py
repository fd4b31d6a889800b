"""Somebody else's ranks from a file: [Q, K] positions in the database, 0-based, best first, -1 pads.

`.npy`; `.npz` and `.h5` with an array called `ranks` (or a single one); text with one query per line, numbers
divided by spaces, tabs or commas. Text may also name images: `query image image ...`, best first, or with the
place before each (`query 0 image 1 image ...`, the Holidays tool); or a csv with the header `id,images`
(GLDv2). Queries may then come in any order; names are those of the benchmark, with or without folder, ending.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from retrieval.benchmarks.common import Benchmark, Ids
from retrieval.benchmarks.ranking import InvalidRankLists, checked_ranks


def read_ranks(path: Path, benchmark: Benchmark) -> Ids:
    """[Q, K] of a file; a large .npy stays on disk. Raises InvalidRankLists that says what is wrong where."""
    if not path.is_file():
        raise InvalidRankLists(f"'{path}' is no file; give ranks as .npy, .npz, .h5 or text")
    try:
        ranks = _READERS.get(path.suffix.lower(), _read_text)(path, benchmark)
    except InvalidRankLists:
        raise
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InvalidRankLists(f"'{path}' cannot be read as ranks: {error}") from error
    limit = None if benchmark.distractors else len(benchmark.database_names)
    return checked_ranks(ranks, len(benchmark.query_names), limit)


def _read_npy(path: Path, benchmark: Benchmark) -> Any:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_npz(path: Path, benchmark: Benchmark) -> Any:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[_name(arrays.files, path)]


def _read_h5(path: Path, benchmark: Benchmark) -> Any:
    import h5py

    with h5py.File(path, "r") as file:
        names = [name for name in file if isinstance(file[name], h5py.Dataset)]
        return file[_name(names, path)][:]


def _name(names: list[str], path: Path) -> str:
    if "ranks" in names or len(names) == 1:
        return "ranks" if "ranks" in names else names[0]
    raise InvalidRankLists(f"'{path}' holds {sorted(names)}; expected an array called 'ranks'")


def _read_text(path: Path, benchmark: Benchmark) -> Any:
    lines = [line.replace(",", " ").split() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line and not line[0].startswith("#")]
    if not lines:
        raise InvalidRankLists(f"'{path}' is empty; expected one line per query")
    if all(_is_number(token) for token in lines[0]):
        return padded([[int(token) for token in line] for line in lines])
    if lines[0][:2] == ["id", "images"]:
        lines = lines[1:]
    return _by_name(path, lines, benchmark)


def _by_name(path: Path, lines: list[list[str]], benchmark: Benchmark) -> Ids:
    queries = _positions(benchmark.query_names)
    database = _positions(benchmark.database_names)
    rows: list[list[int]] = [[] for _ in benchmark.query_names]
    sequences = max(benchmark.query_frames, benchmark.database_frames) > 1
    if sequences:  # commas join the frames of a sequence
        raw = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in raw if line and not line[0].startswith("#")]
    for number, line in enumerate(lines):
        query, names = line[0], line[1:]
        if _stem(query) not in queries:
            raise InvalidRankLists(f"'{path}', line {number + 1}: '{query}' is no query of {benchmark.name}")
        if len(names) > 1 and all(_is_number(token) for token in names[::2]) and not _known(names, database):
            placed = sorted(zip(map(int, names[::2]), names[1::2], strict=False))
            names = [name for _, name in placed]
        unknown = [name for name in names if _stem(name) not in database]
        if unknown:
            raise InvalidRankLists(
                f"'{path}', line {number + 1}: '{unknown[0]}' is no database image of {benchmark.name}"
            )
        rows[queries[_stem(query)]] = [database[_stem(name)] for name in names]
    return padded(rows)


def padded(rows: list[list[int]]) -> Ids:
    """Lists of different length as one array, -1 at the end of the short ones."""
    width = max(map(len, rows), default=0)
    return np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int64).reshape(
        len(rows), width
    )


def _positions(names: tuple[str, ...]) -> dict[str, int]:
    return {_stem(name): position for position, name in enumerate(names)}


def _known(names: list[str], database: dict[str, int]) -> bool:
    return all(_stem(name) in database for name in names)


def _stem(name: str) -> str:
    """Without folder and image ending; a dot elsewhere belongs to the name."""
    last = name.rsplit("/", 1)[-1]
    head, dot, end = last.rpartition(".")
    return head if dot and end.lower() in ("jpg", "jpeg", "png") else last


def _is_number(token: str) -> bool:
    return token.removeprefix("-").isdecimal()


_READERS = {".npy": _read_npy, ".npz": _read_npz, ".h5": _read_h5, ".hdf5": _read_h5}
