"""Train, val, test.

Drawn by cluster, never by photograph, from a hash, so that a growing collection keeps its splits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRAIN, VAL, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "val", "test")


class BadSplit(ValueError):
    """Fractions or columns from which no split can be drawn."""


@dataclass(frozen=True, eq=False)
class PreviousSplits:
    """What an earlier selection decided, photograph by photograph [K]: its cluster then and its split."""

    sha256: NDArray[np.bytes_]
    cluster: NDArray[np.int64]
    split: NDArray[np.int8]


def split_clusters(
    clusters: NDArray[np.int64],
    sha256: NDArray[np.bytes_],
    seed: int,
    *,
    has_model: NDArray[np.bool_],
    val_fraction: float = 0.10,
    test_fraction: float = 0.20,
    previous: PreviousSplits | None = None,
) -> NDArray[np.int8]:
    """The split of every cluster, singletons included.

    clusters: [N] of the photographs, -1 = none; sha256: [N] their digests; has_model: [C] clusters with a
    3D model -> [C] int8, 0 train, 1 val, 2 test. Drawn by the hash of (seed, smallest sha256 of the
    cluster). Where at least 10 clusters have a model, val and test get 3 of them or more (1 from 3 on): the
    nearest in hash move over. With `previous`, a cluster that holds photographs of one earlier cluster
    keeps its split, whatever was added; one that merges several earlier clusters becomes train. Without it
    a cluster moves only if a photograph with a smaller digest joins it, or if the minimum of three needs
    another cluster.
    """
    if not 0 <= val_fraction + test_fraction < 1 or min(val_fraction, test_fraction) < 0:
        raise BadSplit(
            f"val {val_fraction} and test {test_fraction} leave nothing for train; lower them below 1"
        )
    count = len(has_model)
    smallest = _smallest_digest(clusters, np.asarray(sha256, dtype="S64"), count)
    draw = np.array([_draw(seed, digest) for digest in smallest])
    bounds = np.array([1 - val_fraction - test_fraction, 1 - test_fraction])
    split = np.searchsorted(bounds, draw, side="right").astype(np.int8)
    fixed = np.zeros(count, dtype=bool)
    if previous is not None:
        kept = _kept_splits(clusters, sha256, count, previous)
        fixed = kept >= 0
        split[fixed] = kept[fixed]
    _ensure_models(split, draw, bounds, np.asarray(has_model, dtype=bool), fixed, val_fraction, test_fraction)
    return split


def counts(split: NDArray[np.int8]) -> dict[str, int]:
    """How many of each split, by its name."""
    return {name: int((split == number).sum()) for number, name in enumerate(SPLIT_NAMES)}


def _smallest_digest(clusters: NDArray[np.int64], sha256: NDArray[np.bytes_], count: int) -> list[bytes]:
    member = np.flatnonzero(clusters >= 0)
    order = member[np.lexsort((sha256[member], clusters[member]))]
    present, first = np.unique(clusters[order], return_index=True)
    if present.size != count or (count and present[-1] != count - 1):
        raise BadSplit(f"{count} clusters expected, numbered from 0; the photographs name {present.size}")
    return [bytes(digest) for digest in sha256[order[first]]]


def _draw(seed: int, digest: bytes) -> float:
    """Uniform in [0, 1), the same on every machine."""
    hashed = hashlib.sha256(f"{seed}:{digest.decode()}".encode()).digest()
    return (int.from_bytes(hashed[:8], "big") >> 11) / 2**53


def _kept_splits(
    clusters: NDArray[np.int64], sha256: NDArray[np.bytes_], count: int, previous: PreviousSplits
) -> NDArray[np.int8]:
    """[C] the split an earlier selection fixed, -1 = the cluster is new."""
    known = np.asarray(previous.sha256, dtype="S64")
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known[order], sha256), max(known.size - 1, 0))
    kept = np.full(count, -1, dtype=np.int8)
    if known.size == 0:
        return kept
    earlier = order[place]
    member = np.flatnonzero((clusters >= 0) & (known[earlier] == sha256))
    now, then = clusters[member], np.asarray(previous.cluster)[earlier[member]]
    kept[now] = np.asarray(previous.split, dtype=np.int8)[earlier[member]]
    pairs = np.unique(np.stack([now, then], axis=1), axis=0)
    kept[np.bincount(pairs[:, 0], minlength=count) > 1] = TRAIN
    return kept


def _ensure_models(
    split: NDArray[np.int8],
    draw: NDArray[np.float64],
    bounds: NDArray[np.float64],
    has_model: NDArray[np.bool_],
    fixed: NDArray[np.bool_],
    val_fraction: float,
    test_fraction: float,
) -> None:
    """Move the clusters nearest in hash until each split has its minimum of clusters with a model."""
    total = int(has_model.sum())
    held_back = 3 if total >= 10 else 1 if total >= 3 else 0
    needed = (
        min(total, max(held_back, 1)),
        held_back if val_fraction else 0,
        held_back if test_fraction else 0,
    )
    middle = ((0 + bounds[0]) / 2, bounds.mean(), (bounds[1] + 1) / 2)
    for target, least in enumerate(needed):
        while (np.bincount(split[has_model], minlength=3))[target] < least:
            surplus = np.bincount(split[has_model], minlength=3) - np.array(needed)
            movable = np.flatnonzero(has_model & ~fixed & (split != target) & (surplus[split] > 0))
            if movable.size == 0:
                break
            givers = movable[surplus[split[movable]] == surplus[split[movable]].max()]
            split[givers[np.argmin(np.abs(draw[givers] - middle[target]))]] = target
