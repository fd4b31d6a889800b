"""A training set whose truth was brought along: who shows the same and who shows something else is known.

Every image of another cluster is a negative of a query, but those that its row of `negatives/excluded` names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sfm.training_set import splits
from sfm.training_set.splits import SPLIT_NAMES, TEST, TRAIN, VAL
from sfm.training_set.tables import Negatives, TrainingTables, no_candidates
from storage.schemas.table import Ragged
from storage.schemas.training_set import Benchmark, Images, Positives, Queries

Indices = NDArray[np.int64]


Made = TypeVar("Made", bound=TrainingTables)


class BadEntry(ValueError):
    """Names or digests that are no list of photographs."""


class NothingToTrainOn(ValueError):
    """No photograph of train has a positive."""


def digests_of(names: Sequence[str], sha256: Any = None) -> NDArray[np.bytes_]:
    """[N] S64 of photographs, checked; those of the names where the files' are not known. Raises BadEntry."""
    given = sha256 if sha256 is not None else [hashlib.sha256(name.encode()).hexdigest() for name in names]
    digests = np.asarray(given, dtype="S64")
    if len(digests) != len(names) or len(set(names)) != len(names):
        raise BadEntry(
            f"{len(names)} names ({len(set(names))} different) and {len(digests)} digests; "
            "give every photograph once"
        )
    first: dict[bytes, str] = {}
    for name, digest in zip(names, digests.tolist(), strict=True):
        if digest in first:
            raise BadEntry(f"{name!r} and {first[digest]!r} are the same file; list one of them")
        first[digest] = name
    return digests


def grouped(rows: Indices, values: Indices, num_rows: int) -> Ragged:
    """values [K] of rows [K], in the order given within a row."""
    order = np.argsort(rows, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_rows))]).astype(np.int64)
    return Ragged(indptr, values[order].astype(np.int64))


def assemble(
    kind: type[Made],
    images: Images,
    positives: Ragged,
    excluded: Ragged,
    junk: Ragged,
    summary: Mapping[str, Any],
    *,
    teaches: bool = True,
) -> Made:
    """A `kind`. positives, excluded, junk: rows over images [N]; positives best first, others increasing.

    A query is an image with a positive: m1's pool and m3 are all of them, m2 the first. In the benchmark they
    are easy, nothing is hard. Raises NothingToTrainOn unless it may teach nothing.
    """
    query = np.flatnonzero(np.diff(positives.indptr))
    split = images.split[query]
    if teaches and not np.any(split == TRAIN):
        raise NothingToTrainOn(
            f"none of the {int((images.split == TRAIN).sum())} photographs of train has a positive; "
            "add photographs of the same places, objects or identities"
        )
    chosen = rows_of(positives, query)
    first = chosen.image[chosen.indptr[:-1]]
    return kind(
        images,
        Queries(query, split),
        no_candidates(query.size),
        Positives(chosen, first, chosen),
        Negatives.known(rows_of(excluded, query)),
        benchmarks(images, query, positives, junk),
        counts(images, query) | dict(summary),
    )


def counts(images: Images, query: Indices) -> dict[str, Any]:
    """The summary of a training set: queries and clusters of every split, and what it lacks."""
    split, of_clusters = images.split[query], np.unique(images.cluster, return_index=True)[1]
    return {
        "queries": splits.counts(split),
        "clusters": splits.counts(images.split[of_clusters]),
        "not_queries": {"no positive": int(images.split.size - query.size)},
        "warnings": [f"{SPLIT_NAMES[s]} has no query" for s in (VAL, TEST) if not np.any(split == s)],
    }


def noted(chosen: Made, warnings: Sequence[str], **facts: Any) -> Made:
    """The same with more sentences and facts in its summary."""
    known = chosen.summary.get("warnings", ())
    return replace(chosen, summary={**chosen.summary, **facts, "warnings": [*warnings, *known]})


def benchmarks(images: Images, query: Indices, positives: Ragged, junk: Ragged) -> dict[str, Benchmark]:
    """Benchmarks of val and test: positives (rows over images) are easy, junk counts as nothing."""
    split = images.split[query]
    return {SPLIT_NAMES[s]: _benchmark(images, s, query[split == s], positives, junk) for s in (VAL, TEST)}


def _benchmark(images: Images, split: int, query: Indices, positives: Ragged, junk: Ragged) -> Benchmark:
    database = np.flatnonzero(images.split == split)
    easy = [np.unique(positives.row(q)) for q in query.tolist()]
    nothing = [np.empty(0, dtype=np.int64)] * query.size
    own = [np.union1d(junk.row(q), [q]) for q in query.tolist()]
    return Benchmark(
        query, database, Ragged.from_rows(easy), Ragged.from_rows(nothing), Ragged.from_rows(own)
    )


def rows_of(ragged: Ragged, rows: Indices) -> Ragged:
    """Some rows, in the order given."""
    return Ragged.from_rows([ragged.row(row) for row in rows.tolist()])
