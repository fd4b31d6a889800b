"""Market-1501, MSMT17, VeRi-776 as they lie on disk.

Market-1501: `query/`, `bounding_box_test/`. VeRi-776: `name_query.txt`, `name_test.txt`, `image_query/`,
`image_test/`. MSMT17: `list_query.txt`, `list_gallery.txt` (file and identity per line), `test/` or
`mask_test_v2/`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retrieval.benchmarks.landmarks import clean_positions
from retrieval.benchmarks.reid import market_gallery, parse_names, score_hits
from retrieval.official.readers.common import (
    Benchmark,
    Ids,
    InvalidBenchmarkFile,
    MissingBenchmarkFile,
    Ranking,
    Read,
    Score,
    ScoreRow,
    benchmark_root,
    files_there,
    image_files,
    listed_lines,
    named_by_files,
    roles_of,
)

KS = (1, 5, 10)
MAX_RANK = 50
_MATCH, _SAME_CAMERA = 1, 2


def read_reid(name: str, data: Path, *, images: bool = True) -> Benchmark:
    """Queries and gallery with the camera rule; images: whether they have to be there beside lists of them.

    Raises MissingBenchmarkFile, InvalidGallery.
    """
    root, (queries, ids, cameras), (gallery, gallery_ids, seen_by) = _SETS[name](data, images)
    members = {int(i): np.flatnonzero(gallery_ids == i).astype(np.int64) for i in np.unique(ids)}
    same_camera = [seen_by[members[int(i)]] == camera for i, camera in zip(ids, cameras, strict=True)]
    positives = tuple(members[int(i)][~same] for i, same in zip(ids, same_camera, strict=True))
    ignored = tuple(members[int(i)][same] for i, same in zip(ids, same_camera, strict=True))

    def score(ranking: Ranking) -> Score:
        hits = []
        for q, (positions, found) in enumerate(ranking.listed):
            roles = roles_of(found, {_MATCH: positives[q], _SAME_CAMERA: ignored[q]})
            hits.append(clean_positions(positions[roles == _MATCH], positions[roles == _SAME_CAMERA]))
        counts = np.array([len(each) for each in positives], dtype=np.int64)
        result = score_hits(hits, counts, min(MAX_RANK, len(gallery)))
        num = int(np.isfinite(result.average_precisions).sum())
        values = {"mAP": result.mean_average_precision, "mINP": result.mean_inverse_negative_penalty}
        values |= {f"rank-{k}": float(result.cmc[min(k, len(result.cmc)) - 1]) for k in KS}
        rows = tuple(ScoreRow("", metric, value, num) for metric, value in values.items())
        per_query = {"AP": result.average_precisions, "INP": result.inverse_negative_penalties}
        return Score(rows, per_query)

    return Benchmark(
        name=name,
        root=root,
        **named_by_files(queries, gallery),
        positives=positives,
        ignored=ignored,
        score=score,
        depth=max(KS),
        whole=True,
    )


_Side = tuple[list[str], Ids, Ids]


def _read_market(data: Path, images: bool) -> tuple[Path, _Side, _Side]:
    root = benchmark_root(data, ["market1501", "Market-1501-v15.09.15", "Market-1501"], "bounding_box_test")
    queries, boxes = _folder(root, "query"), _folder(root, "bounding_box_test")
    gallery_ids, seen_by = parse_names(boxes)
    kept = market_gallery(gallery_ids)
    gallery = [boxes[row] for row in kept]
    return root, (queries, *parse_names(queries)), (gallery, gallery_ids[kept], seen_by[kept])


def _read_veri(data: Path, images: bool) -> tuple[Path, _Side, _Side]:
    root = benchmark_root(data, ["veri776", "VeRi", "VeRi-776"], "name_query.txt")

    def side(names: str, folder: str) -> _Side:
        files = [f"{folder}/{name}" for _, name in _lines(root / names)]
        there = files_there(root, files) if images else files
        return there, *parse_names(files)

    return root, side("name_query.txt", "image_query"), side("name_test.txt", "image_test")


def _read_msmt(data: Path, images: bool) -> tuple[Path, _Side, _Side]:
    root = benchmark_root(data, ["msmt17", "MSMT17_V1", "MSMT17_V2", "MSMT17"], "list_query.txt")
    folder = next((name for name in ("test", "mask_test_v2") if (root / name).is_dir()), "")
    if not folder and images:
        raise MissingBenchmarkFile(
            f"msmt17: neither '{root / 'test'}' nor '{root / 'mask_test_v2'}' is there"
        )

    def side(names: str) -> _Side:
        rows = [_msmt_row(line, f"'{root / names}', line {number}") for number, line in _lines(root / names)]
        files = [f"{folder}/{file}" for file, _, _ in rows]
        ids, cameras = (np.array([row[column] for row in rows], dtype=np.int64) for column in (1, 2))
        return files_there(root, files) if images else files, ids, cameras

    return root, side("list_query.txt"), side("list_gallery.txt")


def _msmt_row(line: str, where: str) -> tuple[str, int, int]:
    """(file, identity, camera): the third field of 0000/0000_000_01_0303morning_0015_0.jpg is the camera."""
    try:
        file, identity = line.split()
        return file, int(identity), int(file.rpartition("/")[2].split("_")[2])
    except (ValueError, IndexError) as error:
        raise InvalidBenchmarkFile(
            f"{where}: {error}; expected lines such as 0000/0000_000_01_0303morning_0015_0.jpg 0"
        ) from error


def _folder(root: Path, name: str) -> list[str]:
    found = sorted(image_files(root, f"{name}/")) if (root / name).is_dir() else []
    if not found:
        raise MissingBenchmarkFile(f"no *.jpg in '{root / name}'; expected the official images there")
    return found


def _lines(path: Path) -> list[tuple[int, str]]:
    found = listed_lines(path)
    if not found:
        raise InvalidBenchmarkFile(f"'{path}' is empty; expected the official list")
    return found


_SETS = {"market1501": _read_market, "msmt17": _read_msmt, "veri776": _read_veri}
PLACE = 4
READS: dict[str, Read] = dict.fromkeys(
    _SETS, lambda name, data, options, images: read_reid(name, data, images=images)
)
