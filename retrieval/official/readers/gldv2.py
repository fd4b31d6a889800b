"""Google Landmarks v2 retrieval as it lies on disk.

`retrieval_solution_v2*.csv` (id, images, Usage) in the folder, in `metadata/` or in `test/`; images as
`test/a/b/c/abc....jpg` and `index/a/b/c/abc....jpg`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retrieval.benchmarks.gldv2 import evaluate_gldv2
from retrieval.official.readers import files
from retrieval.official.readers.common import Benchmark, BenchmarkImage, ProtocolOptions, Ranking, Score
from storage.outside.tables import Columns, read_table
from storage.outside.text import BadText

K = 100
PARTS = ("Private", "Public")
COLUMNS = Columns(((("id", "images", "usage"), ()),), others=True)


def read_gldv2(name: str, data: Path, options: ProtocolOptions, images: bool) -> Benchmark:
    """mAP@100 of the Private and the Public queries; ignored ones are not asked.

    Raises MissingBenchmarkFile, InvalidBenchmarkFile.
    """
    root = files.root_of(data, ["gldv2", "google-landmark"], "index")
    part_of, solution = _solution(_solution_file(root))
    index = files.images_by_stem(root, "index")
    names = tuple(sorted(index))
    position = {name: place for place, name in enumerate(names)}
    queries = tuple(sorted(solution))
    absent = sorted({image for images in solution.values() for image in images} - position.keys())
    if absent:
        raise files.MissingBenchmarkFile(
            f"'{root}/index/{'/'.join(absent[0][:3])}/{absent[0]}.jpg' is missing "
            f"({len(absent)} positives in all)"
        )

    def score(ranking: Ranking) -> Score:
        lists = {
            query: [names[i] for i in row if i >= 0]
            for query, row in zip(queries, ranking.ranks[:, :K].tolist(), strict=True)
        }
        found, values = Score(), dict.fromkeys(queries, np.nan)
        for part in PARTS:
            mine = {query: solution[query] for query in queries if part_of[query] == part}
            result = evaluate_gldv2({query: lists[query] for query in mine}, mine, K)
            values |= result.average_precisions
            measured = {f"mAP@{K}": result.mean_average_precision}
            found.add(part.lower(), measured, len(result.average_precisions), {})
        found.per_query[f"AP@{K}"] = np.array(list(values.values()))
        return found

    return Benchmark(
        name=name,
        root=root,
        queries=tuple(BenchmarkImage(_test_file(root, query)) for query in queries),
        database=tuple(BenchmarkImage(index[name]) for name in names),
        query_names=queries,
        database_names=names,
        positives=tuple(
            np.array([position[i] for i in solution[query]], dtype=np.int64) for query in queries
        ),
        score=score,
        depth=K,
        facts=[part_of[query] for query in queries],
        more_queries=True,
    )


def _solution_file(root: Path) -> Path:
    for folder in (root, root / "metadata", root / "test"):
        for path in sorted(folder.glob("retrieval_solution_v2*.csv"), reverse=True):
            return path
    raise files.MissingBenchmarkFile(
        f"gldv2: no retrieval_solution_v2*.csv in '{root}', its metadata/ or test/; put it there "
        "(nothing is downloaded)"
    )


def _solution(path: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """(Public or Private of each query, its positives)."""
    parts: dict[str, str] = {}
    solution: dict[str, list[str]] = {}
    try:
        table = read_table(path, COLUMNS)
    except BadText as error:
        raise files.InvalidBenchmarkFile(str(error)) from error
    for query, images, usage in zip(
        *(table.columns[name] for name in ("id", "images", "usage")), strict=True
    ):
        if usage in PARTS and images not in ("", "None"):
            parts[query] = usage
            solution[query] = images.split()
    if not solution:
        raise files.InvalidBenchmarkFile(f"'{path}' has no Public or Private query with positives")
    return parts, solution


def _test_file(root: Path, query: str) -> str:
    for file in (f"test/{'/'.join(query[:3])}/{query}.jpg", f"test/{query}.jpg"):
        if (root / file).is_file():
            return file
    raise files.MissingBenchmarkFile(f"'{root}/test/{'/'.join(query[:3])}/{query}.jpg' is missing")


PLACE = 6
READS = {"gldv2": read_gldv2}
