"""Oxford5k, Paris6k, ROxford5k, RParis6k as they lie on disk.

`jpg/` with the images (subfolders allowed) beside `gnd_NAME.pkl`; the two classic ones also with the original
text files (`*_query.txt`, `*_good.txt`, `*_ok.txt`, `*_junk.txt`), there or one folder below.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from retrieval.benchmarks.landmarks import EASY, HARD, JUNK, score_classic, score_revisited
from retrieval.official.readers.common import (
    Benchmark,
    BenchmarkImage,
    MissingBenchmarkFile,
    Ranking,
    Read,
    Score,
    ScoreRow,
    benchmark_root,
    images_by_stem,
    jpg_files,
    roles_of,
)
from retrieval.official.readers.ground_truth import LandmarkGroundTruth, read_pickle, read_text

KS = (1, 5, 10)
_PARIS_BROKEN = frozenset(
    f"paris_{name}"
    for name in (
        "louvre_000136", "louvre_000146", "moulinrouge_000422", "museedorsay_001059", "notredame_000188",
        "pantheon_000284", "pantheon_000960", "pantheon_000974", "pompidou_000195", "pompidou_000196",
        "pompidou_000201", "pompidou_000467", "pompidou_000640", "sacrecoeur_000299", "sacrecoeur_000330",
        "sacrecoeur_000353", "triomphe_000662", "triomphe_000833", "triomphe_000863", "triomphe_000867",
    )
)  # fmt: skip
"""The 20 files that are damaged in the published archive and no part of the 6,392 images."""


def read_revisited(name: str, data: Path, *, images: bool = True) -> Benchmark:
    """`gnd_NAME.pkl` and `jpg/`: cropped queries, not in the database.

    images: whether they have to be there, which scoring ranks does not need. Raises MissingBenchmarkFile.
    """
    root = benchmark_root(data, [name], f"gnd_{name}.pkl")
    truth = read_pickle(root / f"gnd_{name}.pkl")
    labels = truth.labels
    num_easy = np.array([query["easy"].size for query in labels], dtype=np.int64)
    num_hard = np.array([query["hard"].size for query in labels], dtype=np.int64)

    def score(ranking: Ranking) -> Score:
        roles = (
            (positions, roles_of(ids, {EASY: query["easy"], HARD: query["hard"], JUNK: query["junk"]}))
            for (positions, ids), query in zip(ranking.listed, labels, strict=True)
        )
        found = score_revisited(roles, num_easy, num_hard, KS)
        rows, per_query = [], {}
        for protocol in ("medium", "hard", "easy"):
            result = getattr(found, protocol)
            values = {"mAP": result.mean_average_precision}
            values |= {f"mP@{k}": result.mean_precision_at[k] for k in KS}
            rows += [
                ScoreRow(protocol, metric, value, result.num_queries) for metric, value in values.items()
            ]
            per_query[f"AP {protocol}"] = result.average_precisions
            per_query |= {f"P@{k} {protocol}": result.precision_at[k] for k in KS}
        return Score(tuple(rows), per_query)

    return Benchmark(
        **_images(name, root, truth, images),
        positives=tuple(np.union1d(query["easy"], query["hard"]) for query in labels),
        ignored=tuple(np.unique(query["junk"]) for query in labels),
        score=score,
        depth=max(KS),
        whole=True,
        distractors=True,
        facts=[{key: ids.tolist() for key, ids in query.items()} for query in labels],
    )


def read_classic(name: str, data: Path, *, images: bool = True) -> Benchmark:
    """`gnd_NAME.pkl` or the original text files, and `jpg/`: queries stay in the database.

    images: whether they have to be there; the text files list no database, so that they always need `jpg/`.
    Raises MissingBenchmarkFile, InvalidGroundTruth.
    """
    root = benchmark_root(data, [name], "jpg", *(() if images else (f"gnd_{name}.pkl",)))
    truth = _classic_truth(name, root)
    num_positives = [len(np.unique(query["ok"])) for query in truth.labels]

    def score(ranking: Ranking) -> Score:
        roles = (
            (positions, roles_of(ids, {EASY: query["ok"], JUNK: query["junk"]}))
            for (positions, ids), query in zip(ranking.listed, truth.labels, strict=True)
        )
        found = score_classic(roles, num_positives)
        row = ScoreRow("", "mAP", found.mean_average_precision, found.num_queries)
        return Score((row,), {"AP": found.average_precisions})

    position = {name: index for index, name in enumerate(truth.images)}
    return Benchmark(
        **_images(name, root, truth, images),
        positives=tuple(np.unique(query["ok"]) for query in truth.labels),
        ignored=tuple(np.unique(query["junk"]) for query in truth.labels),
        own=np.array([position.get(query, -1) for query in truth.queries], dtype=np.int64),
        score=score,
        whole=True,
        distractors=True,
        facts=[{key: ids.tolist() for key, ids in query.items()} for query in truth.labels],
    )


def _classic_truth(name: str, root: Path) -> LandmarkGroundTruth:
    if (root / f"gnd_{name}.pkl").is_file():
        return read_pickle(root / f"gnd_{name}.pkl")
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    for folder in folders:
        if next(folder.glob("*_query.txt"), None) is not None:
            names = sorted(images_by_stem(root, "jpg").keys() - _PARIS_BROKEN)
            return read_text(folder, names)
    raise MissingBenchmarkFile(
        f"{name}: neither 'gnd_{name}.pkl' nor *_query.txt in '{root}' or a folder in it; "
        "put the ground truth there (nothing is downloaded)"
    )


def _images(name: str, root: Path, truth: LandmarkGroundTruth, images: bool) -> dict[str, Any]:
    """What the four have in common of a Benchmark."""
    boxes = [(float(a), float(b), float(c), float(d)) for a, b, c, d in truth.boxes]
    queries = jpg_files(root, truth.queries, images=images)
    return {
        "name": name,
        "root": root,
        "queries": tuple(BenchmarkImage(file, box) for file, box in zip(queries, boxes, strict=True)),
        "database": tuple(BenchmarkImage(file) for file in jpg_files(root, truth.images, images=images)),
        "query_names": truth.queries,
        "database_names": truth.images,
    }


PLACE = 0
READS: dict[str, Read] = {
    "oxford5k": lambda name, data, options, images: read_classic(name, data, images=images),
    "paris6k": lambda name, data, options, images: read_classic(name, data, images=images),
    "roxford5k": lambda name, data, options, images: read_revisited(name, data, images=images),
    "rparis6k": lambda name, data, options, images: read_revisited(name, data, images=images),
}
