"""Matches of learned local features: mutual nearest neighbours of descriptors of length 1, in numpy.

COLMAP compares SIFT only, so these are computed here and given to its geometric verification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.hdf5.open import open_artifact

_BLOCK_ROWS = 2048
_PHOTOGRAPHS_IN_MEMORY = 32


class UnequalDescriptors(ValueError):
    """Descriptors of different extractors."""


def write_learned_matches(
    database: Path,
    identifiers: Mapping[str, int],
    files: Mapping[str, str],
    pairs: Sequence[tuple[str, str]],
    max_ratio: float,
    min_similarity: float,
) -> None:
    """Match pairs of photographs (sha256, sha256) that a database holds, and write the matches into it.

    identifiers: sha256 -> image id; files: sha256 -> features file. Options: see `mutual_matches`. Memory:
    the descriptors of 32 photographs and 2048 x n similarities. Raises UnequalDescriptors.
    """
    import pycolmap

    @lru_cache(maxsize=_PHOTOGRAPHS_IN_MEMORY)
    def descriptors(sha: str) -> NDArray[np.float32]:
        with open_artifact(files[sha], "features") as artifact:
            return unit_rows(artifact[f"{sha}/descriptors"].T)

    with pycolmap.Database.open(database) as opened, pycolmap.DatabaseTransaction(opened):
        for first, second in pairs:
            matches = mutual_matches(descriptors(first), descriptors(second), max_ratio, min_similarity)
            opened.write_matches(identifiers[first], identifiers[second], matches)


def unit_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Descriptors [n, D] with length 1 each; zeros stay zeros."""
    values = np.asarray(rows, np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.ascontiguousarray(values / np.where(lengths > 0, lengths, np.float32(1)))


def mutual_matches(
    first: NDArray[np.float32], second: NDArray[np.float32], max_ratio: float, min_similarity: float
) -> NDArray[np.uint32]:
    """Pairs of rows that are each other's nearest: [n, D] and [m, D] of length 1 -> [k, 2], by the first.

    max_ratio: distance to the nearest / to the second nearest in either direction, below; 1 = any.
    min_similarity: dot product, at least. Of equal ones the first row counts. Raises UnequalDescriptors.
    Source: hloc/matchers/nearest_neighbor.py.
    """
    if first.shape[1] != second.shape[1]:
        raise UnequalDescriptors(
            f"descriptors of {first.shape[1]} and of {second.shape[1]} numbers; use one extractor for all"
        )
    if not len(first) or not len(second):
        return np.empty((0, 2), np.uint32)
    forward, backward = [], []
    for start in range(0, len(first), _BLOCK_ROWS):
        similarity = first[start : start + _BLOCK_ROWS] @ second.T
        forward.append(_nearest(similarity, 1))
        index, best, runner_up = _nearest(similarity, 0)
        backward.append((index + start, best, runner_up))
    to_second, best, runner_up = (np.concatenate(each) for each in zip(*forward, strict=True))
    to_first, best_of_second, runner_up_of_second = _over_blocks(backward)
    rows = np.arange(len(first))
    good = (to_first[to_second] == rows) & (best >= min_similarity) & _distinct(best, runner_up, max_ratio)
    good &= _distinct(best_of_second, runner_up_of_second, max_ratio)[to_second]
    return np.column_stack([rows[good], to_second[good]]).astype(np.uint32)


_Nearest = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]
"""Position of the most similar, its similarity, that of the second; -inf where there is no second."""


def _nearest(similarity: NDArray[np.float32], axis: int) -> _Nearest:
    index = similarity.argmax(axis)
    place = np.expand_dims(index, axis)
    best = np.take_along_axis(similarity, place, axis)
    np.put_along_axis(similarity, place, -np.inf, axis)
    runner_up = similarity.max(axis)
    np.put_along_axis(similarity, place, best, axis)
    return index, best.squeeze(axis), runner_up


def _over_blocks(blocks: Sequence[_Nearest]) -> _Nearest:
    """The nearest over blocks of candidates, each with its own nearest [m]."""
    index, best, runner_up = (np.stack(each) for each in zip(*blocks, strict=True))
    winner, highest, others = _nearest(best, 0)
    chosen = np.take_along_axis(index, winner[None], 0)[0]
    return chosen, highest, np.maximum(others, runner_up.max(0))


def _distinct(
    best: NDArray[np.float32], runner_up: NDArray[np.float32], max_ratio: float
) -> NDArray[np.bool_]:
    """Whether the nearest is nearer than the second by the ratio; squared distances are 2 - 2 similarity."""
    if max_ratio >= 1:
        return np.ones(len(best), np.bool_)
    return np.maximum(1 - best, 0) < max_ratio**2 * (1 - runner_up)
