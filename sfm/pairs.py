"""Which pairs of photographs are worth matching: all of a small collection, neighbours of several kinds of
a large one, or what the user says.

One source of neighbours is the global descriptor, another a vocabulary tree over the collection's own local
features, so that what is found does not hang on a descriptor that is to be evaluated later; GPS positions are
the third. `sfm/expansion.py` adds pairs after the first matching.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.aggregation import AggregationOptions, aggregated
from sfm.colmap_database import hold_sift
from sfm.pair_lists import listed_pairs
from sfm.proposals import Proposal, budget, combine, proposal_of, read_pairs, write_pairs
from sfm.sequences import SequentialOptions, sequential_pairs
from sfm.spatial import SpatialOptions, spatial_neighbours
from sfm.vocabulary import VocabularyOptions, VocabularyResources, vocabulary_neighbours
from storage.options import ContentPath, Options
from storage.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="pairs",
    version=1,
    schema_name="pairs",
    suffix=".h5",
    packages=("pycolmap", "numpy", "scipy", "h5py"),
    code=__name__,
)
Strategy = Literal["auto", "neighbours", "exhaustive", "vocabulary", "sequential", "list"]
_BLOCK_ROWS = 1024
__all__ = [
    "STAGE",
    "PairOptions",
    "UnusableDescriptors",
    "UnusableStrategy",
    "check_learned",
    "check_strategy",
    "merge",
    "nearest_neighbours",
    "propose_pairs",
    "read_pairs",
    "strategy_of",
]


class PairOptions(Options):
    """Proposal of pairs before anything is matched."""

    strategy: Strategy = Field(
        "auto",
        description="auto: exhaustive for a small collection, else neighbours; neighbours: by descriptor, "
        "local features and GPS; exhaustive: all pairs; vocabulary: by local features alone; sequential: by "
        "file name; list: the pairs of list_file",
    )
    exhaustive_below: int = Field(
        300, ge=0, description="collections smaller than this match all pairs if auto, photographs"
    )
    neighbours: int = Field(10, ge=0, description="nearest photographs by global descriptor, per photograph")
    max_pair_share: float = Field(
        0.06, gt=0, le=1, description="pairs proposed by neighbours at most, share of all pairs"
    )
    aggregation: AggregationOptions = Field(
        AggregationOptions(), description="neighbours by local features, one vector per photograph"
    )
    vocabulary: VocabularyOptions = Field(
        VocabularyOptions(), description="neighbours by local features of the strategy vocabulary"
    )
    spatial: SpatialOptions = Field(SpatialOptions(), description="neighbours by GPS position")
    sequential: SequentialOptions = Field(SequentialOptions(), description="pairs by file name")
    list_file: ContentPath | None = Field(
        None, description="text file of the strategy list: two names of photographs per line"
    )


class UnusableDescriptors(ValueError):
    """Global descriptors that do not fit the photographs."""


class UnusableStrategy(ValueError):
    """A strategy without what it needs."""


@dataclass(frozen=True)
class _Known:
    """What is known of N photographs (sha256, sorted); the rest as `propose_pairs` has it."""

    shas: Sequence[str]
    descriptors: NDArray[np.float32]
    features: Mapping[str, Path] | None
    names: Mapping[str, str]
    positions: NDArray[np.float64] | None
    resources: VocabularyResources | None


def propose_pairs(
    shas: Sequence[str],
    descriptors: NDArray[np.float32],
    options: PairOptions,
    out: Path,
    *,
    features: Mapping[str, Path] | None = None,
    names: Mapping[str, str] | None = None,
    positions: NDArray[np.float64] | None = None,
    resources: VocabularyResources | None = None,
    inputs: Sequence[str] = (),
) -> Proposal:
    """Write the pairs to match first to `out` (schema pairs).

    shas: sha256 of N photographs, sorted; descriptors: [N, D], L2-normalised, in the same order; features:
    sha256 -> its features file, needed for neighbours by local features; names: file name -> sha256, "" =
    unusable, needed for sequential and list; positions: [N, 3] latitude and longitude in degrees, altitude in
    m, nan = unknown. Raises UnusableDescriptors, UnusableStrategy, UnusablePairList, ChildFailed.
    """
    started = time.monotonic()
    known = _Known(shas, descriptors, features, names or {}, positions, resources)
    _check(known, options)
    proposal = _propose(known, options)
    write_pairs(out, shas, proposal, STAGE.name, {"pairs": options.model_dump(mode="json")}, inputs)
    logger.info(
        "%d pairs of %d photographs proposed in %.1f s",
        len(proposal.first),
        len(shas),
        time.monotonic() - started,
    )
    return proposal


def strategy_of(options: PairOptions, count: int) -> Strategy:
    """The strategy for a collection of `count` photographs; never auto."""
    if options.strategy != "auto":
        return options.strategy
    return "exhaustive" if count < options.exhaustive_below else "neighbours"


def check_strategy(options: PairOptions, shas: Sequence[str], names: Mapping[str, str]) -> None:
    """Raise what is wrong with a strategy, before anything is computed for it: UnusableStrategy,
    UnusablePairList."""
    if options.strategy == "list":
        _listed(shas, names, options)
    if options.strategy == "vocabulary" and options.vocabulary.neighbours == 0:
        raise UnusableStrategy("strategy 'vocabulary' with vocabulary.neighbours = 0; ask for at least 1")


def check_learned(options: PairOptions) -> None:
    """Raise UnusableStrategy for a strategy that learned features do not allow."""
    if options.strategy == "vocabulary":
        raise UnusableStrategy(
            "strategy 'vocabulary' with learned local features; COLMAP's vocabulary tree takes SIFT only, "
            "use neighbours"
        )


def _propose(known: _Known, options: PairOptions) -> Proposal:
    count = len(known.shas)
    match strategy_of(options, count):
        case "exhaustive":
            first, second = np.triu_indices(count, 1)
            return Proposal(first, second, ["exhaustive"] * len(first))
        case "list":
            position = {sha: index for index, sha in enumerate(known.shas)}
            pairs = _listed(known.shas, known.names, options)
            ends = np.array([(position[a], position[b]) for a, b in pairs], np.int64).reshape(-1, 2)
            return proposal_of(ends[:, 0], ends[:, 1], count, "list")
        case "sequential":
            frames = sequential_pairs(known.names, known.shas, options.sequential)
            if not options.sequential.loop_neighbours:
                return frames
            loops = {"descriptor": nearest_neighbours(known.descriptors, options.sequential.loop_neighbours)}
            return combine(count, frames, merge(loops, count, budget(count, options.max_pair_share)))
        case strategy:
            return merge(_ranked(known, options, strategy), count, budget(count, options.max_pair_share))


def _ranked(known: _Known, options: PairOptions, strategy: Strategy) -> dict[str, NDArray[np.int64]]:
    """Neighbour lists by source: local features alone for vocabulary, else all that there are."""
    if strategy == "vocabulary":
        assert known.features is not None  # checked before
        if not hold_sift({sha: known.features[sha] for sha in known.shas}):
            check_learned(options)
        found = vocabulary_neighbours(known.shas, known.features, options.vocabulary, known.resources)
        return {"vocabulary": found}
    ranked = {"descriptor": nearest_neighbours(known.descriptors, options.neighbours)}
    if known.positions is not None:
        ranked["spatial"] = spatial_neighbours(known.positions, options.spatial)
    if options.aggregation.neighbours and known.features is not None:
        vectors = aggregated(known.shas, known.features, options.aggregation)
        ranked["aggregation"] = _of_those_with_any(
            vectors, nearest_neighbours(vectors, options.aggregation.neighbours)
        )
    return ranked


def _of_those_with_any(vectors: NDArray[np.float32], neighbours: NDArray[np.int64]) -> NDArray[np.int64]:
    """Neighbours [N, k] without those from and to photographs whose vector is 0, which is like no other."""
    some: NDArray[np.bool_] = np.abs(vectors).max(axis=1) > 0
    return np.where(some[:, None] & some[neighbours], neighbours, -1)


def _listed(shas: Sequence[str], names: Mapping[str, str], options: PairOptions) -> list[tuple[str, str]]:
    if options.list_file is None:
        raise UnusableStrategy("strategy 'list' without a list; set pairs.list_file to a text file of pairs")
    return listed_pairs(options.list_file, names, shas)


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


def _check(known: _Known, options: PairOptions) -> None:
    shas, features, count = known.shas, known.features, len(known.shas)
    if list(shas) != sorted(set(shas)):
        raise UnusableDescriptors(
            "photographs must be given sorted by sha256, each once; sort them with their rows"
        )
    strategy = strategy_of(options, count)
    if strategy == "neighbours" or (strategy == "sequential" and options.sequential.loop_neighbours):
        _check_descriptors(known.descriptors, count)
    if strategy == "vocabulary":
        check_strategy(options, shas, known.names)
    if strategy == "vocabulary" and features is None:
        raise UnusableStrategy("strategy 'vocabulary' without local features; give the features of all")
    unnamed = set(shas) - set(known.names.values()) if strategy == "sequential" else set()
    if unnamed:
        raise UnusableStrategy(f"strategy 'sequential': photograph {min(unnamed)} has no name; give names")
    local = strategy == "vocabulary" or (strategy == "neighbours" and options.aggregation.neighbours)
    if local:
        missing = [sha for sha in shas if features is not None and sha not in features]
        if missing:
            raise UnusableDescriptors(
                f"photograph {missing[0]} has no features file; extract its features first"
            )


def _check_descriptors(descriptors: NDArray[np.float32], count: int) -> None:
    if descriptors.ndim != 2 or len(descriptors) != count:
        raise UnusableDescriptors(
            f"descriptors of shape {descriptors.shape} for {count} photographs; give one row for each"
        )
    if not np.isfinite(descriptors).all():
        raise UnusableDescriptors("descriptors hold values that are not finite; extract them again")
