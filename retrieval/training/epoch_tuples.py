"""The tuples of one epoch: queries and pool drawn, positives chosen, hard negatives mined with the current
network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.describe.describe import DescriptorTable
from retrieval.learning.mining import hard_negatives, random_negatives
from retrieval.training.options import TrainingOptions
from retrieval.training.positives import (
    band,
    draw_positives,
    matched_alone,
    matched_elsewhere,
    nearest_positives,
    partners,
    positive_choices,
    reached,
    usable_queries,
)
from retrieval.training.tuples import (
    SPLIT_NAMES,
    TRAIN,
    VAL,
    Indices,
    NegativePlan,
    draw,
    forbidden,
    negative_pool,
    negative_supply,
    plan_negatives,
)

FIXED_DRAW = 0  # epoch number whose generator draws what is drawn once
NEGATIVES, OWN_VIEWS, MATCHED = 1, 2, 3
"""Beside seed and epoch: what random negatives, own views and queries without a model are drawn with."""


@dataclass(frozen=True)
class Draw:
    """What was drawn before any descriptor is known. queries [Q], pool [P]: images; choices: of each query
    its positives, or where needs_choices what the nearest one is taken from; random: seeds of the draw of
    negatives, None: the nearest are taken; beside: further queries and their positives, for which nothing is
    mined [B, 1 + P], see `with_those_beside`."""

    split: int
    queries: Indices
    choices: list[Indices]
    pool: Indices
    needs_choices: bool
    random: tuple[int, ...] | None = None
    beside: Indices = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))

    @property
    def images(self) -> Indices:
        """Images whose descriptors `mine` needs, ascending."""
        return np.unique(
            np.concatenate([self.queries, self.pool, *(self.choices if self.needs_choices else [])])
        )

    def parts(self, count: int) -> list[Draw]:
        """The queries in `count` draws of about equal size, in order; fewer where there are fewer queries."""
        places = np.array_split(np.arange(len(self.queries)), min(count, max(1, len(self.queries))))
        choices = [[self.choices[place] for place in each.tolist()] for each in places]
        besides = np.array_split(self.beside, len(places))
        return [
            replace(
                self,
                queries=self.queries[each],
                choices=chosen,
                random=None if self.random is None else (*self.random, number),
                beside=beside,
            )
            for number, (each, chosen, beside) in enumerate(zip(places, choices, besides, strict=True))
        ]


@dataclass(frozen=True)
class MinedTuples:
    """tuples [T, 1 + positives + n]: images of query, positives and negatives (hardest first), in training
    order."""

    tuples: NDArray[np.int64]
    positives: int
    mean_negative_distance: float
    warnings: tuple[str, ...]


def generator_of(options: TrainingOptions, epoch: int) -> np.random.Generator:
    """The generator of an epoch: from (seed, epoch) alone, so that a resumed training draws the same."""
    return np.random.default_rng([options.seed, epoch])


def draw_epoch(arrays: Mapping[str, Any], options: TrainingOptions, epoch: int) -> Draw:
    """Queries and pool of a training epoch. arrays: training_set.h5 by path."""
    generator = generator_of(options, epoch)
    usable = usable_queries(arrays, TRAIN, options.positives)
    rows = draw(usable, options.queries_per_epoch, generator)
    choices = positive_choices(arrays, rows, options.positives)
    if options.positives == "m3":
        if options.redraw_positives:
            choices = list(_drawn(arrays, options, rows, choices, generator, epoch))
        else:
            everyone = positive_choices(arrays, usable, "m3")
            once = _drawn(arrays, options, usable, everyone, generator_of(options, FIXED_DRAW), epoch)
            choices = list(once[np.searchsorted(usable, rows)])
    pool = np.sort(draw(negative_pool(arrays, TRAIN), options.pool_size, generator))
    queries = np.asarray(arrays["queries/image"], dtype=np.int64)[rows]
    seeds = (options.seed, epoch, NEGATIVES) if options.negative_mining == "random" else None
    beside = _beside(arrays, options, epoch, np.setdiff1d(pool, queries))
    return Draw(TRAIN, queries, choices, pool, options.positives == "m1", seeds, beside)


def _beside(arrays: Mapping[str, Any], options: TrainingOptions, epoch: int, free: Indices) -> Indices:
    """[B, 1 + P] photographs that no model has as a query and those that they were matched with, and
    photographs that are to find themselves. free: of the pool, no queries."""
    count = options.positives_per_tuple
    matched = np.empty((0, 1 + count), dtype=np.int64)
    if options.through_matches:
        generator = np.random.default_rng([options.seed, epoch, MATCHED])
        alone = draw(matched_alone(arrays, TRAIN), options.queries_per_epoch, generator)
        known = partners(arrays)
        choices = [known.row(image) for image in alone.tolist()]
        matched = np.column_stack([alone, draw_positives(choices, generator, count)])
    generator = np.random.default_rng([options.seed, epoch, OWN_VIEWS])
    own = draw(np.setdiff1d(free, matched[:, 0]), options.own_views, generator)
    return np.concatenate([matched, np.repeat(own[:, None], 1 + count, axis=1)])


def _drawn(
    arrays: Mapping[str, Any],
    options: TrainingOptions,
    rows: Indices,
    choices: list[Indices],
    generator: np.random.Generator,
    epoch: int,
) -> Indices:
    """m3: the positives of the queries of these rows in an epoch, [Q, positives_per_tuple] images."""
    if options.overlap_order == "easy_to_hard":
        choices = [
            band(arrays, row, choice, epoch, options.epochs)
            for row, choice in zip(rows.tolist(), choices, strict=True)
        ]
    beyond: list[tuple[list[Indices], float]] = []
    if options.through_matches:
        beyond.append((matched_elsewhere(arrays, rows), options.through_matches))
    if options.through_model:
        beyond.append(([reached(arrays, row) for row in rows.tolist()], options.through_model))
    return draw_positives(choices, generator, options.positives_per_tuple, beyond)


def draw_validation(arrays: Mapping[str, Any], options: TrainingOptions) -> Draw:
    """All usable val queries with one positive each (m1: chosen later) and the whole val pool; the same every
    epoch."""
    rows = usable_queries(arrays, VAL, options.positives)
    choices = positive_choices(arrays, rows, options.positives)
    if options.positives == "m3":
        choices = list(draw_positives(choices, generator_of(options, FIXED_DRAW)))
    queries = np.asarray(arrays["queries/image"], dtype=np.int64)[rows]
    return Draw(VAL, queries, choices, negative_pool(arrays, VAL), options.positives == "m1")


def plan_of(
    arrays: Mapping[str, Any],
    drawn: Draw,
    negatives: int | None,
    one_per_cluster: bool | None,
    name: Callable[[int], str] = str,
) -> NegativePlan:
    """How many negatives every query of a draw gets. name: of an image, for errors. Raises TooFewClusters."""
    names = [name(int(query)) for query in drawn.queries]
    supply = negative_supply(arrays, drawn.queries, drawn.pool)
    return plan_negatives(supply, negatives, one_per_cluster, names, SPLIT_NAMES[drawn.split])


def mine(
    arrays: Mapping[str, Any], drawn: Draw, described: DescriptorTable, plan: NegativePlan
) -> MinedTuples:
    """Complete the draw with the current network's descriptors; plan: see `plan_of`."""
    queries, pool = drawn.queries, drawn.pool
    if drawn.needs_choices:
        positives = nearest_positives(drawn.choices, queries, described)[:, None]
    else:
        positives = np.array(drawn.choices, dtype=np.int64).reshape(len(queries), -1)
    clusters = np.asarray(arrays["images/cluster"], dtype=np.int64)
    of_queries, of_pool = described[queries], described[pool]
    choose = (
        partial(hard_negatives, of_queries, of_pool)
        if drawn.random is None
        else partial(random_negatives, np.random.default_rng(drawn.random))
    )
    positions = choose(
        clusters[queries],
        clusters[pool],
        plan.count,
        one_per_cluster=plan.one_per_cluster,
        forbidden=forbidden(arrays, queries, pool),
    )
    inner = np.einsum("qd,qnd->qn", of_queries, of_pool[positions])
    distance = float(np.sqrt(np.maximum(0, 2 - 2 * inner)).mean())
    tuples = np.column_stack([queries, positives, pool[positions]])
    return MinedTuples(tuples, positives.shape[1], distance, plan.warnings)


def with_those_beside(tuples: Indices, beside: Indices, generator: np.random.Generator) -> Indices:
    """Tuples [T, 1 + P + n] with those of further queries [B, 1 + P] among them, in random order: -1 where a
    mined negative would be. A query that is its own positive is a photograph that has to find itself."""
    if not len(beside):
        return tuples
    rows = np.full((len(beside), tuples.shape[1]), -1, dtype=np.int64)
    rows[:, : beside.shape[1]] = beside
    return generator.permutation(np.concatenate([tuples, rows]))
