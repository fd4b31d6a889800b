"""Official landmark ground truth: `gnd_*.pkl`, read without executing pickled code, and text files."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.files.errors import ArtifactError
from storage.outside import guarded
from storage.outside.names import Names
from storage.outside.pickles import BadPickle
from storage.outside.text import BadText
from storage.outside.text import read_text as read_text_file

LEVELS = ("good", "ok", "junk")


class InvalidGroundTruth(ValueError):
    """A ground-truth file that is missing, unsafe or not of the official form."""


@dataclass(frozen=True)
class LandmarkGroundTruth:
    """Names of the database [N] and the queries [Q], and per query its box and its labelled positions.

    labels[q]: {"ok", "junk"} (classic) or {"easy", "hard", "junk"} (revisited), int64 positions in images;
    boxes: [Q, 4] x1, y1, x2, y2 in pixels of the query image.
    """

    images: tuple[str, ...]
    queries: tuple[str, ...]
    boxes: NDArray[np.float64]
    labels: tuple[dict[str, NDArray[np.int64]], ...]


def read_pickle(path: Path) -> LandmarkGroundTruth:
    """`gnd_*.pkl` of Oxford5k, Paris6k, ROxford5k or RParis6k: plain containers and numpy arrays only.

    Raises InvalidGroundTruth; whatever else the file names is refused, and nothing in it is run.
    """
    content = _load(path)
    try:
        images, queries = map(str, content["imlist"]), map(str, content["qimlist"])
        boxes = np.array([query["bbx"] for query in content["gnd"]], dtype=np.float64).reshape(-1, 4)
        names = ("easy", "hard", "junk") if "easy" in content["gnd"][0] else ("ok", "junk")
        labels = tuple(
            {name: np.asarray(query[name], dtype=np.int64).ravel() for name in names}
            for query in content["gnd"]
        )
        return LandmarkGroundTruth(tuple(images), tuple(queries), boxes, labels)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidGroundTruth(
            f"'{path}' is not {{'imlist', 'qimlist', 'gnd'}} of the official form: {reprlib.repr(str(error))}"
        ) from error


def read_text(folder: Path, images: Sequence[str]) -> LandmarkGroundTruth:
    """The official `*_query.txt`, `*_good.txt`, `*_ok.txt`, `*_junk.txt`, against the database's names.

    images: names of the database without ending, in its order. Oxford's queries carry the prefix `oxc1_`,
    which is taken off. Listed names that the database does not hold are an error. Raises InvalidGroundTruth.
    """
    files = sorted(folder.glob("*_query.txt"))
    if not files:
        raise InvalidGroundTruth(f"no *_query.txt in '{folder}'; expected the official text ground truth")
    position, known = {name: index for index, name in enumerate(images)}, Names(images)
    queries, boxes, labels = [], [], []
    for file in files:
        query, box = _query(file)
        queries.append(query)
        boxes.append(box)
        found = {level: _positions(file, level, position, known) for level in LEVELS}
        labels.append({"ok": np.concatenate([found["good"], found["ok"]]), "junk": found["junk"]})
    return LandmarkGroundTruth(tuple(images), tuple(queries), np.array(boxes), tuple(labels))


def _query(file: Path) -> tuple[str, list[float]]:
    """(name without Oxford's prefix, box) of a *_query.txt."""
    fields = [field for _, line in _lines(file) for field in line.split()]
    if len(fields) != 5:
        raise InvalidGroundTruth(f"'{file}' holds {len(fields)} fields; expected: name x1 y1 x2 y2")
    try:
        box = [float(field) for field in fields[1:]]
    except ValueError as error:
        raise InvalidGroundTruth(f"'{file}': {error}; expected: name x1 y1 x2 y2") from error
    return fields[0].removeprefix("oxc1_"), box


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        return read_text_file(path).filled_lines()
    except BadText as error:
        raise InvalidGroundTruth(str(error)) from error


def _positions(query_file: Path, level: str, position: dict[str, int], known: Names) -> NDArray[np.int64]:
    path = query_file.with_name(query_file.name.replace("_query.txt", f"_{level}.txt"))
    if not path.is_file():
        raise InvalidGroundTruth(f"'{path}' is missing; it belongs to '{query_file.name}'")
    names = [(name, number) for number, line in _lines(path) for name in line.split()]
    absent = [(name, number) for name, number in names if len(known.alike(name)) != 1]
    if absent:
        name, number = absent[0]
        raise InvalidGroundTruth(
            f"'{path}', line {number}: lists '{name}' ({len(absent)} in all), no image of the "
            f"database{known.hint(name)}"
        )
    return np.array([position[known.find(name)] for name, _ in names], dtype=np.int64)


def _load(path: Path) -> Any:
    if not path.is_file():
        raise InvalidGroundTruth(f"'{path}' is missing; expected the official gnd_*.pkl")
    try:
        return guarded.read_pickle(path, encoding="latin1")
    except OSError as error:
        raise InvalidGroundTruth(f"'{path}' cannot be read ({error.strerror}); get it again") from error
    except (BadPickle, ArtifactError) as error:
        raise InvalidGroundTruth(f"{error}; expected the official gnd_*.pkl") from error
