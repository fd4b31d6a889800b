"""Mapillary Street-Level Sequences as it lies on disk: the validation set, and the challenge's test set.

Validation: `train_val/{cph,sf}/{query,database}/{images/,postprocessed,raw,seq_info,subtask_index.csv}`.
Challenge: `test/<city>/{query,database}/{images/,seq_info,subtask_index.csv}`; its labels are on a server,
which takes the prediction file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.msls import MslsSet, evaluate_msls, read_msls, read_msls_challenge
from retrieval.official.readers import files
from retrieval.official.readers.common import Benchmark, BenchmarkImage, ProtocolOptions, Ranking, Score
from storage.outside.names import form

KS = (1, 5, 10, 20)
PREDICTED = 25
"""Keys per query in a prediction file; the server counts 20 at most."""


def read_msls_val(name: str, data: Path, options: ProtocolOptions, images: bool) -> Benchmark:
    """The validation set; subset: a list of query keys or files (one a line), such as the 740 of most papers.

    Queries without positives are left out. The descriptor of a sequence is the mean of its frames. images:
    whether they have to be there beside the csv files. Raises InvalidMsls, MissingBenchmarkFile,
    InvalidBenchmarkFile.
    """
    root = files.root_of(data, ["msls", "MSLS"], "train_val")
    radius = 25.0 if options.radius_m is None else options.radius_m
    found = read_msls(root, **_sides(options), radius_m=radius)
    keys = [key for key in found.query_keys if len(found.positives[key])]
    notes = [f"{options.task}, {options.subtask}", f"radius {radius:g} m"]
    if options.subset is not None:
        listed = _subset(options.subset)
        keys = [key for key in keys if key in listed]
        notes.append(f"{len(keys)} queries of the list {options.subset.name}")
    else:
        notes.append("all queries of the official tool")
    if not keys:
        raise files.InvalidBenchmarkFile(f"msls, {', '.join(notes)}: no query is left; choose another subset")
    return _benchmark(name, root, found, keys, notes, images)


def read_msls_test(name: str, data: Path, options: ProtocolOptions, images: bool) -> Benchmark:
    """The challenge's test set: without labels, for a prediction file only. Raises InvalidMsls."""
    root = files.root_of(data, ["msls", "MSLS"], "test")
    found = read_msls_challenge(root, **_sides(options))
    notes = [f"{options.task}, {options.subtask}", "no labels: write --predictions for the server"]
    return _benchmark(name, root, found, found.query_keys, notes, images=True)


def _sides(options: ProtocolOptions) -> dict[str, Any]:
    """What either set takes of the options."""
    return options.model_dump(include={"task", "subtask", "sequence_length"})


def prediction_lines(
    query_names: Sequence[str], database_names: Sequence[str], ranks: NDArray[np.int64]
) -> str:
    """The official prediction file: per line a query's key and the keys best first, divided by spaces.

    ranks: [Q, K], at most PREDICTED of them are written. Source: mapillary_sls `evaluate.py`.
    """
    lines = []
    for name, row in zip(query_names, ranks[:, :PREDICTED].tolist(), strict=True):
        lines.append(" ".join([name, *(database_names[position] for position in row if position >= 0)]))
    return "\n".join([*lines, ""])


def _subset(path: Path) -> set[str]:
    keys = {Path(form(line)).stem for _, line in files.listed_lines(path)}
    if not keys:
        raise files.InvalidBenchmarkFile(f"'{path}' is empty; expected query keys or image names, one a line")
    return keys


def _benchmark(
    name: str,
    root: Path,
    found: MslsSet,
    keys: Sequence[str],
    notes: Sequence[str],
    images: bool,
) -> Benchmark:
    position = {key: index for index, key in enumerate(found.database_keys)}
    wanted = {key: found.positives.get(key, ()) for key in keys}

    def score(ranking: Ranking) -> Score:
        lists = {
            key: [found.database_keys[i] for i in row if i >= 0]
            for key, row in zip(keys, ranking.ranks[:, : max(KS)].tolist(), strict=True)
        }
        if not found.positives:
            return Score()
        result = evaluate_msls(lists, wanted, KS)
        each = {key: evaluate_msls({key: lists[key]}, {key: wanted[key]}, KS).map_at for key in keys}
        values = {f"recall@{k}": result.recall_at[k] for k in KS} | {f"map@{k}": result.map_at[k] for k in KS}
        per_query = {f"AP@{k}": np.array([each[key][k] for key in keys]) for k in reversed(KS)}
        return Score().add("", values, result.num_queries, per_query)

    return Benchmark(
        name=name,
        root=root,
        queries=_frames(root, keys, found.files, images),
        database=_frames(root, found.database_keys, found.files, images),
        query_names=tuple(keys),
        database_names=found.database_keys,
        positives=tuple(np.array([position[p] for p in wanted[key]], dtype=np.int64) for key in keys),
        score=score,
        depth=max(PREDICTED, *KS),
        query_frames=keys[0].count(",") + 1,
        database_frames=found.database_keys[0].count(",") + 1,
        notes=tuple(notes),
        more_queries=True,
    )


def _frames(
    root: Path, keys: Sequence[str], path_of: Mapping[str, Path], images: bool
) -> tuple[BenchmarkImage, ...]:
    paths = [path_of[frame] for key in keys for frame in key.split(",")]
    absent = [path for path in dict.fromkeys(paths) if images and not path.is_file()]
    if absent:
        raise files.MissingBenchmarkFile(
            f"'{absent[0]}' is missing ({len(absent)} of {len(paths)} images in all)"
        )
    return tuple(BenchmarkImage(path.relative_to(root).as_posix()) for path in paths)


PLACE = 3
READS = {"msls": read_msls_val, "msls_challenge": read_msls_test}
