"""Rules of the training set and of the training's record: splits, positives, negatives, epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.relations import Columns, Rule, first, repeated, rises, rows_from


def splits(columns: Columns) -> Iterator[tuple[str, str]]:
    """Queries are in the split of their image; a cluster lies in one split."""
    split, cluster, query = columns["images/split"], columns["images/cluster"], columns["queries/image"]
    at = first(columns["queries/split"] != split[query])
    if at is not None:
        yield (
            "queries/split",
            f"has {columns['queries/split'][at]} at [{at}], but images/split says {split[query[at]]}",
        )
    order = np.argsort(cluster, kind="stable")
    at = first((cluster[order][1:] == cluster[order][:-1]) & (split[order][1:] != split[order][:-1]))
    if at is not None:
        image = int(order[at + 1])
        text = f"has {split[image]} at [{image}], another split than the rest of cluster {cluster[image]}"
        yield "images/split", f"{text}; train, val and test would share a place"


def registered(columns: Columns) -> Iterator[tuple[str, str]]:
    """An image is registered exactly where it has a model."""
    there, model = columns["images/registered"], columns["images/model"]
    at = first(there != (model >= 0))
    if at is not None:
        yield "images/registered", f"has {there[at]} at [{at}], but images/model has {model[at]} there"


def candidates(columns: Columns) -> Iterator[tuple[str, str]]:
    """A candidate is another image of the query's cluster; positives are candidates.

    Positives that were listed elsewhere come without candidates.
    """
    query, image = columns["queries/image"], columns["candidates/image"]
    row = rows_from(columns["candidates/indptr"])
    cluster = columns["images/cluster"]
    at = first((image == query[row]) | (cluster[image] != cluster[query[row]]))
    if at is not None:
        yield (
            "candidates/image",
            f"has {image[at]} at [{at}], the query itself or an image of another cluster",
        )
    if len(image) == 0:  # lists of positives made elsewhere
        return
    known = _codes(row, image)
    for path in ("positives/m1_pool", "positives/m3"):
        chosen = columns[f"{path}/image"]
        at = first(~np.isin(_codes(rows_from(columns[f"{path}/indptr"]), chosen), known))
        if at is not None:
            yield f"{path}/image", f"has {chosen[at]} at [{at}], which is no candidate of its query"
    best = columns["positives/m2"]
    at = first((best >= 0) & ~np.isin(_codes(np.arange(len(best)), best), known))
    if at is not None:
        yield "positives/m2", f"has {best[at]} at [{at}], which is no candidate of its query"


def _codes(row: NDArray[Any], image: NDArray[Any]) -> NDArray[np.int64]:
    """One number for every (row, image)."""
    return row.astype(np.int64) << 32 | image.astype(np.int64) & 0xFFFFFFFF


def negatives(columns: Columns) -> Iterator[tuple[str, str]]:
    """A verdict is about a cluster that the photograph is not in, and there is one."""
    image, cluster = columns["negatives/image"], columns["negatives/cluster"]
    own = columns["images/cluster"]
    at = first(own[image] == cluster)
    if at is not None:
        yield "negatives/cluster", f"has {cluster[at]} at [{at}], the cluster of the photograph itself"
    rows = repeated(image, cluster)
    if rows is not None:
        row = rows[1]
        yield "negatives/image", f"has a second verdict on photograph {image[row]} and cluster {cluster[row]}"


def benchmark(split: str, number: int) -> Rule:
    """Queries, database and labels are images of the split; no image has two labels for a query."""
    at_split = f"benchmark/{split}"

    def rule(columns: Columns) -> Iterator[tuple[str, str]]:
        of_split = columns["images/split"]
        database = columns[f"{at_split}/database"]
        for path in (f"{at_split}/queries", f"{at_split}/database"):
            at = first(of_split[columns[path]] != number)
            if at is not None:
                yield path, f"has {columns[path][at]} at [{at}], an image that images/split puts elsewhere"
        known: NDArray[Any] = np.empty(0, np.int64)
        for label in ("easy", "hard", "junk"):
            image = columns[f"{at_split}/{label}/image"]
            at = first(~np.isin(image, database))
            if at is not None:
                yield f"{at_split}/{label}/image", f"has {image[at]} at [{at}], which is not in the database"
            codes = _codes(rows_from(columns[f"{at_split}/{label}/indptr"]), image)
            at = first(np.isin(codes, known))
            if at is not None:
                yield f"{at_split}/{label}/image", f"has {image[at]} at [{at}], which has another label too"
            known = np.concatenate([known, codes])

    return rule


def epochs(columns: Columns) -> Iterator[tuple[str, str]]:
    """What is told of an epoch belongs to one that was trained."""
    known = columns["epochs/epoch"]
    for path in ("best_epoch", "mined/epoch"):
        at = first(~np.isin(columns[path], known))
        if at is not None:
            yield path, f"has {columns[path][at]}, which epochs/epoch does not list"


def tuples(columns: Columns) -> Iterator[tuple[str, str]]:
    """Query, positive and negatives of a tuple are different images."""
    query, positive, chosen = (columns[f"mined/{name}"] for name in ("query", "positive", "negatives"))
    at = first(query == positive)
    if at is not None:
        yield "mined/positive", f"has {positive[at]} at [{at}], the query itself"
    at = first(((chosen == query[:, None]) | (chosen == positive[:, None])).any(axis=1))
    if at is not None:
        yield "mined/negatives", f"holds the query or the positive of its tuple at [{at}]"
    ordered = np.sort(chosen, axis=1)
    at = first(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1))
    if at is not None:
        yield "mined/negatives", f"holds an image twice at [{at}]"


RULES: dict[str, tuple[Rule, ...]] = {
    "training_set": (
        splits,
        registered,
        candidates,
        negatives,
        benchmark("val", 1),
        benchmark("test", 2),
    ),
    "training": (rises("epochs/epoch"), epochs, tuples),
}
