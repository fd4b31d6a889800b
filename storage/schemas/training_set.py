"""The training set: images, queries, positives, negatives, benchmarks of val and test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.schemas.layout import SHARE, Layout
from storage.schemas.rules import Columns, Rule, first, repeated, rows_from
from storage.schemas.table import Ints, Ragged, Table, Texts, column, ragged

SPLITS = (0, 1, 2)
_SPLIT = "0 train, 1 val, 2 test"


@dataclass(frozen=True, eq=False)
class Images(Table, rows="N"):
    """Accepted photographs [N] of the scene. model -1 = none; split 0 train, 1 val, 2 test."""

    name: Texts = column("str", "path below the root of the photographs", unique=True)
    sha256: NDArray[np.bytes_] = column("S64", "sha256 of the file's bytes, hexadecimal", unique=True)
    cluster: Ints = column("int64", "cluster in the scene", minimum=0)
    model: Ints = column("int64", "model in the scene; -1 = none", minimum=0, none=True)
    split: NDArray[np.int8] = column("int8", f"split of its cluster: {_SPLIT}", values=SPLITS)
    registered: NDArray[np.bool_] = column("bool", "whether a model holds it")


@dataclass(frozen=True, eq=False)
class Queries(Table, rows="Q"):
    """Queries [Q], by image."""

    image: Ints = column("int64", "image that is a query", index="N", unique=True)
    split: NDArray[np.int8] = column("int8", _SPLIT, values=SPLITS)


@dataclass(frozen=True, eq=False)
class Candidates(Table, rows="C"):
    """The images of a query's model with the nearest camera centres, nearest first (CSR over queries).

    shared_points [C], overlap [C] float32 = shared / points of the query, scale_change [C] float32 (nan =
    no shared point), center_distance_rank [C] from 0. A strategy for positives is a filter on these.
    """

    indptr: Ints = column("int64", "where each query's candidates begin", rows="Q+1", csr="C")
    image: Ints = column("int64", "image of the query's model", index="N", order="unique")
    shared_points: Ints = column("int64", "3D points that both see", minimum=0)
    overlap: NDArray[np.float32] = column(
        "float32", "shared points / points of the query", minimum=0, maximum=1
    )
    scale_change: NDArray[np.float32] = column(
        "float32", "ratio of the scales, at least 1", nan=True, minimum=0
    )
    center_distance_rank: Ints = column("int64", "rank by distance of the centres, 0 = nearest", minimum=0)


@dataclass(frozen=True, eq=False)
class Positives(Table, rows="Q"):
    """m1_pool: nearest cameras; m2: most shared points, -1 = none [Q]; m3: enough overlap, similar scale."""

    m1_pool: Ragged = ragged(
        "A", "where each query's pool begins", "images with the nearest centres", rows="Q", order="unique"
    )
    m2: Ints = column("int64", "image with most shared points; -1 = none", index="N", none=True)
    m3: Ragged = ragged(
        "B", "where each query's choices begin", "images to draw from at random", rows="Q", order="unique"
    )


@dataclass(frozen=True, eq=False)
class Negatives(Table, rows="V"):
    """Verdicts [V] on singletons against query clusters; no verdict = not allowed.

    max_inliers -1 = never matched. excluded: per query the images of other clusters that are none of its
    negatives; where it is given it is complete, and singletons need no verdict.
    """

    image: Ints = column(
        "int64", "photograph without verified pairs, or of a cluster that may match", index="N"
    )
    cluster: Ints = column("int64", "cluster of the query", minimum=0)
    max_inliers: Ints = column(
        "int64", "most raw inliers with that cluster; -1 = never matched", minimum=0, none=True
    )
    allowed: NDArray[np.bool_] = column("bool", "whether it may be a negative of that cluster's queries")
    excluded: Ragged | None = ragged(
        "X",
        "where each query's excluded images begin",
        "image of another cluster that is no negative of the query",
        rows="Q",
        optional=True,
        order="increasing",
    )


@dataclass(frozen=True, eq=False)
class Matched(Table, rows="M"):
    """Pairs [M] of one split that agree with one geometry, whether or not a model holds them."""

    first: Ints = column("int64", "image, the smaller of the two", index="N")
    second: Ints = column("int64", "image, the larger of the two", index="N")
    inliers: Ints = column("int64", "matches of the two that agree with one geometry", minimum=1)


@dataclass(frozen=True, eq=False)
class Dropped(Table, rows="Z"):
    """Clusters [Z] that show what a benchmark shows, and the pair that gave each away.

    photographs: how many; inliers: -1 = the two are the same file; similarity: of their descriptors.
    """

    cluster: Ints = column(
        "int64", "cluster in the scene; none of its photographs is in images", minimum=0, unique=True
    )
    photographs: Ints = column("int64", "photographs of the cluster", minimum=1)
    split: NDArray[np.int8] = column("int8", f"split that it was in: {_SPLIT}", values=SPLITS)
    benchmark_image: Texts = column("str", "image of the benchmark, path below its folder")
    photograph: Texts = column("str", "photograph of the cluster that shows the same, path below its root")
    inliers: Ints = column(
        "int64",
        "matches of the two that agree with one geometry; -1 = the same file",
        minimum=0,
        none=True,
    )
    similarity: NDArray[np.float32] = column("float32", "inner product of the descriptors of the two")


@dataclass(frozen=True, eq=False)
class Benchmark(Table, rows="Q_{tag}"):
    """Geometry benchmark of one split: queries [.], database [.], labels per query.

    All other images are negatives.
    """

    queries: Ints = column("int64", "registered images of {split}", index="N", unique=True)
    database: Ints = column("int64", "all images of {split}", rows="D_{tag}", index="N", unique=True)
    easy: Ragged = ragged(
        "EASY_{tag}",
        "where each query's easy images begin",
        "overlap at least 0.2 and scale change at most 1.5",
        rows="Q_{tag}",
        order="increasing",
    )
    hard: Ragged = ragged(
        "HARD_{tag}",
        "where each query's hard images begin",
        "not easy, at least 15 shared points",
        rows="Q_{tag}",
        order="increasing",
    )
    junk: Ragged = ragged(
        "JUNK_{tag}",
        "where each query's junk images begin",
        "neither right nor wrong: the query, near duplicates, the rest of the cluster",
        rows="Q_{tag}",
        order="increasing",
    )


@dataclass(frozen=True, eq=False)
class Harder(Table, rows="Q_{tag}"):
    """What makes harder rows of the benchmark's queries [.]: a detail of each.

    box: left, top, right, bottom as shares of the upright photograph's sides.
    """

    box: NDArray[np.float32] | None = column(
        "float32",
        "left, top, right, bottom of what the query shares with its easy and hard images, as shares of the "
        "upright photograph's sides; nan = it has none",
        dims=(4,),
        optional=True,
        **SHARE,
    )


def _benchmark_groups(split: str) -> dict[str, str]:
    at = f"benchmark/{split}"
    labels = {
        f"{at}/{label}": f"{label} images of every query (CSR over queries)"
        for label in ("easy", "hard", "junk")
    }
    return {at: f"labels of {split}: from its 3D models, or from a given list", **labels}


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


def matched(columns: Columns) -> Iterator[tuple[str, str]]:
    """A pair is there once, the smaller image first, and both are in one split."""
    if "matched/first" not in columns:
        return
    one, two, split = columns["matched/first"], columns["matched/second"], columns["images/split"]
    at = first(one >= two)
    if at is not None:
        yield "matched/second", f"has {two[at]} at [{at}], which does not come after image {one[at]}"
    at = first(split[one] != split[two])
    if at is not None:
        text = f"has {two[at]} at [{at}], in split {split[two[at]]}; image {one[at]} is in {split[one[at]]}"
        yield "matched/second", text
    rows = repeated(one, two)
    if rows is not None:
        yield "matched/first", f"has the pair of images {one[rows[1]]} and {two[rows[1]]} a second time"


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


def harder(split: str) -> Rule:
    """A query with an answer has a detail, any other has none; a detail has an extent."""

    def rule(columns: Columns) -> Iterator[tuple[str, str]]:
        path = f"harder/{split}/box"
        if path not in columns:
            return
        box = columns[path]
        easy, hard = (np.diff(columns[f"benchmark/{split}/{label}/indptr"]) for label in ("easy", "hard"))
        answers, none = easy + hard, np.isnan(box)
        at = first((none != (answers == 0)[:, None]).any(axis=1))
        if at is not None:
            yield path, f"has {box[at].tolist()} at [{at}], a query with {answers[at]} easy and hard images"
        at = first((box[:, :2] >= box[:, 2:]).any(axis=1))
        if at is not None:
            yield path, f"has {box[at].tolist()} at [{at}]; left, top lie before right, bottom"

    return rule


TRAINING_SET = Layout(
    name="training_set",
    version=3,
    description="Queries, positives, guarded negatives and the geometry benchmark, selected from a scene.",
    groups={
        "images": "accepted photographs; every other index of this file points here",
        "queries": "one row per query",
        "candidates": "images of each query's model with the nearest camera centres, with or without common "
        "3D points (CSR over queries)",
        "positives": "three strategies to choose a positive",
        "positives/m1_pool": "m1: the nearest descriptor of these is the positive (CSR over queries)",
        "positives/m3": "m3: one of these at random is the positive (CSR over queries)",
        "negatives": "verdicts: photographs without verified pairs need an allowed one, "
        "refused ones never serve",
        "negatives/excluded": "what no query may have beside its own cluster (CSR over queries); where it is "
        "given it is complete, and photographs that are alone in their cluster need no verdict",
        "matched": "pairs that matching verified, those that no model holds too",
        "dropped": "clusters that show what a benchmark shows, taken out of this file, with the evidence",
        "benchmark": "geometry benchmark: labels that no person made",
        **_benchmark_groups("val"),
        **_benchmark_groups("test"),
        "harder": "the benchmark's queries made harder: which detail of each is asked for alone",
        "harder/val": "one row per query of benchmark/val",
        "harder/test": "one row per query of benchmark/test",
    },
    datasets=(
        *Images.datasets("images"),
        *Queries.datasets("queries"),
        *Candidates.datasets("candidates"),
        *Positives.datasets("positives"),
        *Negatives.datasets("negatives"),
        *Matched.datasets("matched", optional=True),
        *Dropped.datasets("dropped", optional=True),
        *Benchmark.datasets("benchmark/val", split="val", tag="VAL"),
        *Benchmark.datasets("benchmark/test", split="test", tag="TEST"),
        *Harder.datasets("harder/val", tag="VAL"),
        *Harder.datasets("harder/test", tag="TEST"),
    ),
    rules=(
        splits,
        registered,
        candidates,
        negatives,
        matched,
        benchmark("val", 1),
        benchmark("test", 2),
        harder("val"),
        harder("test"),
    ),
)


_SECOND = TRAINING_SET.before(2, "matched")
_FIRST = _SECOND.before(1, "harder")
LAYOUTS = (replace(TRAINING_SET, previous=(_FIRST, _SECOND)),)
