"""Oxford5k, Paris6k, ROxford5k and RParis6k: average precision exactly as the official scripts compute it.

Definitions: VGG's `compute_ap.cpp` (classic) and revisitop's `evaluate.py` (revisited). Ranks are rows here,
`ranks[q]` holds database positions, best first; -1 pads a short list and is no image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retrieval.benchmarks.lookup import places_up_to

EASY, HARD, JUNK = 1, 2, 4
"""Bits of a photograph's role for one query; a photograph may carry several."""


class InvalidRanks(ValueError):
    """The ranks cannot be scored against this ground truth."""


@dataclass(frozen=True)
class ProtocolResult:
    """One protocol over Q queries; all values in 0..1, nan for a query without positives.

    `mean_average_precision` and `mean_precision_at` leave those queries out; all nan if none is left.
    """

    mean_average_precision: float
    average_precisions: NDArray[np.float64]
    mean_precision_at: Mapping[int, float]
    precision_at: Mapping[int, NDArray[np.float64]]

    @property
    def num_queries(self) -> int:
        """Queries that have a positive, hence count."""
        return int(np.isfinite(self.average_precisions).sum())


@dataclass(frozen=True)
class RevisitedResult:
    """The three protocols of ROxford5k / RParis6k."""

    easy: ProtocolResult
    medium: ProtocolResult
    hard: ProtocolResult


def average_precision(positions: ArrayLike, num_positives: int) -> float:
    """Area under the precision-recall curve by trapezoids, with precision 1 at recall 0.

    positions: [P] 0-based ranks of the positives found, junk already removed; num_positives: how many there
    are, found or not. Returns 0..1 (a perfect list gives 1). Raises ValueError when num_positives < 1 or a
    position is no rank.
    Source: revisitop `compute_ap`, the same sum as VGG's `compute_ap.cpp`.
    """
    if num_positives < 1:
        raise ValueError(f"num_positives is {num_positives}; average precision needs at least one positive")
    ranks = np.sort(np.asarray(positions, dtype=np.float64))
    if ranks.size and not (ranks[0] >= 0 and np.isfinite(ranks[-1])):
        raise ValueError(f"positions run from {ranks[0]} to {ranks[-1]}; they are 0-based ranks")
    found = np.arange(len(ranks))
    before = np.divide(found, ranks, out=np.ones_like(ranks), where=ranks > 0)
    # divided last: a perfect list gives 1, not the sum of rounded parts of it
    return float((before + (found + 1) / (ranks + 1)).sum() / (2 * num_positives))


def evaluate_classic(ranks: ArrayLike, ground_truth: Sequence[Mapping[str, ArrayLike]]) -> ProtocolResult:
    """Oxford5k / Paris6k: positives are `ok` (good and ok), `junk` is removed before ranks are counted.

    ranks: [Q, K] int, best first, may be truncated. An id that is both positive and junk counts as junk but
    stays in the number of positives; the ids of one query are sets. `precision_at` is empty: the official
    tool reports none. Raises InvalidRanks on a shape or an id that does not fit.
    Source: VGG `compute_ap.cpp`.
    """
    labels = _labels(ground_truth, ("ok",))
    roles = [{EASY: query["ok"], JUNK: query["junk"]} for query in labels]
    num_positives = [len(np.unique(query["ok"])) for query in labels]
    return score_classic(_roles_in_order(ranks, roles), num_positives)


def score_classic(
    listed: Iterable[tuple[NDArray[np.int64], NDArray[np.uint8]]], num_positives: Sequence[int]
) -> ProtocolResult:
    """The same from where the labelled photographs stand in each query's list.

    listed: per query (positions [L] 0-based ascending, roles [L] of EASY = positive and JUNK bits).
    """
    result = np.full(len(num_positives), np.nan)
    for q, (positions, role) in enumerate(listed):
        if num_positives[q]:
            is_junk = (role & JUNK) > 0
            result[q] = average_precision(
                clean_positions(positions[~is_junk], positions[is_junk]), num_positives[q]
            )
    return _summary(result, {})


def evaluate_revisited(
    ranks: ArrayLike, ground_truth: Sequence[Mapping[str, ArrayLike]], ks: Sequence[int] = (1, 5, 10)
) -> RevisitedResult:
    """ROxford5k / RParis6k: mAP and mP@k under the Easy, Medium and Hard protocols.

    ranks: [Q, K] int, best first, may be truncated. An id that is positive and junk is a positive that also
    moves later ranks up, and the number of positives counts repeated ids: both as the official code has it.
    A query none of whose positives is listed scores 0 (the official code fails there). Raises InvalidRanks
    on a shape or an id that does not fit, or a k below 1. Source: revisitop `evaluate.py`.
    """
    if any(k < 1 for k in ks):
        raise InvalidRanks(f"ks are {tuple(ks)}; precision is counted in the first 1 or more")
    labels = _labels(ground_truth, ("easy", "hard"))
    num_easy = np.array([query["easy"].size for query in labels], dtype=np.int64)
    num_hard = np.array([query["hard"].size for query in labels], dtype=np.int64)
    roles = [{EASY: query["easy"], HARD: query["hard"], JUNK: query["junk"]} for query in labels]
    return score_revisited(_roles_in_order(ranks, roles), num_easy, num_hard, ks)


def score_revisited(
    listed: Iterable[tuple[NDArray[np.int64], NDArray[np.uint8]]],
    num_easy: NDArray[np.int64],
    num_hard: NDArray[np.int64],
    ks: Sequence[int],
) -> RevisitedResult:
    """The three protocols from where the labelled photographs stand in each query's list.

    listed: per query (positions [L] 0-based ascending, roles [L] of EASY / HARD / JUNK bits);
    num_easy, num_hard: [Q] positives there are. Ranks need not be in memory.
    """
    protocols = {"easy": (EASY, HARD | JUNK), "medium": (EASY | HARD, JUNK), "hard": (HARD, EASY | JUNK)}
    totals = {"easy": num_easy, "medium": num_easy + num_hard, "hard": num_hard}
    aps = {name: np.full(len(num_easy), np.nan) for name in protocols}
    precisions = {name: {k: np.full(len(num_easy), np.nan) for k in ks} for name in protocols}
    for q, (positions, role) in enumerate(listed):
        for name, (positive, junk) in protocols.items():
            if totals[name][q]:
                kept = clean_positions(positions[(role & positive) > 0], positions[(role & junk) > 0])
                aps[name][q] = average_precision(kept, int(totals[name][q]))
                for k in ks:
                    precisions[name][k][q] = precision_at(kept, k)
    return RevisitedResult(**{name: _summary(aps[name], precisions[name]) for name in protocols})


def clean_positions(positives: NDArray[np.int64], junk: NDArray[np.int64]) -> NDArray[np.int64]:
    """0-based ranks of the positives after every junk entry before them is taken out; both ascending."""
    return positives - np.searchsorted(junk, positives, side="left")


def precision_at(positions: NDArray[np.int64], k: int) -> float:
    """Precision in the first k, or in the list up to the last positive where that is shorter; 0 if none."""
    if not len(positions):
        return 0.0
    depth = min(int(positions.max()) + 1, k)
    return float((positions + 1 <= depth).sum() / depth)


def _labels(
    ground_truth: Sequence[Mapping[str, ArrayLike]], needed: Sequence[str]
) -> list[dict[str, NDArray[np.int64]]]:
    """The labelled ids of each query; `junk` may be missing. Raises InvalidRanks."""
    labels: list[dict[str, NDArray[np.int64]]] = []
    for q, query in enumerate(ground_truth):
        absent = [name for name in needed if name not in query]
        if absent:
            raise InvalidRanks(f"query {q} of the ground truth has no '{absent[0]}', it has {sorted(query)}")
        labels.append({name: _ids(query.get(name, ()), f"query {q}, '{name}'") for name in (*needed, "junk")})
    return labels


def _ids(values: ArrayLike, where: str) -> NDArray[np.int64]:
    """Whole numbers from 0, of any dtype that holds them. Raises InvalidRanks."""
    try:
        given = np.asarray(values).ravel()
        with np.errstate(invalid="ignore"):
            ids = given.astype(np.int64)
        fits = given.size == 0 or bool((ids == given).all() and ids.min() >= 0)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise InvalidRanks(f"{where} of the ground truth: ids are 0-based database positions, no negative id")
    return ids


def _roles_in_order(
    ranks: ArrayLike, roles: Sequence[Mapping[int, NDArray[np.int64]]]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Per query the positions in the list that hold labelled photographs, and their role bits.

    One table of roles is looked up along the list: O(K) per query, no search, no sort. Where only a small
    first part of the database is labelled (distractors follow it), ids beyond that part are passed over.
    """
    listed = _checked(ranks, len(roles))
    largest = max((int(ids.max()) for query in roles for ids in query.values() if ids.size), default=-1)
    table = np.zeros(largest + 2, dtype=np.uint8)  # the last slot is that of the pad -1
    for (places, images), query in zip(places_up_to(listed, largest), roles, strict=True):
        for bit, members in query.items():
            table[members] |= np.uint8(bit)
        if images.size and images.min() < -1:
            raise InvalidRanks(f"ranks hold {images.min()}; ids are 0-based database positions, -1 pads")
        found = table[images]
        labelled = np.flatnonzero(found)
        yield places[labelled], found[labelled]
        for members in query.values():
            table[members] = 0


def _checked(ranks: ArrayLike, num_queries: int) -> NDArray[np.int64]:
    listed = np.asarray(ranks)
    if listed.ndim != 2 or not (np.issubdtype(listed.dtype, np.integer) or listed.size == 0):
        raise InvalidRanks(f"ranks are {listed.dtype} {listed.shape}; expected integers [queries, depth]")
    if len(listed) != num_queries:
        raise InvalidRanks(
            f"ranks hold {len(listed)} rows, the ground truth {num_queries} queries; one row is one query"
            + (" (transpose the official column layout)" if listed.shape[1] == num_queries else "")
        )
    return listed


def _summary(
    average_precisions: NDArray[np.float64], precisions: Mapping[int, NDArray[np.float64]]
) -> ProtocolResult:
    counted = np.isfinite(average_precisions)

    def mean(values: NDArray[np.float64]) -> float:
        return float(values[counted].mean()) if counted.any() else float("nan")

    return ProtocolResult(
        mean_average_precision=mean(average_precisions),
        average_precisions=average_precisions,
        mean_precision_at={k: mean(values) for k, values in precisions.items()},
        precision_at=precisions,
    )
