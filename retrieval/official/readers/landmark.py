"""Oxford5k, Paris6k, ROxford5k, RParis6k as they lie on disk.

`jpg/` with the images (subfolders allowed) beside `gnd_NAME.pkl`; the two classic ones also with the original
text files (`*_query.txt`, `*_good.txt`, `*_ok.txt`, `*_junk.txt`), there or one folder below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.benchmarks.landmarks import EASY, HARD, JUNK, score_classic, score_revisited
from retrieval.official.readers import files
from retrieval.official.readers.common import Benchmark, BenchmarkImage, ProtocolOptions, Ranking, Score
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


def read_revisited(name: str, data: Path, options: ProtocolOptions, images: bool) -> Benchmark:
    """`gnd_NAME.pkl` and `jpg/`: cropped queries, not in the database.

    images: whether they have to be there, which scoring ranks does not need. Raises MissingBenchmarkFile.
    """
    root = files.root_of(data, [name], f"gnd_{name}.pkl")
    truth = read_pickle(root / f"gnd_{name}.pkl")
    num_easy = np.array([query["easy"].size for query in truth.labels], dtype=np.int64)
    num_hard = np.array([query["hard"].size for query in truth.labels], dtype=np.int64)

    def score(ranking: Ranking) -> Score:
        roles = _roles(ranking, truth, {EASY: "easy", HARD: "hard", JUNK: "junk"})
        results, found = score_revisited(roles, num_easy, num_hard, KS), Score()
        for protocol in ("medium", "hard", "easy"):
            result = getattr(results, protocol)
            values = {"mAP": result.mean_average_precision}
            values |= {f"mP@{k}": result.mean_precision_at[k] for k in KS}
            per_query = {f"AP {protocol}": result.average_precisions}
            per_query |= {f"P@{k} {protocol}": result.precision_at[k] for k in KS}
            found.add(protocol, values, result.num_queries, per_query)
        return found

    return _benchmark(name, root, truth, images, ("easy", "hard"), score=score, depth=max(KS))


def read_classic(name: str, data: Path, options: ProtocolOptions, images: bool) -> Benchmark:
    """`gnd_NAME.pkl` or the original text files, and `jpg/`: queries stay in the database.

    images: whether they have to be there; the text files list no database, so that they always need `jpg/`.
    Raises MissingBenchmarkFile, InvalidGroundTruth.
    """
    root = files.root_of(data, [name], "jpg", *(() if images else (f"gnd_{name}.pkl",)))
    truth = _classic_truth(name, root)
    num_positives = [len(np.unique(query["ok"])) for query in truth.labels]

    def score(ranking: Ranking) -> Score:
        found = score_classic(_roles(ranking, truth, {EASY: "ok", JUNK: "junk"}), num_positives)
        values = {"mAP": found.mean_average_precision}
        return Score().add("", values, found.num_queries, {"AP": found.average_precisions})

    position = {name: index for index, name in enumerate(truth.images)}
    own = np.array([position.get(query, -1) for query in truth.queries], dtype=np.int64)
    return _benchmark(name, root, truth, images, ("ok",), score=score, own=own)


def _classic_truth(name: str, root: Path) -> LandmarkGroundTruth:
    if (root / f"gnd_{name}.pkl").is_file():
        return read_pickle(root / f"gnd_{name}.pkl")
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    for folder in folders:
        if next(folder.glob("*_query.txt"), None) is not None:
            names = sorted(files.images_by_stem(root, "jpg").keys() - _PARIS_BROKEN)
            return read_text(folder, names)
    raise files.MissingBenchmarkFile(
        f"{name}: neither 'gnd_{name}.pkl' nor *_query.txt in '{root}' or a folder in it; "
        "put the ground truth there (nothing is downloaded)"
    )


def _roles(ranking: Ranking, truth: LandmarkGroundTruth, names: Mapping[int, str]) -> Iterator[Any]:
    """Of each query where its labelled images stand, and their role bits. names: of the labels, by bit."""
    for (positions, ids), query in zip(ranking.listed, truth.labels, strict=True):
        roles = np.zeros(len(ids), dtype=np.uint8)
        for bit, name in names.items():
            roles[np.isin(ids, query[name])] |= np.uint8(bit)
        yield positions, roles


def _benchmark(
    name: str, root: Path, truth: LandmarkGroundTruth, images: bool, positive: Sequence[str], **own: Any
) -> Benchmark:
    """What the four have in common. positive: names of the labels that are; own: what they have not."""
    boxes = [(float(a), float(b), float(c), float(d)) for a, b, c, d in truth.boxes]
    queries, database = (
        files.jpg_files(root, names, images=images) for names in (truth.queries, truth.images)
    )
    return Benchmark(
        name=name,
        root=root,
        queries=tuple(map(BenchmarkImage, queries, boxes)),
        database=tuple(map(BenchmarkImage, database)),
        query_names=truth.queries,
        database_names=truth.images,
        positives=tuple(
            np.unique(np.concatenate([query[name] for name in positive])) for query in truth.labels
        ),
        ignored=tuple(np.unique(query["junk"]) for query in truth.labels),
        whole=True,
        distractors=True,
        facts=[{key: ids.tolist() for key, ids in query.items()} for query in truth.labels],
        **own,
    )


PLACE = 0
READS = {
    **dict.fromkeys(("oxford5k", "paris6k"), read_classic),
    **dict.fromkeys(("roxford5k", "rparis6k"), read_revisited),
}
