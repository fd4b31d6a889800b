"""INRIA Holidays as it lies on disk: `jpg/NNNNNN.jpg`, and `holidays_images.dat` where it is there."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from retrieval.benchmarks.holidays import InvalidHolidays, queries_of, read_image_list
from retrieval.benchmarks.landmarks import average_precision, clean_positions
from retrieval.official.readers import files
from retrieval.official.readers.common import Benchmark, BenchmarkImage, ProtocolOptions, Ranking, Score


def read_holidays(name: str, data: Path, options: ProtocolOptions, images: bool) -> Benchmark:
    """Every query is in the database and ignored in its own list.

    images: whether they have to be there beside holidays_images.dat. Raises MissingBenchmarkFile,
    InvalidHolidays.
    """
    root = files.root_of(data, ["holidays"], "jpg", *(() if images else ("holidays_images.dat",)))
    listed = root / "holidays_images.dat"
    stems = [PurePosixPath(name).stem for name in read_image_list(listed if listed.is_file() else root)]
    queries = queries_of(stems)
    if not queries:
        raise InvalidHolidays(f"no image in '{root}' has a number divisible by 100; those are the queries")
    shown = files.jpg_files(root, stems, images=images)
    position = {stem: index for index, stem in enumerate(stems)}
    scene = np.array([int(stem) // 100 for stem in stems], dtype=np.int64)
    own = np.array([position[query] for query in queries], dtype=np.int64)
    positives = tuple(
        np.setdiff1d(np.flatnonzero(scene == scene[q]).astype(np.int64), [q]) for q in own.tolist()
    )

    def score(ranking: Ranking) -> Score:
        values = np.full(len(queries), np.nan)
        for q, (positions, ids) in enumerate(ranking.listed):
            if len(positives[q]):
                itself = positions[ids == own[q]][:1]  # officially a rank moves up by one at most
                ranks = clean_positions(positions[ids != own[q]], itself)
                values[q] = average_precision(ranks, len(positives[q]))
        counted = values[np.isfinite(values)]
        mean = float(counted.mean()) if counted.size else float("nan")
        return Score().add("", {"mAP": mean}, counted.size, {"AP": values})

    return Benchmark(
        name=name,
        root=root,
        queries=tuple(BenchmarkImage(shown[q]) for q in own.tolist()),
        database=tuple(map(BenchmarkImage, shown)),
        query_names=tuple(queries),
        database_names=tuple(stems),
        positives=positives,
        ignored=tuple(own.reshape(-1, 1)),
        own=own,
        score=score,
        whole=True,
        distractors=True,
        notes=("upright images" if options.upright else "original images",),
    )


PLACE = 1
READS = {"holidays": read_holidays}
