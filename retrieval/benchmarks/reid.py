"""Re-identification (Market-1501, MSMT17, VeRi-776): CMC, mAP and mINP with the camera rule."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROWS_PER_BLOCK = 256


class InvalidGallery(ValueError):
    """Arrays that do not fit together, names of another dataset, or no query that can be scored."""


@dataclass(frozen=True)
class ReidResult:
    """cmc: [K] share of the counted queries with a match in the first k = 1..K; all values 0..1.

    average_precisions, inverse_negative_penalties: [Q], nan for a query without a match left.
    """

    cmc: NDArray[np.float64]
    mean_average_precision: float
    mean_inverse_negative_penalty: float
    average_precisions: NDArray[np.float64]
    inverse_negative_penalties: NDArray[np.float64]


def evaluate_reid(
    distances: ArrayLike,
    query_ids: ArrayLike,
    gallery_ids: ArrayLike,
    query_cameras: ArrayLike,
    gallery_cameras: ArrayLike,
    max_rank: int = 50,
) -> ReidResult:
    """Score distances [Q, G], smaller = nearer, ties to the lower gallery index.

    Gallery entries of the query's identity and camera are taken out; a query without a match left is not
    counted. AP is the mean precision at the hits, mINP = matches / rank of the last. A kept gallery shorter
    than max_rank keeps its last CMC value; K = min(max_rank, G). Raises InvalidGallery.
    Source: torchreid `eval_market1501`, fast-reid for mINP.
    """
    table = np.asarray(distances)
    ids, gallery = np.asarray(query_ids), np.asarray(gallery_ids)
    cameras, gallery_seen_by = np.asarray(query_cameras), np.asarray(gallery_cameras)
    if table.ndim != 2 or ids.shape != cameras.shape or gallery.shape != gallery_seen_by.shape:
        raise InvalidGallery(
            f"distances {table.shape}, queries {ids.shape}, gallery {gallery.shape} do not fit"
        )
    if table.shape != (len(ids), len(gallery)):
        raise InvalidGallery(
            f"distances are {table.shape}; expected [queries, gallery] = ({len(ids)}, {len(gallery)})"
        )
    if max_rank < 1:
        raise InvalidGallery(f"max_rank is {max_rank}; 1 or more")
    if np.isnan(table).any():
        raise InvalidGallery("distances hold nan; check the descriptors")
    hits: list[NDArray[np.int64]] = []
    for start in range(0, len(table), ROWS_PER_BLOCK):
        order = np.argsort(table[start : start + ROWS_PER_BLOCK], axis=1, kind="stable")
        for q, ranked in enumerate(order, start):
            same = gallery[ranked] == ids[q]
            kept = ~(same & (gallery_seen_by[ranked] == cameras[q]))
            hits.append(np.flatnonzero(same[kept]))
    return score_hits(hits, np.array([len(each) for each in hits]), min(max_rank, table.shape[1]))


def score_hits(hits: Sequence[NDArray[np.int64]], num_matches: NDArray[np.int64], depth: int) -> ReidResult:
    """The same from where each query's matches stand, 0-based and ascending, once its junk is taken out.

    num_matches: [Q] how many there are; where a list misses some, AP counts them as never found and mINP is
    unknown (nan). Raises InvalidGallery when no query has a match.
    """
    aps, penalties = np.full(len(hits), np.nan), np.full(len(hits), np.nan)
    cmc = np.zeros(depth)
    for q, (found, total) in enumerate(zip(hits, num_matches.tolist(), strict=True)):
        if total:
            aps[q] = float((np.arange(1, len(found) + 1) / (found + 1)).sum()) / total
            penalties[q] = total / (found[-1] + 1) if len(found) == total else np.nan
            if len(found):
                cmc[found[0] :] += 1
    counted = np.isfinite(aps)
    if not counted.any():
        raise InvalidGallery(
            "no query has a match in the gallery under another camera; check ids and cameras"
        )
    return ReidResult(
        cmc / counted.sum(), float(aps[counted].mean()), float(penalties[counted].mean()), aps, penalties
    )


def parse_names(names: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Identities and cameras from names such as `0002_c1s1_000451_03.jpg` or `0001_c001_00016450_0.jpg`.

    Market-1501 and VeRi-776 both; folders are ignored; -1 is Market's identity of boxes that show nobody.
    Raises InvalidGallery on any other name.
    """
    ids, cameras = [], []
    for name in names:
        found = re.match(r"(-1|\d+)_c(\d+)", name.rpartition("/")[2])
        if not found:
            raise InvalidGallery(f"'{name}' is not named like 0002_c1s1_000451_03.jpg: identity, camera, ...")
        ids.append(int(found[1]))
        cameras.append(int(found[2]))
    return np.array(ids, dtype=np.int64), np.array(cameras, dtype=np.int64)


def market_gallery(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of Market-1501's test boxes that form the gallery: -1 dropped, distractors (0) kept."""
    return np.flatnonzero(ids != -1)
