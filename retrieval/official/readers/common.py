"""What every benchmark is: its images, who is query and who database, and how lists of them are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from retrieval.benchmarks.msls import Subtask, Task
from retrieval.describe.options import Box
from retrieval.official.readers.files import MissingBenchmarkFile as MissingBenchmarkFile
from storage.files.digests import json_sha256
from storage.keys.options import ContentPath, Options

Ids = NDArray[np.int64]


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

    rows: list[ScoreRow] = field(default_factory=list)
    per_query: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def add(
        self,
        protocol: str,
        values: Mapping[str, float],
        num_queries: int,
        per_query: Mapping[str, NDArray[np.float64]],
    ) -> Score:
        """With one protocol more. values: metric -> value."""
        self.rows.extend(ScoreRow(protocol, metric, value, num_queries) for metric, value in values.items())
        self.per_query.update(per_query)
        return self


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
