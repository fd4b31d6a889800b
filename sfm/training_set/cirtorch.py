"""Training lists in the format of the reference code (cirtorch), which its descendants read too.

A `.pkl` holds {'train': d, 'val': d}, d = {'cids', 'cluster', 'qidxs', 'pidxs'}, lists of str and int;
image `cid` lies at root/cid[-2:]/cid[-4:-2]/cid[-6:-4]/cid. Source: filipradenovic/cnnimageretrieval-
pytorch. What `to_cirtorch` writes `from_cirtorch` reads: the same tuples, clusters and splits.
"""

from __future__ import annotations

import logging
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.training_set import known_truth, splits
from sfm.training_set.cirtorch_file import (
    SPLITS,
    CirtorchList,
    digest_of,
    image_path,
    read_cirtorch,
)
from sfm.training_set.duplicates import Contradiction, first_with
from sfm.training_set.known_truth import Made
from sfm.training_set.tables import TrainingTables
from storage.files.whole import write_bytes
from storage.keys.options import Options
from storage.schemas.table import Ragged
from storage.schemas.training_set import Images

_log = logging.getLogger(__name__)


class NotExpressible(ValueError):
    """A training set that a list of the reference cannot say."""


class CirtorchOptions(Options):
    """A list of the reference has no test: what is set aside of its train to measure on."""

    test_fraction: float = Field(
        0.20, ge=0, lt=1, description="share of the clusters of train that only measure; 0: train on all"
    )
    seed: int = Field(0, ge=0, description="draws these clusters")


def to_cirtorch(
    training_set: TrainingTables,
    pkl: Path,
    images_dir: Path | str | None = None,
    photo_root: Path | str | None = None,
) -> None:
    """Write the training list and, where both folders are given, the image tree.

    One (query, positive) pair per m3 positive, as the published lists have it. cid = sha256 of the
    photograph. Test is not written. The reference has no verdicts: a photograph without verified pairs is
    only written when every query cluster of its split may have it as a negative. photo_root: where
    `images/name` lie; images_dir: root of the tree (copies). Raises NotExpressible for a training set whose
    queries exclude images of other clusters (`sfm.lists.positions`).
    """
    excluded = training_set.negatives.excluded
    if excluded is not None and excluded.image.size:
        raise NotExpressible(
            f"{excluded.image.size} images of other clusters are excluded as negatives query by query; a "
            "list of the reference knows clusters only and would train on them: train with this package"
        )
    used = [_writable(training_set, split) for split in range(len(SPLITS))]
    lists = {name: _columns(training_set, split, used[split]) for split, name in enumerate(SPLITS)}
    _count_anew(*(lists[name]["cluster"] for name in SPLITS))
    write_bytes(Path(pkl), pickle.dumps(lists, protocol=2))
    if images_dir is None or photo_root is None:
        _log.warning("no image tree written: to_cirtorch was not given both images_dir and photo_root")
        return
    for image in np.concatenate(used).tolist():
        source = Path(photo_root) / str(training_set.images.name[image])
        target = Path(images_dir) / image_path(training_set.images.sha256[image].decode())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def from_cirtorch(pkl: Path, kind: type[Made]) -> Made:
    """Read a training list of the reference as a `kind`; nothing in the file is executed.

    `images/name` is the path in the reference's image tree; its clusters are 3D models, so model = cluster
    (train and val numbered apart), and every image of another cluster is a negative, as in the reference.
    m2 is the first listed positive, m1's pool all of them; what they share is unknown: no candidates. In the
    benchmark of val the listed positives are easy and the rest of a query's cluster is junk; test is empty.
    Raises BadTrainingList.
    """
    listed = read_cirtorch(Path(pkl))
    return training_set_of(kind, listed, listed.names, [digest_of(cid) for cid in listed.cids])


def training_set_of(
    kind: type[Made],
    listed: CirtorchList,
    names: Sequence[str],
    sha256: Sequence[str],
    options: CirtorchOptions | None = None,
) -> Made:
    """`from_cirtorch` of a list whose images are known photographs: names and digests [N].

    Images that are one photograph become one. options: what is set aside as test, None = nothing. Raises
    Contradiction where one photograph is in two clusters of the list.
    """
    first = first_with(sha256)
    kept = _kept(listed, first)
    place = np.full(len(names), -1, dtype=np.int64)
    place[kept] = np.arange(kept.size)
    pairs = place[first[listed.pairs]]
    pairs = pairs[:, pairs[0] != pairs[1]]
    cluster, digests = listed.cluster[kept], np.array([sha256[at] for at in kept.tolist()], dtype="S64")
    split = _with_test(listed.split[kept], cluster, pairs[0], digests, options)
    kept_names = np.array([names[at] for at in kept.tolist()], dtype=object)
    images = Images(kept_names, digests, cluster, cluster.copy(), split, np.ones(kept.size, dtype=bool))
    twins = len(names) - kept.size
    warnings = [f"{twins} images of the list are photographs that it has already"] if twins else []
    return known_truth.noted(_from_pairs(kind, images, pairs), warnings)


def _kept(listed: CirtorchList, first: NDArray[np.int64]) -> NDArray[np.int64]:
    """The images that stand for a photograph. Raises Contradiction."""
    apart = np.flatnonzero(listed.cluster != listed.cluster[first])
    if apart.size:
        one, other = listed.cids[int(first[apart[0]])], listed.cids[int(apart[0])]
        raise Contradiction(
            f"images {one!r} and {other!r} of the list are the same photograph in two clusters, so positive "
            f"and negative at once ({apart.size} such images); take one of each out of the list"
        )
    return np.flatnonzero(first == np.arange(first.size))


def _with_test(
    split: NDArray[np.int8],
    cluster: NDArray[np.int64],
    queries: NDArray[np.int64],
    digests: NDArray[np.bytes_],
    options: CirtorchOptions | None,
) -> NDArray[np.int8]:
    """[N] the list's splits, with whole clusters of train moved to test."""
    train = np.flatnonzero(split == splits.TRAIN)
    if options is None or options.test_fraction == 0 or train.size == 0:
        return split
    numbers, own = np.unique(cluster[train], return_inverse=True)
    drawn = splits.split_clusters(
        own.reshape(-1).astype(np.int64),
        digests[train],
        options.seed,
        has_model=np.isin(numbers, cluster[queries]),
        val_fraction=0.0,
        test_fraction=options.test_fraction,
    )
    held = split.copy()
    held[train] = drawn[own.reshape(-1)]
    return held


def _from_pairs(kind: type[Made], images: Images, pairs: NDArray[np.int64]) -> Made:
    """pairs: [2, K] (query, positive), in the order of the list."""
    count = images.cluster.size
    rows = known_truth.grouped(pairs[0], pairs[1], count)
    held_back = (np.diff(rows.indptr) > 0) & (images.split != splits.TRAIN)
    unlisted = _rest_of_clusters(images.cluster, rows, np.flatnonzero(held_back))
    nothing = Ragged.from_rows([pairs[0, :0]] * count)
    facts = {"source": "a training list of the reference code"}
    return known_truth.assemble(kind, images, rows, nothing, unlisted, facts, teaches=False)


def _rest_of_clusters(cluster: NDArray[np.int64], positives: Ragged, queries: NDArray[np.int64]) -> Ragged:
    """Rows over images, filled for these queries: images of the own cluster that are no listed positive."""
    order = np.argsort(cluster, kind="stable")
    starts = np.searchsorted(cluster[order], cluster)
    ends = np.searchsorted(cluster[order], cluster, side="right")
    rows = [np.empty(0, dtype=np.int64)] * cluster.size
    for query in queries.tolist():
        mates = order[starts[query] : ends[query]]
        rows[query] = np.setdiff1d(mates, [*positives.row(query), query])
    return Ragged.from_rows(rows)


def _writable(training_set: TrainingTables, split: int) -> NDArray[np.int64]:
    """Images of a split that any query of another cluster may have as a negative."""
    images = training_set.images
    mine = np.flatnonzero(images.split == split)
    if training_set.negatives.excluded is not None:
        return mine
    size = np.bincount(images.cluster)
    queries = training_set.queries
    clusters = np.unique(images.cluster[queries.image[queries.split == split]])
    verdicts = training_set.negatives
    yes = verdicts.allowed & np.isin(verdicts.cluster, clusters)
    cleared = np.bincount(verdicts.image[yes], minlength=images.cluster.size)
    return mine[(size[images.cluster[mine]] > 1) | (cleared[mine] == clusters.size)]


def _count_anew(train: list[int], val: list[int]) -> None:
    """Number the clusters of val from 0 where they stand above those of train, as reading puts them."""
    above = 1 + max(train, default=-1)
    if min(val, default=-1) >= above:
        val[:] = [number - above for number in val]


def _columns(training_set: TrainingTables, split: int, images: NDArray[np.int64]) -> dict[str, list[Any]]:
    position = np.full(training_set.images.cluster.size, -1, dtype=np.int64)
    position[images] = np.arange(images.size)
    m3 = training_set.positives.m3
    query = np.repeat(training_set.queries.image, np.diff(m3.indptr))
    mine = np.repeat(training_set.queries.split, np.diff(m3.indptr)) == split
    return {
        "cids": [training_set.images.sha256[image].decode() for image in images.tolist()],
        "cluster": training_set.images.cluster[images].tolist(),
        "qidxs": position[query[mine]].tolist(),
        "pidxs": position[m3.image[mine]].tolist(),
    }
