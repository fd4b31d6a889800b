"""What every benchmark is: its images, who is query and who database, and how lists of them are scored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from retrieval.benchmarks.msls import Subtask, Task
from retrieval.describe.options import Box
from storage.files.digests import json_sha256
from storage.keys.options import ContentPath, Options
from storage.outside.names import Names
from storage.outside.text import BadText, read_text

Ids = NDArray[np.int64]
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")


class ProtocolOptions(Options):
    """What a benchmark leaves open; the row says which was taken."""

    upright: bool = Field(False, description="holidays: the images were turned upright by hand")
    radius_m: float | None = Field(
        None, gt=0, description="places: how far a positive may be, metres, included; none: 25, or the file's"
    )
    task: Task = Field("im2im", description="msls: images or sequences on either side")
    subtask: Subtask = Field("all", description="msls: summer to winter, day to night, ...")
    sequence_length: int = Field(3, ge=1, description="msls: frames of a sequence, odd")
    subset: ContentPath | None = Field(
        None, description="msls: list of query keys to ask, one a line, such as the 740 of most papers"
    )
    probe_epochs: int = Field(
        30, ge=0, description="imagenet: passes over train of the linear probe; 0: none"
    )


class MissingBenchmarkFile(ValueError):
    """A file or folder of a benchmark that is not where it is expected."""


class InvalidBenchmarkFile(ValueError):
    """A file of a benchmark that is not of the official form."""


@dataclass(frozen=True)
class BenchmarkImage:
    """One image: its file below the benchmark's root (POSIX), and the part of it that is described.

    box: left, top, right, bottom in pixels of the whole image; None = all of it.
    """

    file: str
    box: Box | None = None


@dataclass(frozen=True)
class ScoreRow:
    """One number: value in 0..1 (nan = nothing to count), over num_queries queries."""

    protocol: str
    metric: str
    value: float
    num_queries: int


@dataclass(frozen=True, eq=False)
class Score:
    """A benchmark's numbers, and per query (nan = not counted) what they are means of, the main one first."""

    rows: tuple[ScoreRow, ...]
    per_query: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Lists of database positions, one per query.

    ranks: [Q, K] best first, -1 pads; scores: [Q, K] similarities, None for somebody else's ranks; listed:
    per query where its labelled images stand in the whole list: (positions ascending, their ids), empty
    where a benchmark has no need of it.
    """

    ranks: Ids
    scores: NDArray[np.float32] | None = None
    listed: Sequence[tuple[Ids, Ids]] = ()


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A benchmark as it lies on disk.

    root: folder that the images' files are below; queries, database: their images, `query_frames` and
    `database_frames` consecutive ones per entry (sequences of MSLS, else 1); query_names, database_names: of
    the entries; positives, ignored: per query database positions, ignored ones are neither right nor wrong;
    own: [Q] position of the query's own image in the database, -1 = not in it; depth: how much of each list
    the score needs; whole: it needs where the labelled images stand in the whole list; distractors: whether
    more images may follow the database; labels: of database and queries, where a linear probe has classes;
    notes: which variant was measured; facts: what else the score depends on, as JSON; more_queries: whether
    files of named lists hold others too, which are passed over.
    """

    name: str
    root: Path
    queries: tuple[BenchmarkImage, ...]
    database: tuple[BenchmarkImage, ...]
    query_names: tuple[str, ...]
    database_names: tuple[str, ...]
    positives: tuple[Ids, ...]
    score: Callable[[Ranking], Score] = field(repr=False)
    ignored: tuple[Ids, ...] = ()
    own: Ids | None = None
    depth: int = 1
    whole: bool = False
    distractors: bool = False
    query_frames: int = 1
    database_frames: int = 1
    labels: tuple[Ids, Ids] | None = None
    notes: tuple[str, ...] = ()
    facts: Any = None
    more_queries: bool = False

    @cached_property
    def labelled(self) -> tuple[Ids, ...]:
        """Per query the ids whose places count, ascending: positives and ignored."""
        ignored = self.ignored or (np.empty(0, np.int64),) * len(self.positives)
        return tuple(np.union1d(*pair) for pair in zip(self.positives, ignored, strict=True))

    @cached_property
    def digest(self) -> str:
        """Of names, boxes and labels: what a score depends on beside descriptors."""
        # classes say the same as a list of all their members for every query
        arrays = self.labels or (*self.positives, *self.ignored)
        return json_sha256(
            [
                self.name,
                [self.query_names, self.database_names, self.query_frames, self.database_frames],
                [[image.file, image.box] for image in self.queries],
                [image.file for image in self.database],
                [ids.tolist() for ids in arrays],
                self.notes,
                self.facts,
            ]
        )


Read = Callable[[str, Path, ProtocolOptions, bool], Benchmark]
"""Of a benchmark's name, its folder, what it leaves open, and whether images have to be there where other
files list them. A reader has READS, those that it reads by name, and their PLACE in the list of all."""


def named_by_files(queries: Sequence[str], database: Sequence[str]) -> dict[str, Any]:
    """Images and names of a Benchmark whose images are called as their files."""
    return {
        "queries": tuple(map(BenchmarkImage, queries)),
        "database": tuple(map(BenchmarkImage, database)),
        "query_names": tuple(queries),
        "database_names": tuple(database),
    }


def roles_of(ids: Ids, labelled: Mapping[int, Ids]) -> NDArray[np.uint8]:
    """Role bits of ids: [L] uint8, bit b where the id is among labelled[b]."""
    roles = np.zeros(len(ids), dtype=np.uint8)
    for bit, members in labelled.items():
        roles[np.isin(ids, members)] |= np.uint8(bit)
    return roles


def benchmark_root(data: Path, names: Sequence[str], *markers: str) -> Path:
    """The folder that holds one of `markers` (globs): `data` itself, or one in it called as the benchmark.

    Raises MissingBenchmarkFile that names what is expected where.
    """
    if not data.is_dir():
        raise MissingBenchmarkFile(f"'{data}' is no folder; give the folder of {names[0]} as --data")
    for folder in (data, *(data / name for name in names)):
        if folder.is_dir() and any(next(folder.glob(marker), None) is not None for marker in markers):
            return folder
    raise MissingBenchmarkFile(
        f"{names[0]}: no {' or '.join(markers)} in '{data}' or '{data / names[0]}'; put the official files "
        "there (nothing is downloaded)"
    )


def image_files(root: Path, below: str = "") -> Iterator[str]:
    """Files below the root of every .jpg and .png in a folder of it ("" or ending in /); hidden ones not."""
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from image_files(root, f"{below}{entry.name}/")
            elif entry.name.lower().endswith(IMAGE_ENDINGS):
                yield f"{below}{entry.name}"


def images_by_stem(root: Path, folder: str) -> dict[str, str]:
    """Name without ending -> file below root, of every .jpg below a folder. Raises MissingBenchmarkFile."""
    below = image_files(root, f"{folder}/") if (root / folder).is_dir() else ()
    found = {PurePosixPath(name).stem: name for name in sorted(below)}
    if not found:
        raise MissingBenchmarkFile(f"no images in '{root / folder}'; expected {folder}/NAME.jpg")
    return found


def jpg_files(root: Path, names: Sequence[str], *, images: bool) -> list[str]:
    """The file of each name in jpg/; without images nobody looks whether they are there.

    Raises MissingBenchmarkFile.
    """
    if not images:
        return [f"jpg/{name}.jpg" for name in names]
    if not (root / "jpg").is_dir():
        raise MissingBenchmarkFile(f"'{root / 'jpg'}' is missing; expected jpg/NAME.jpg, the images")
    return files_of(names, images_by_stem(root, "jpg"), str(root / "jpg"))


def listed_lines(path: Path) -> list[tuple[int, str]]:
    """(number, line) of the lines that are not empty. Raises MissingBenchmarkFile, InvalidBenchmarkFile."""
    if not path.is_file():
        raise MissingBenchmarkFile(f"'{path}' is missing; expected the official list")
    try:
        return read_text(path).filled_lines()
    except BadText as error:
        raise InvalidBenchmarkFile(str(error)) from error


def files_there(root: Path, files: Sequence[str]) -> list[str]:
    """The files below the root, in whatever form a list names them (`storage.outside.names`).

    Raises MissingBenchmarkFile with the first that is not there, and how many are not.
    """
    absent = {file for file in files if not (root / file).is_file()}
    known = Names(image_files(root)) if absent else Names(())
    found = {file: _found(known, file) if file in absent else file for file in files}
    missing = [file for file in files if found[file] is None]
    if missing:
        raise _missing(root / missing[0], known.hint(missing[0]), len(missing), len(files))
    return [found[file] or file for file in files]


def files_of(names: Sequence[str], known: Mapping[str, str], where: str) -> list[str]:
    """The file of each name, in whatever form. Raises MissingBenchmarkFile with the first, and how many."""
    forms = Names(known)
    found = {name: name if name in known else _found(forms, name) for name in names}
    absent = [name for name in names if found[name] is None]
    if absent:
        raise _missing(f"{where}/{absent[0]}.jpg", forms.hint(absent[0]), len(absent), len(names))
    return [known[found[name] or name] for name in names]


def _found(known: Names, name: str) -> str | None:
    alike = known.alike(name)
    return alike[0] if len(alike) == 1 else None


def _missing(first: Path | str, hint: str, absent: int, count: int) -> MissingBenchmarkFile:
    return MissingBenchmarkFile(f"'{first}' is missing ({absent} of {count} images in all){hint}")
