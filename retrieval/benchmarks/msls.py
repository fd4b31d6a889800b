"""Mapillary Street-Level Sequences: recall@k, map@k and the official csv files, tasks and subtasks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.places import positives_within
from storage.outside.text import read_text

if TYPE_CHECKING:
    from pandas import DataFrame

Task = Literal["im2im", "seq2im", "im2seq", "seq2seq"]
Subtask = Literal["all", "s2w", "w2s", "o2n", "n2o", "d2n", "n2d"]
VALIDATION_CITIES = ("cph", "sf")
TEST_CITIES = ("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala")


class InvalidMsls(ValueError):
    """Predictions that miss a query, an unknown task, or missing files."""


@dataclass(frozen=True)
class MslsResult:
    """recall_at, map_at: {k: 0..1} over the queries that have positives."""

    recall_at: Mapping[int, float]
    map_at: Mapping[int, float]
    num_queries: int


@dataclass(frozen=True)
class MslsSet:
    """Keys of queries and database (frames of a sequence joined by commas) and each query's positive keys.

    Queries without positives have an empty list; files: path of every frame's image by its key.
    """

    query_keys: tuple[str, ...]
    database_keys: tuple[str, ...]
    positives: Mapping[str, Sequence[str]]
    files: Mapping[str, Path]


def evaluate_msls(
    predictions: Mapping[str, Sequence[str]],
    positives: Mapping[str, Sequence[str]],
    ks: Sequence[int] = (1, 5, 10, 20),
) -> MslsResult:
    """Score {query key: [keys best first]} against {query key: [positive keys]}.

    Queries without positives are left out (place recognition elsewhere counts them as failures). map@k =
    sum of precisions at hits / min(number of positives, k), a repeated key counts once. Predictions for
    other queries are ignored. Raises InvalidMsls when a query has no predictions. Source: mapillary_sls.
    """
    queries = [query for query, keys in positives.items() if len(keys)]
    missing = [query for query in queries if query not in predictions]
    if missing:
        raise InvalidMsls(f"no predictions for query '{missing[0]}' ({len(missing)} in all)")
    recall, precision = dict.fromkeys(ks, 0.0), dict.fromkeys(ks, 0.0)
    for query in queries:
        hits = _hits(predictions[query], set(positives[query]))
        for k in ks:
            within = hits[hits <= k]
            recall[k] += bool(len(within))
            found = np.arange(1, len(within) + 1)
            precision[k] += float((found / within).sum()) / min(len(positives[query]), k)
    num = len(queries) or np.nan
    return MslsResult(
        {k: float(value / num) for k, value in recall.items()},
        {k: float(value / num) for k, value in precision.items()},
        len(queries),
    )


def _hits(keys: Sequence[str], wanted: set[str]) -> NDArray[np.int64]:
    """1-based positions of the first occurrence of each wanted key."""
    first: dict[str, int] = {}
    for position, key in enumerate(keys, 1):
        if key in wanted:
            first.setdefault(key, position)
    return np.array(sorted(first.values()), dtype=np.int64)


def read_msls(
    root: Path,
    *,
    cities: Sequence[str] = VALIDATION_CITIES,
    task: Task = "im2im",
    subtask: Subtask = "all",
    sequence_length: int = 3,
    radius_m: float = 25.0,
) -> MslsSet:
    """The validation set as the official tool forms it, from `train_val/<city>/{query,database}/*.csv`.

    sequence_length: frames per sequence, odd; ignored on an image side of a task. A sequence is consecutive
    frames of one sequence key; it belongs to a subtask, and is no panorama, by its centre frame; it is a
    positive if any pair of frames is within the radius. Raises InvalidMsls that names what is missing.
    """
    found = _read_set(root / "train_val", cities, task, subtask, sequence_length, True)
    positives: dict[str, list[str]] = {}
    for queries, database in found:
        positives |= _positives(queries, database, radius_m)
    return _joined(found, positives)


def read_msls_challenge(root: Path, *, task: Task, subtask: Subtask, sequence_length: int) -> MslsSet:
    """The test set without labels, from `test/<city>/{query,database}/{seq_info,subtask_index}.csv`.

    Raises InvalidMsls that names what is missing.
    """
    found = _joined(_read_set(root / "test", TEST_CITIES, task, subtask, sequence_length, False), {})
    if not found.query_keys or not found.database_keys:
        raise InvalidMsls(f"{task}, {subtask}: no sequence in '{root / 'test'}'; choose another subtask")
    return found


def _read_set(
    folder: Path, cities: Sequence[str], task: str, subtask: Subtask, sequence_length: int, labelled: bool
) -> list[list[_Side]]:
    """[queries, database] of each city. Raises InvalidMsls."""
    lengths = _lengths(task, subtask, sequence_length)
    sides = list(zip(("query", "database"), lengths, strict=True))
    return [[_read_side(folder / city / side, n, subtask, labelled) for side, n in sides] for city in cities]


def _joined(found: Sequence[Sequence[_Side]], positives: Mapping[str, Sequence[str]]) -> MslsSet:
    """The cities as one set."""
    query_keys, database_keys = (tuple(key for pair in found for key in pair[side].keys) for side in (0, 1))
    files = {key: path for pair in found for side in pair for key, path in side.files.items()}
    return MslsSet(query_keys, database_keys, positives, files)


def _lengths(task: str, subtask: str, sequence_length: int) -> tuple[int, int]:
    """Frames of a query and of a database entry. Raises InvalidMsls."""
    if task not in get_args(Task) or subtask not in get_args(Subtask) or sequence_length % 2 == 0:
        raise InvalidMsls(
            f"task {task}, subtask {subtask}, length {sequence_length}: "
            f"tasks are {', '.join(get_args(Task))}; subtasks {', '.join(get_args(Subtask))}; "
            "the length is odd"
        )
    query, database = task.split("2")
    lengths = {"im": 1, "seq": sequence_length}
    return lengths[query], lengths[database]


@dataclass(frozen=True)
class _Side:
    """Sequences of one city's queries or database: keys [S], frames [S, L] as rows of utm [F, 2]."""

    keys: list[str]
    frames: NDArray[np.int64]
    utm: NDArray[np.float64]
    files: dict[str, Path]


def _read_side(folder: Path, length: int, subtask: Subtask, labelled: bool) -> _Side:
    """Sequences of one side of a city; without labels there are no positions and nothing about panoramas.

    Raises InvalidMsls.
    """
    try:
        return _side(folder, length, subtask, labelled)
    except InvalidMsls:
        raise
    except (LookupError, ValueError, TypeError, OverflowError) as error:  # tables of other rows or kinds
        raise InvalidMsls(
            f"'{folder}': its tables do not fit together ({error!r}); take official ones"
        ) from error


def _side(folder: Path, length: int, subtask: Subtask, labelled: bool) -> _Side:
    needed: dict[str, list[str]] = {
        "seq_info": ["sequence_key", "frame_number", "key"],
        "subtask_index": [subtask],
    }
    if labelled:
        needed |= {"postprocessed": ["easting", "northing"], "raw": ["pano"]}
    tables = {name: _read_csv(folder / f"{name}.csv", columns) for name, columns in needed.items()}
    info = tables["seq_info"]
    half, num_frames = length // 2, len(info)
    centers = np.asarray(tables["postprocessed" if labelled else "subtask_index"].index, dtype=np.int64)
    centers = centers[(centers >= half) & (centers < num_frames - half)]
    frames = centers[:, None] + np.arange(-half, half + 1)
    sequence = info["sequence_key"].factorize()[0][frames]
    number = info["frame_number"].to_numpy()[frames]
    whole = (sequence == sequence[:, :1]).all(axis=1) & (np.diff(number, axis=1) == 1).all(axis=1)
    wanted = tables["subtask_index"][subtask].to_numpy(dtype=bool)
    if labelled:
        wanted = wanted & ~tables["raw"]["pano"].to_numpy(dtype=bool)
    frames = frames[whole & wanted[centers]]
    names = info["key"].astype(str).to_numpy()
    keys = [",".join(names[row]) for row in frames]
    files = {name: folder / "images" / f"{name}.jpg" for name in names[np.unique(frames)]}
    utm = np.full((num_frames, 2), np.nan)
    if labelled:
        placed = tables["postprocessed"].reindex(np.arange(num_frames))
        utm = placed[["easting", "northing"]].to_numpy(np.float64)
    return _Side(keys, frames, utm, files)


def _positives(queries: _Side, database: _Side, radius_m: float) -> dict[str, list[str]]:
    """Database keys of which any frame is within the radius of any frame of the query, in database order."""
    query_frames, database_frames = np.unique(queries.frames), np.unique(database.frames)
    near = positives_within(queries.utm[query_frames], database.utm[database_frames], radius_m)
    sequences_of: dict[int, list[int]] = {}
    for sequence, row in enumerate(database.frames):
        for frame in row:
            sequences_of.setdefault(int(frame), []).append(sequence)
    near_of = {
        int(frame): {sequence for other in database_frames[found] for sequence in sequences_of[int(other)]}
        for frame, found in zip(query_frames, near, strict=True)
    }
    return {
        key: [database.keys[s] for s in sorted(set().union(*(near_of[int(frame)] for frame in row)))]
        for key, row in zip(queries.keys, queries.frames, strict=True)
    }


def _read_csv(path: Path, columns: Sequence[str]) -> DataFrame:
    import pandas as pd

    if not path.is_file():
        raise InvalidMsls(f"'{path}' is missing; expected <city>/{{query,database}}/{path.name}")
    try:
        table = pd.read_csv(io.StringIO(read_text(path).content), index_col=0)
    except (ValueError, OverflowError) as error:  # pandas' own errors and those of the text are ValueErrors
        raise InvalidMsls(f"'{path}': {' '.join(str(error).split())}; expected the official table") from error
    table.columns = table.columns.map(lambda name: str(name).strip())
    absent = [name for name in columns if name not in table.columns]
    if absent:
        found = ", ".join(map(str, table.columns[:8]))
        raise InvalidMsls(
            f"'{path}', line 1: has no column {absent[0]!r} but {found}; expected the official table"
        )
    return table
