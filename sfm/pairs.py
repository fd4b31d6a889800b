"""Which pairs of photographs are worth matching: all of a small collection, neighbours of two kinds of a
large one.

One source is the global descriptor, the other a vocabulary tree over the collection's own local features, so
that what is found does not hang on a descriptor that is to be evaluated later. `sfm/expansion.py` adds pairs
after the first matching.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.proposals import Proposal, budget, read_pairs, write_pairs
from sfm.vocabulary import VocabularyOptions, VocabularyResources, vocabulary_neighbours
from storage.options import Options
from storage.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="pairs",
    version=1,
    schema_name="pairs",
    suffix=".h5",
    packages=("pycolmap", "numpy", "h5py"),
    modules=("sfm.pairs", "sfm.proposals", "sfm.vocabulary", "sfm.childprocess", "sfm.colmap_database"),
)
_BLOCK_ROWS = 1024
__all__ = [
    "STAGE",
    "PairOptions",
    "UnusableDescriptors",
    "merge",
    "nearest_neighbours",
    "propose_pairs",
    "read_pairs",
]


class PairOptions(Options):
    """Proposal of pairs before anything is matched."""

    exhaustive_below: int = Field(
        300, ge=0, description="collections smaller than this match all pairs, photographs"
    )
    neighbours: int = Field(10, ge=0, description="nearest photographs by global descriptor, per photograph")
    max_pair_share: float = Field(0.06, gt=0, le=1, description="pairs proposed at most, share of all pairs")
    vocabulary: VocabularyOptions = Field(VocabularyOptions(), description="neighbours by local features")


class UnusableDescriptors(ValueError):
    """Global descriptors that do not fit the photographs."""


def propose_pairs(
    shas: Sequence[str],
    descriptors: NDArray[np.float32],
    options: PairOptions,
    out: Path,
    *,
    features: Mapping[str, Path] | None = None,
    resources: VocabularyResources | None = None,
    inputs: Sequence[str] = (),
) -> Proposal:
    """Write the pairs to match first to `out` (schema pairs).

    shas: sha256 of N photographs, sorted; descriptors: [N, D], L2-normalised, in the same order; features:
    sha256 -> its features file, needed for the vocabulary tree. Raises UnusableDescriptors, ChildFailed.
    """
    started = time.monotonic()
    _check(shas, descriptors, features, options)
    if len(shas) < options.exhaustive_below:
        first, second = np.triu_indices(len(shas), 1)
        proposal = Proposal(first, second, ["exhaustive"] * len(first))
    else:
        ranked = {"descriptor": nearest_neighbours(descriptors, options.neighbours)}
        if options.vocabulary.neighbours and features is not None:
            found = vocabulary_neighbours(shas, features, options.vocabulary, resources)
            ranked["vocabulary"] = found
        proposal = merge(ranked, len(shas), budget(len(shas), options.max_pair_share))
    write_pairs(out, shas, proposal, STAGE.name, {"pairs": options.model_dump(mode="json")}, inputs)
    logger.info(
        "%d pairs of %d photographs proposed in %.1f s",
        len(proposal.first),
        len(shas),
        time.monotonic() - started,
    )
    return proposal


def nearest_neighbours(descriptors: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The k nearest other rows of each row by dot product, best first, ties to the smaller index.

    descriptors: [N, D] -> [N, min(k, N - 1)]. Memory: N x 1024 float32.
    """
    count = len(descriptors)
    k = min(k, max(count - 1, 0))
    neighbours = np.empty((count, k), np.int64)
    for start in range(0, count, _BLOCK_ROWS):
        scores = descriptors[start : start + _BLOCK_ROWS] @ descriptors.T
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf
        # Rounding makes ties of what differs by the summation order only.
        neighbours[start : start + len(scores)] = _top(-np.round(scores, 5), k)
    return neighbours


def _top(costs: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Positions of the k smallest per row, smallest first, ties to the smaller position: [n, N] -> [n, k]."""
    if k == 0:
        return np.empty((len(costs), 0), np.int64)
    bound = np.partition(costs, k - 1, axis=1)[:, k - 1 : k]
    found = np.empty((len(costs), k), np.int64)
    for row, below in enumerate(costs <= bound):
        candidates = np.flatnonzero(below)
        found[row] = candidates[np.argsort(costs[row, candidates], kind="stable")][:k]
    return found


def merge(ranked: Mapping[str, NDArray[np.int64]], count: int, most: int) -> Proposal:
    """Neighbour lists of several sources as one list of pairs; over budget, the best ranks of every source
    come first.

    ranked: source -> [N, k] neighbours best first, -1 = none.
    """
    best: dict[int, tuple[int, list[str]]] = {}
    for source in sorted(ranked):
        for rank, column in enumerate(ranked[source].T):
            here = np.flatnonzero(column >= 0)
            there = column[here]
            keep = here != there
            low, high = np.minimum(here, there)[keep], np.maximum(here, there)[keep]
            for code in np.unique(low * count + high).tolist():
                known = best.setdefault(code, (rank, []))
                if source not in known[1]:
                    best[code] = (min(rank, known[0]), [*known[1], source])
    codes = sorted(best, key=lambda code: (best[code][0], code))[:most]
    codes.sort()
    first, second = np.divmod(np.array(codes, np.int64), max(count, 1))
    return Proposal(first, second, ["+".join(best[code][1]) for code in codes])


def _check(
    shas: Sequence[str],
    descriptors: NDArray[np.float32],
    features: Mapping[str, Path] | None,
    options: PairOptions,
) -> None:
    if list(shas) != sorted(set(shas)):
        raise UnusableDescriptors(
            "photographs must be given sorted by sha256, each once; sort them with their rows"
        )
    if len(shas) < options.exhaustive_below:
        return
    if descriptors.ndim != 2 or len(descriptors) != len(shas):
        raise UnusableDescriptors(
            f"descriptors of shape {descriptors.shape} for {len(shas)} photographs; give one row for each"
        )
    if not np.isfinite(descriptors).all():
        raise UnusableDescriptors("descriptors hold values that are not finite; extract them again")
    missing = [sha for sha in shas if features is not None and sha not in features]
    if missing:
        raise UnusableDescriptors(f"photograph {missing[0]} has no features file; extract its features first")
