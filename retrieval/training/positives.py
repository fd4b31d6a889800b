"""The positives of a query: which it may have, and which of them are in its tuple."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.training.options import Strategy
from storage.schemas.table import Ragged

Indices = NDArray[np.int64]
_CSR = {"m1": "m1_pool", "m3": "m3"}


class RowsByImage(Protocol):
    """Descriptors that can be indexed by image: an array [N, D], or a table of some images."""

    def __getitem__(self, images: Any, /) -> NDArray[np.float32]: ...


class NoQueries(ValueError):
    """A training set without a query to train on."""


class WithoutMatches(ValueError):
    """A training set that does not say which pairs were matched."""


class WithoutOverlap(ValueError):
    """A positive whose overlap with its query is not known."""


def usable_queries(arrays: Mapping[str, Any], split: int, strategy: Strategy) -> Indices:
    """Rows of the queries table in the split that have a positive under the strategy. arrays:
    training_set.h5."""
    rows = np.flatnonzero(np.asarray(arrays["queries/split"]) == split)
    if strategy == "m2":
        return rows[np.asarray(arrays["positives/m2"])[rows] >= 0]
    indptr = np.asarray(arrays[f"positives/{_CSR[strategy]}/indptr"], dtype=np.int64)
    return rows[indptr[rows + 1] > indptr[rows]]


def positive_choices(arrays: Mapping[str, Any], rows: Indices, strategy: Strategy) -> list[Indices]:
    """The images each query's positive is chosen from, one array per row."""
    if strategy == "m2":
        return list(np.asarray(arrays["positives/m2"], dtype=np.int64)[rows][:, None])
    base = f"positives/{_CSR[strategy]}"
    indptr = np.asarray(arrays[f"{base}/indptr"], dtype=np.int64)
    image = np.asarray(arrays[f"{base}/image"], dtype=np.int64)
    return [image[indptr[row] : indptr[row + 1]] for row in rows]


def overlaps(arrays: Mapping[str, Any], row: int, images: Indices) -> NDArray[np.float32]:
    """Shared points / points of the query, for images [K] of its cluster; 0 where they share none.

    row: of the queries table.
    """
    indptr = np.asarray(arrays["candidates/indptr"], dtype=np.int64)
    here = slice(indptr[row], indptr[row + 1])
    found = np.asarray(arrays["candidates/image"])[here][None] == np.asarray(images)[:, None]
    return np.asarray((found * np.asarray(arrays["candidates/overlap"])[here]).max(axis=1, initial=0.0))


def band(arrays: Mapping[str, Any], row: int, choice: Indices, epoch: int, epochs: int) -> Indices:
    """The choices that are an epoch's turn, from the most overlap (epoch 1) to the least; at least one.

    choice [K]: positives of the query of that row -> about K / epochs of them.
    """
    order = np.argsort(-overlaps(arrays, row, choice), kind="stable")
    first = min((epoch - 1) * len(choice) // epochs, len(choice) - 1)
    return np.sort(choice[order[first : max(first + 1, epoch * len(choice) // epochs)]])


def reached(arrays: Mapping[str, Any], row: int) -> Indices:
    """Images of the query's model that m3 leaves out: candidates of too little overlap or of another scale,
    and what shares points with an image that shares some with the query."""
    indptr = np.asarray(arrays["candidates/indptr"], dtype=np.int64)
    image = np.asarray(arrays["candidates/image"], dtype=np.int64)
    shares = np.asarray(arrays["candidates/shared_points"]) > 0

    def candidates(of: int) -> tuple[Indices, Indices]:
        here = slice(indptr[of], indptr[of + 1])
        return image[here], image[here][shares[here]]

    own, seen = candidates(row)
    between = np.flatnonzero(np.isin(arrays["queries/image"], seen)).tolist()
    (chosen,) = positive_choices(arrays, np.array([row]), "m3")
    found = np.concatenate([own, *(candidates(other)[1] for other in between)])
    return np.setdiff1d(found, np.append(chosen, int(arrays["queries/image"][row])))


def partners(arrays: Mapping[str, Any]) -> Ragged:
    """Of every image those that it was matched with; a training set that holds no pairs knows of none."""
    one, two = (np.asarray(arrays.get(f"matched/{end}", []), dtype=np.int64) for end in ("first", "second"))
    pairs = np.unique(np.concatenate([np.stack([one, two], axis=1), np.stack([two, one], axis=1)]), axis=0)
    counts = np.bincount(pairs[:, 0], minlength=len(arrays["images/cluster"]))
    return Ragged(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), pairs[:, 1])


def matched_elsewhere(arrays: Mapping[str, Any], rows: Indices) -> list[Indices]:
    """Of the queries of these rows the images that they were matched with and that their model lacks."""
    found, model = partners(arrays), np.asarray(arrays["images/model"])
    queries = np.asarray(arrays["queries/image"], dtype=np.int64)[rows].tolist()
    rows_of = map(found.row, queries)
    return [row[model[row] != model[query]] for query, row in zip(queries, rows_of, strict=True)]


def require_matches(arrays: Mapping[str, Any]) -> None:
    """Raises WithoutMatches."""
    if "matched/first" not in arrays:
        raise WithoutMatches(
            "training.through_matches: this training set does not say which pairs were matched (a list made "
            "elsewhere, or a file of version 2); select it anew, or set through_matches=0"
        )


def matched_alone(arrays: Mapping[str, Any], split: int) -> Indices:
    """Images of a split that are no queries and were matched with some image."""
    there = np.diff(partners(arrays).indptr) > 0
    there &= np.asarray(arrays["images/split"]) == split
    there[np.asarray(arrays["queries/image"], dtype=np.int64)] = False
    return np.flatnonzero(there)


def draw_positives(
    choices: Sequence[Indices],
    generator: np.random.Generator,
    count: int = 1,
    beyond: Sequence[tuple[Sequence[Indices], float]] = (),
) -> Indices:
    """`count` of each query's choices at random (m3; for m2 the only one): [Q, count] images.

    Different ones as far as there are, then the same again. beyond: (images of every query, share), of which
    each is taken in place of a choice with that probability, as far as there are.
    """
    draws = generator.random(len(choices))
    firsts = [choice[int(u * len(choice))] for choice, u in zip(choices, draws, strict=True)]
    drawn = np.array(firsts, dtype=np.int64).reshape(-1, 1)
    if count == 1 and not beyond:
        return drawn
    rows = []
    for place, (choice, first) in enumerate(zip(choices, drawn[:, 0], strict=True)):
        others = generator.permutation(choice[choice != first])
        taken = others[:0]
        for images, share in beyond:
            far = generator.permutation(np.setdiff1d(images[place], taken))
            taken = np.append(taken, far[: int((generator.random(count) < share).sum())])[:count]
        near = np.append(first, others)
        rows.append(np.append(taken, np.resize(near, count - len(taken))))
    return np.array(rows, dtype=np.int64).reshape(-1, count)


def nearest_positives(choices: list[Indices], queries: Indices, descriptors: RowsByImage) -> Indices:
    """m1: of each query's choices the one with the nearest descriptor: [Q] images.

    descriptors[images] -> rows [., D]. A single choice is taken without looking at its descriptor.
    """
    return np.array(
        [
            choice[0]
            if len(choice) == 1
            else choice[int(np.argmax(descriptors[choice] @ descriptors[query]))]
            for choice, query in zip(choices, queries, strict=True)
        ],
        dtype=np.int64,
    )


def rows_of_queries(arrays: Mapping[str, Any], queries: Indices) -> Indices:
    """[Q] rows of the queries table for images that are queries."""
    of_queries = np.asarray(arrays["queries/image"], dtype=np.int64)
    order = np.argsort(of_queries)
    return np.asarray(order[np.searchsorted(of_queries, queries, sorter=order)])


def overlap_weights(arrays: Mapping[str, Any], tuples: Indices, positives: int) -> NDArray[np.float32]:
    """What each positive of tuples [T, 1 + positives + n] shares with its query, 0..1: [T, positives].

    Raises WithoutOverlap where nothing is known to be shared.
    """
    rows = rows_of_queries(arrays, tuples[:, 0])
    found = np.array(
        [overlaps(arrays, int(row), own[1 : 1 + positives]) for row, own in zip(rows, tuples, strict=True)],
        dtype=np.float32,
    ).reshape(-1, positives)
    if not (found > 0).all():
        raise WithoutOverlap(
            "a positive shares no 3D point with its query, so that it has no overlap to weigh it by; set "
            "training.positive_weights=equal"
        )
    return found
