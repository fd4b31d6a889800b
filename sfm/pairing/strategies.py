"""The ways to propose pairs: what each needs, what of a catalogue enters its key, how many pairs it expects,
and which ones it proposes.

Nothing else asks for a strategy's name: a new one is a class in `STRATEGIES`, its name in `Strategy` and its
options in `PairOptions`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.features.database import hold_sift
from sfm.pairing.aggregation import AggregationOptions, aggregated
from sfm.pairing.listed import count_listed, listed_pairs
from sfm.pairing.neighbours import merge, nearest_neighbours
from sfm.pairing.proposal import Proposal, budget, combine, proposal_of
from sfm.pairing.sequential import SequentialOptions, sequential_pairs
from sfm.pairing.spatial import SpatialOptions, spatial_neighbours
from sfm.pairing.vocabulary import VocabularyOptions, VocabularyResources, vocabulary_neighbours
from storage.files.digests import json_sha256
from storage.keys.options import ContentPath, Options

Strategy = Literal["auto", "neighbours", "exhaustive", "vocabulary", "sequential", "list"]
_NEW_SHARE = 0.7
"""Pairs that two sources propose and expansion adds, as a share of the neighbours that were asked for."""


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
class Known:
    """What is known of N photographs (sha256, sorted); the rest as `propose_pairs` has it."""

    shas: Sequence[str]
    names: Mapping[str, str]
    positions: NDArray[np.float64] | None
    descriptors: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    features: Mapping[str, Path] | None = None
    resources: VocabularyResources | None = None

    def check_descriptors(self) -> None:
        """Raises UnusableDescriptors."""
        if self.descriptors.ndim != 2 or len(self.descriptors) != len(self.shas):
            raise UnusableDescriptors(
                f"descriptors of shape {self.descriptors.shape} for {len(self.shas)} photographs; give one "
                "row for each"
            )
        if not np.isfinite(self.descriptors).all():
            raise UnusableDescriptors("descriptors hold values that are not finite; extract them again")

    def check_features(self) -> None:
        """Raises UnusableDescriptors where some photographs alone have local features."""
        missing = [sha for sha in self.shas if self.features is not None and sha not in self.features]
        if missing:
            raise UnusableDescriptors(
                f"photograph {missing[0]} has no features file; extract its features first"
            )


class PairStrategy(ABC):
    """A way to propose pairs. As it stands it needs nothing and depends on the photographs alone."""

    def check_options(self, known: Known, options: PairOptions) -> None:  # noqa: B027 (may be left)
        """Raise what is wrong before anything is computed: UnusableStrategy, UnusablePairList."""

    def check_learned(self) -> None:  # noqa: B027
        """Raise UnusableStrategy where learned features are not allowed."""

    def check(self, known: Known, options: PairOptions) -> None:  # noqa: B027
        """Raise what it needs and has not: UnusableDescriptors, UnusableStrategy."""

    def facts(self, known: Known, options: PairOptions) -> list[Any]:
        """What its pairs depend on, as JSON values, of the names and positions."""
        return []

    @abstractmethod
    def expected(self, count: int, options: PairOptions) -> int:
        """About how many pairs of `count` photographs are matched. Raises UnusablePairList."""

    @abstractmethod
    def propose(self, known: Known, options: PairOptions) -> Proposal:
        """The pairs of photographs that were checked."""


class Exhaustive(PairStrategy):
    """All pairs."""

    def expected(self, count: int, options: PairOptions) -> int:
        return count * (count - 1) // 2

    def propose(self, known: Known, options: PairOptions) -> Proposal:
        first, second = np.triu_indices(len(known.shas), 1)
        return Proposal(first, second, ["exhaustive"] * len(first))


class Listed(PairStrategy):
    """The pairs that a file lists by name."""

    def check_options(self, known: Known, options: PairOptions) -> None:
        self._pairs(known, options)

    def facts(self, known: Known, options: PairOptions) -> list[Any]:
        return [sorted(known.names.items())]

    def expected(self, count: int, options: PairOptions) -> int:
        listed = count_listed(options.list_file) if options.list_file else 0
        return min(count * (count - 1) // 2, listed)

    def propose(self, known: Known, options: PairOptions) -> Proposal:
        position = {sha: index for index, sha in enumerate(known.shas)}
        pairs = self._pairs(known, options)
        ends = np.array([(position[a], position[b]) for a, b in pairs], np.int64).reshape(-1, 2)
        return proposal_of(ends[:, 0], ends[:, 1], len(known.shas), "list")

    def _pairs(self, known: Known, options: PairOptions) -> list[tuple[str, str]]:
        if options.list_file is None:
            raise UnusableStrategy(
                "strategy 'list' without a list; set pairs.list_file to a text file of pairs"
            )
        return listed_pairs(options.list_file, known.names, known.shas)


class Sequential(PairStrategy):
    """Photographs that follow each other by name, and neighbours by descriptor where loops are asked for."""

    def check(self, known: Known, options: PairOptions) -> None:
        if options.sequential.loop_neighbours:
            known.check_descriptors()
        unnamed = set(known.shas) - set(known.names.values())
        if unnamed:
            raise UnusableStrategy(
                f"strategy 'sequential': photograph {min(unnamed)} has no name; give names"
            )

    def facts(self, known: Known, options: PairOptions) -> list[Any]:
        return [sorted(known.names.items())]

    def expected(self, count: int, options: PairOptions) -> int:
        each = options.sequential.overlap + options.sequential.loop_neighbours
        return min(count * (count - 1) // 2, count * each)

    def propose(self, known: Known, options: PairOptions) -> Proposal:
        count = len(known.shas)
        frames = sequential_pairs(known.names, known.shas, options.sequential)
        if not options.sequential.loop_neighbours:
            return frames
        loops = {"descriptor": nearest_neighbours(known.descriptors, options.sequential.loop_neighbours)}
        return combine(count, frames, merge(loops, count, budget(count, options.max_pair_share)))


class Neighbours(PairStrategy):
    """Neighbours by descriptor, by aggregated local features and by GPS position."""

    def check(self, known: Known, options: PairOptions) -> None:
        known.check_descriptors()
        if options.aggregation.neighbours:
            known.check_features()

    def facts(self, known: Known, options: PairOptions) -> list[Any]:
        if known.positions is None or not options.spatial.neighbours:
            return []
        places = known.positions[:, :2]
        located = np.flatnonzero(np.isfinite(places).all(axis=1)).tolist()
        return [[[row, *places[row].tolist()] for row in located]] if located else []

    def expected(self, count: int, options: PairOptions) -> int:
        return _within_budget(count, options.neighbours + options.aggregation.neighbours, options)

    def propose(self, known: Known, options: PairOptions) -> Proposal:
        ranked = {"descriptor": nearest_neighbours(known.descriptors, options.neighbours)}
        if known.positions is not None:
            ranked["spatial"] = spatial_neighbours(known.positions, options.spatial)
        if options.aggregation.neighbours and known.features is not None:
            vectors = aggregated(known.shas, known.features, options.aggregation)
            near = nearest_neighbours(vectors, options.aggregation.neighbours)
            some: NDArray[np.bool_] = np.abs(vectors).max(axis=1) > 0  # one that is 0 is like no other
            ranked["aggregation"] = np.where(some[:, None] & some[near], near, -1)
        return merge(ranked, len(known.shas), budget(len(known.shas), options.max_pair_share))


class Vocabulary(PairStrategy):
    """Neighbours by local features alone: COLMAP's vocabulary tree."""

    def check_options(self, known: Known, options: PairOptions) -> None:
        if options.vocabulary.neighbours == 0:
            raise UnusableStrategy("strategy 'vocabulary' with vocabulary.neighbours = 0; ask for at least 1")

    def check_learned(self) -> None:
        raise UnusableStrategy(
            "strategy 'vocabulary' with learned local features; COLMAP's vocabulary tree takes SIFT only, "
            "use neighbours"
        )

    def check(self, known: Known, options: PairOptions) -> None:
        self.check_options(known, options)
        if known.features is None:
            raise UnusableStrategy("strategy 'vocabulary' without local features; give the features of all")
        known.check_features()

    def expected(self, count: int, options: PairOptions) -> int:
        return _within_budget(count, options.vocabulary.neighbours, options)

    def propose(self, known: Known, options: PairOptions) -> Proposal:
        assert known.features is not None  # checked before
        if not hold_sift({sha: known.features[sha] for sha in known.shas}):
            self.check_learned()
        found = vocabulary_neighbours(known.shas, known.features, options.vocabulary, known.resources)
        return merge({"vocabulary": found}, len(known.shas), budget(len(known.shas), options.max_pair_share))


STRATEGIES: dict[Strategy, PairStrategy] = {
    "neighbours": Neighbours(),
    "exhaustive": Exhaustive(),
    "vocabulary": Vocabulary(),
    "sequential": Sequential(),
    "list": Listed(),
}


def strategy_of(options: PairOptions, count: int) -> PairStrategy:
    """The strategy for a collection of `count` photographs."""
    chosen = options.strategy
    if chosen == "auto":
        chosen = "exhaustive" if count < options.exhaustive_below else "neighbours"
    return STRATEGIES[chosen]


def facts_digests(known: Known, options: PairOptions) -> list[str]:
    """Digests of what pairs depend on in a catalogue: the names and the positions, where they are used, so
    that renaming a file changes no pair that does not depend on names."""
    return [json_sha256(fact) for fact in strategy_of(options, len(known.shas)).facts(known, options)]


def _within_budget(count: int, asked: int, options: PairOptions) -> int:
    return min(budget(count, options.max_pair_share), round(_NEW_SHARE * count * asked))
