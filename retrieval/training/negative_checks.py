"""Verified negatives: a hard negative that looks like the query's own place is matched before it is used.

A negative is suspicious where its descriptor lies within the range of the query's own positives. It is
matched geometrically once with the query and the photographs of the query's cluster nearest to it; the
verdict holds for the whole cluster and the rest of the training. Beyond the published method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval.describe.describe import DescriptorTable
from retrieval.learning.mining import TooFewClusters
from retrieval.training.epoch_tuples import Draw, MinedTuples, mine, plan_of
from retrieval.training.options import Matcher
from retrieval.training.positives import Indices, rows_of_queries
from retrieval.training.tuples import SPLIT_NAMES, NegativePlan, negative_supply

COLUMNS = ("epoch", "image", "cluster", "max_inliers")
Name = Callable[[int], str]
Found = TypeVar("Found", NegativePlan, MinedTuples)


@dataclass
class NegativeChecks:
    """What was matched so far. found [V, 4] int64: epoch, image, query cluster, most inliers with it.

    inliers: from so many on the two may show one place; photographs: of the query's cluster per check.
    Without a matcher nothing is suspected.
    """

    matcher: Matcher | None
    inliers: int
    photographs: int
    epoch: int = 0
    found: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, len(COLUMNS)), dtype=np.int64))

    def applied(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        """The training set with the verdicts found: two clusters that may match bar each other."""
        if not len(self.found):
            return arrays
        image, cluster, most = self._bars(np.asarray(arrays["images/cluster"]))
        result = dict(arrays)
        for name, rows in (("image", image), ("cluster", cluster), ("max_inliers", most)):
            known = np.asarray(arrays[f"negatives/{name}"], dtype=np.int64)
            result[f"negatives/{name}"] = np.append(known, rows)
        allowed = np.asarray(arrays["negatives/allowed"], dtype=bool)
        result["negatives/allowed"] = np.append(allowed, most < self.inliers)
        return result

    def may_match(self, clusters: Indices) -> Indices:
        """[M, 3] pairs of clusters, smaller first, and the most inliers between them. clusters: [N] of the
        images."""
        barred = self.found[self.found[:, 3] >= self.inliers]
        ends = np.sort(np.column_stack([clusters[barred[:, 1]], barred[:, 2]]), axis=1)
        pairs, row = np.unique(ends, axis=0, return_inverse=True)
        most = np.zeros(len(pairs), dtype=np.int64)
        np.maximum.at(most, row.reshape(-1), barred[:, 3])
        return np.column_stack([pairs, most])

    def judge(self, suspects: Indices, arrays: Mapping[str, Any], described: DescriptorTable) -> bool:
        """Match suspects [S, 2] (negative, query), note the verdicts; whether one of them is barred."""
        assert self.matcher is not None
        clusters = np.asarray(arrays["images/cluster"], dtype=np.int64)
        pairs, row = _pairs_to_match(suspects, clusters, described, self.photographs)
        most = np.zeros(len(suspects), dtype=np.int64)
        unique, place = np.unique(np.sort(pairs, axis=1), axis=0, return_inverse=True)
        np.maximum.at(most, row, np.asarray(self.matcher(unique), dtype=np.int64)[place.reshape(-1)])
        epochs = np.full(len(suspects), self.epoch, dtype=np.int64)
        verdicts = np.column_stack([epochs, suspects[:, 0], clusters[suspects[:, 1]], most])
        self.found = np.concatenate([self.found, verdicts])
        return bool((most >= self.inliers).any())

    def _bars(self, clusters: Indices) -> tuple[Indices, Indices, Indices]:
        """Rows (image, cluster, inliers) of the verdicts, and of every image of clusters that may match."""
        parts = [self.found[:, 1:]]
        for first, second, most in self.may_match(clusters).tolist():
            for own, other in ((first, second), (second, first)):
                members = np.flatnonzero(clusters == own)
                parts.append(np.column_stack([members, *np.full((2, len(members)), [[other], [most]])]))
        image, cluster, most = np.concatenate(parts).T
        return image, cluster, most


@dataclass(frozen=True, eq=False)
class Miner:
    """Negatives of one training set, verified. warn: told what had to be given up."""

    arrays: Mapping[str, Any]
    name: Name
    one_per_cluster: bool | None
    checks: NegativeChecks
    warn: Callable[[str], None]

    def plan(self, drawn: Draw, negatives: int | None) -> NegativePlan:
        """See `epoch_tuples.plan_of`."""
        return self._heard(plan_of(self.arrays, drawn, negatives, self.one_per_cluster, self.name))

    def mine(self, drawn: Draw, described: DescriptorTable, plan: NegativePlan) -> MinedTuples:
        """See `mine_verified`."""
        return self._heard(
            mine_verified(self.arrays, drawn, described, self.checks, plan=plan, name=self.name)
        )

    def _heard(self, found: Found) -> Found:
        for warning in found.warnings:
            self.warn(warning)
        return found


def mine_verified(
    arrays: Mapping[str, Any],
    drawn: Draw,
    described: DescriptorTable,
    checks: NegativeChecks,
    *,
    plan: NegativePlan,
    name: Name = str,
) -> MinedTuples:
    """`epoch_tuples.mine` until none of the mined negatives is suspicious and unmatched.

    plan: of the training set alone, see `epoch_tuples.plan_of`; a query with fewer negatives left, once
    clusters turned out to show its place, is left out with a warning. Raises TooFewClusters where none is
    left.
    """
    names = [name(int(query)) for query in drawn.queries]
    while True:
        barred = checks.applied(arrays)
        kept, warnings = _with_enough(barred, drawn, plan, names)
        mined = mine(barred, kept, described, plan)
        suspects = np.empty((0, 2), dtype=np.int64)
        if checks.matcher is not None:
            suspects = suspicious(barred, kept, described, mined)
        if not len(suspects) or not checks.judge(suspects, arrays, described):
            return replace(mined, warnings=(*mined.warnings, *warnings))


def suspicious(
    arrays: Mapping[str, Any], drawn: Draw, described: DescriptorTable, mined: MinedTuples
) -> Indices:
    """Mined negatives within the range of their query's positives and without a verdict for its cluster.

    -> [S, 2] negative and query, one row per (negative, cluster of the query): that of the nearest query.
    The range reaches to the farthest positive (m2, m3, and that of the tuple) whose descriptor is at hand.
    """
    clusters = np.asarray(arrays["images/cluster"], dtype=np.int64)
    queries, negatives = mined.tuples[:, 0], mined.tuples[:, 1 + mined.positives :]
    similarity = np.einsum("qd,qnd->qn", described[queries], described[negatives])
    lowest = _lowest_of_positives(arrays, mined, described)
    row, column = np.nonzero(similarity >= lowest[:, None])
    image, query = negatives[row, column], queries[row]
    order = np.lexsort((query, -similarity[row, column], clusters[query], image))
    image, query = image[order], query[order]
    key = _key(image, clusters[query], clusters)
    known = _key(
        np.asarray(arrays["negatives/image"], dtype=np.int64),
        np.asarray(arrays["negatives/cluster"], dtype=np.int64),
        clusters,
    )
    first = np.append(True, key[1:] != key[:-1])[: key.size]
    keep = first & ~np.isin(key, known)
    return np.column_stack([image[keep], query[keep]])


def _key(image: Indices, cluster: Indices, clusters: Indices) -> Indices:
    return image * (clusters.max(initial=0) + 1) + cluster


def _lowest_of_positives(
    arrays: Mapping[str, Any], mined: MinedTuples, described: DescriptorTable
) -> NDArray[np.float32]:
    """[T] similarity of each query's farthest positive; -inf where none has a descriptor."""
    tuples = mined.tuples
    rows = rows_of_queries(arrays, tuples[:, 0])
    indptr, image = (
        np.asarray(arrays[f"positives/m3/{part}"], dtype=np.int64) for part in ("indptr", "image")
    )
    m2 = np.asarray(arrays["positives/m2"], dtype=np.int64)
    held = np.zeros(len(arrays["images/cluster"]), dtype=bool)
    held[described.images] = True
    lowest = np.full(len(tuples), -np.inf, dtype=np.float32)
    for place, row in enumerate(rows.tolist()):
        of_tuple = tuples[place, 1 : 1 + mined.positives]
        own = np.concatenate([image[indptr[row] : indptr[row + 1]], m2[[row]], of_tuple])
        own = own[(own >= 0) & held[own]]
        if own.size:
            lowest[place] = (described[own] @ described[tuples[place, 0]]).min()
    return lowest


def _pairs_to_match(
    suspects: Indices, clusters: Indices, described: DescriptorTable, photographs: int
) -> tuple[Indices, Indices]:
    """[K, 2] the suspect with its query and the described photographs of the query's cluster that are nearest
    to the suspect; [K] the suspect's row."""
    of_described = clusters[described.images]
    pairs, rows = [np.empty((0, 2), dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for row, (image, query) in enumerate(suspects.tolist()):
        members = described.images[of_described == clusters[query]]
        members = members[members != query]
        nearest = np.argsort(-(described[members] @ described[image]), kind="stable")
        partners = np.append(query, members[nearest[: photographs - 1]])
        pairs.append(np.column_stack([np.full(partners.size, image), partners]))
        rows.append(np.full(partners.size, row))
    return np.concatenate(pairs), np.concatenate(rows)


def _with_enough(
    arrays: Mapping[str, Any], drawn: Draw, plan: NegativePlan, names: list[str]
) -> tuple[Draw, tuple[str, ...]]:
    """The draw without the queries that have fewer negatives left than the plan's."""
    supply = negative_supply(arrays, drawn.queries, drawn.pool)
    enough = (supply.clusters if plan.one_per_cluster else supply.photographs) >= plan.count
    if enough.all():
        return drawn, ()
    where, short = SPLIT_NAMES[drawn.split], np.flatnonzero(~enough)
    text = (
        f"{where}: {short.size} of {enough.size} queries, {names[short[0]]!r} among them, have fewer than "
        f"{plan.count} negatives left since clusters turned out to show one place"
    )
    if not enough.any():
        raise TooFewClusters(
            f"{text}; lower training.negatives, raise training.verify_inliers or add photographs of other "
            "places"
        )
    kept = np.flatnonzero(enough)
    choices = [drawn.choices[place] for place in kept.tolist()]
    return replace(drawn, queries=drawn.queries[kept], choices=choices), (f"{text}; they are left out",)
