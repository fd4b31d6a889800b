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
from retrieval.official.readers import files
from retrieval.official.readers.common import Benchmark, Ids, ProtocolOptions, Ranking, Score, named_by_files

KS = (1, 5, 10)
MAX_RANK = 50


def read_reid(name: str, data: Path, options: ProtocolOptions, images: bool) -> Benchmark:
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
            match = np.isin(found, positives[q])
            hits.append(clean_positions(positions[match], positions[~match]))
        counts = np.array([len(each) for each in positives], dtype=np.int64)
        result = score_hits(hits, counts, min(MAX_RANK, len(gallery)))
        num = int(np.isfinite(result.average_precisions).sum())
        values = {"mAP": result.mean_average_precision, "mINP": result.mean_inverse_negative_penalty}
        values |= {f"rank-{k}": float(result.cmc[min(k, len(result.cmc)) - 1]) for k in KS}
        per_query = {"AP": result.average_precisions, "INP": result.inverse_negative_penalties}
        return Score().add("", values, num, per_query)

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
    root = files.root_of(data, ["market1501", "Market-1501-v15.09.15", "Market-1501"], "bounding_box_test")
    queries, boxes = _folder(root, "query"), _folder(root, "bounding_box_test")
    gallery_ids, seen_by = parse_names(boxes)
    kept = market_gallery(gallery_ids)
    gallery = [boxes[row] for row in kept]
    return root, (queries, *parse_names(queries)), (gallery, gallery_ids[kept], seen_by[kept])


def _read_veri(data: Path, images: bool) -> tuple[Path, _Side, _Side]:
    root = files.root_of(data, ["veri776", "VeRi", "VeRi-776"], "name_query.txt")

    def side(names: str, folder: str) -> _Side:
        listed = [f"{folder}/{name}" for _, name in _lines(root / names)]
        return files.resolved(root, listed) if images else listed, *parse_names(listed)

    return root, side("name_query.txt", "image_query"), side("name_test.txt", "image_test")


def _read_msmt(data: Path, images: bool) -> tuple[Path, _Side, _Side]:
    root = files.root_of(data, ["msmt17", "MSMT17_V1", "MSMT17_V2", "MSMT17"], "list_query.txt")
    folder = next((name for name in ("test", "mask_test_v2") if (root / name).is_dir()), "")
    if not folder and images:
        raise files.MissingBenchmarkFile(
            f"msmt17: neither '{root / 'test'}' nor '{root / 'mask_test_v2'}' is there"
        )

    def side(names: str) -> _Side:
        rows = [_msmt_row(line, f"'{root / names}', line {number}") for number, line in _lines(root / names)]
        listed = [f"{folder}/{file}" for file, _, _ in rows]
        ids, cameras = (np.array([row[column] for row in rows], dtype=np.int64) for column in (1, 2))
        return files.resolved(root, listed) if images else listed, ids, cameras

    return root, side("list_query.txt"), side("list_gallery.txt")


def _msmt_row(line: str, where: str) -> tuple[str, int, int]:
    """(file, identity, camera): the third field of 0000/0000_000_01_0303morning_0015_0.jpg is the camera."""
    try:
        file, identity = line.split()
        return file, int(identity), int(file.rpartition("/")[2].split("_")[2])
    except (ValueError, IndexError) as error:
        raise files.InvalidBenchmarkFile(
            f"{where}: {error}; expected lines such as 0000/0000_000_01_0303morning_0015_0.jpg 0"
        ) from error


def _folder(root: Path, name: str) -> list[str]:
    found = sorted(files.image_files(root, f"{name}/")) if (root / name).is_dir() else []
    if not found:
        raise files.MissingBenchmarkFile(f"no *.jpg in '{root / name}'; expected the official images there")
    return found


def _lines(path: Path) -> list[tuple[int, str]]:
    found = files.listed_lines(path)
    if not found:
        raise files.InvalidBenchmarkFile(f"'{path}' is empty; expected the official list")
    return found


_SETS = {"market1501": _read_market, "msmt17": _read_msmt, "veri776": _read_veri}
PLACE = 4
READS = dict.fromkeys(_SETS, read_reid)
