"""Training lists in the format of the reference code (cirtorch), which its descendants read too.

A `.pkl` holds {'train': d, 'val': d}, d = {'cids', 'cluster', 'qidxs', 'pidxs'}, lists of str and int;
image `cid` lies at root/cid[-2:]/cid[-4:-2]/cid[-6:-4]/cid. Source: filipradenovic/cnnimageretrieval-
pytorch.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfm.training_set import (
    Candidates,
    Images,
    Negatives,
    Positives,
    Queries,
    Ragged,
    TrainingSet,
    no_benchmark,
)

_SPLITS = ("train", "val")
_COLUMNS = ("cids", "cluster", "qidxs", "pidxs")
_log = logging.getLogger(__name__)


class BadTrainingList(ValueError):
    """A file that is no training list of the reference, or holds more than lists of str and int."""


class NotExpressible(ValueError):
    """A training set that a list of the reference cannot say."""


def image_path(cid: str) -> str:
    """Where the reference looks for an image, below the root of its image tree."""
    return f"{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"


def to_cirtorch(
    training_set: TrainingSet,
    pkl: Path,
    images_dir: Path | str | None = None,
    photo_root: Path | str | None = None,
) -> None:
    """Write the training list and, where both folders are given, the image tree.

    One (query, positive) pair per m3 positive, as the published lists have it. cid = sha256 of the
    photograph. Test is not written. The reference has no verdicts: a photograph without verified pairs is
    only written when every query cluster of its split may have it as a negative. photo_root: where
    `images/name` lie; images_dir: root of the tree (copies). Raises NotExpressible for a training set whose
    queries exclude images of other clusters (`sfm.positions`).
    """
    excluded = training_set.negatives.excluded
    if excluded is not None and excluded.image.size:
        raise NotExpressible(
            f"{excluded.image.size} images of other clusters are excluded as negatives query by query; a "
            "list of the reference knows clusters only and would train on them: train with this package"
        )
    lists, used = {}, []
    for split, name in enumerate(_SPLITS):
        images = _writable(training_set, split)
        used.append(images)
        lists[name] = _columns(training_set, split, images)
    pkl = Path(pkl)
    pkl.parent.mkdir(parents=True, exist_ok=True)
    partial = pkl.with_name(f".{pkl.name}.partial")
    partial.write_bytes(pickle.dumps(lists, protocol=2))
    partial.replace(pkl)
    if images_dir is None or photo_root is None:
        _log.warning("no image tree written: to_cirtorch was not given both images_dir and photo_root")
        return
    for image in np.concatenate(used).tolist():
        source = Path(photo_root) / str(training_set.images.name[image])
        target = Path(images_dir) / image_path(training_set.images.sha256[image].decode())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def from_cirtorch(pkl: Path) -> TrainingSet:
    """Read a training list of the reference; nothing in the file is executed.

    `images/name` is the path in the reference's image tree; its clusters are 3D models, so model = cluster
    (train and val numbered apart). m2 is the first listed positive, m1's pool all of them; what they
    share is unknown: no candidates. There is no benchmark and no verdict. Raises BadTrainingList.
    """
    lists = _load(Path(pkl))
    parts = [_checked(lists, name, Path(pkl)) for name in _SPLITS]
    sizes = [len(part["cids"]) for part in parts]
    cids = [cid for part in parts for cid in part["cids"]]
    if len(set(cids)) != len(cids):
        raise BadTrainingList(f"{pkl}: an image is listed twice; a cid may occur once over train and val")
    first_val = 1 + max(parts[0]["cluster"], default=-1)
    cluster = np.array(parts[0]["cluster"] + [c + first_val for c in parts[1]["cluster"]], dtype=np.int64)
    split = np.repeat(np.arange(2, dtype=np.int8), sizes)
    pairs = [
        np.array([part["qidxs"], part["pidxs"]], dtype=np.int64).reshape(2, -1) + offset
        for part, offset in zip(parts, (0, sizes[0]), strict=True)
    ]
    images = Images(
        np.array([image_path(cid) for cid in cids], dtype=object),
        np.array([_digest(cid) for cid in cids], dtype="S64"),
        cluster,
        cluster.copy(),
        split,
        np.ones(len(cids), dtype=bool),
    )
    return _from_pairs(images, np.concatenate(pairs, axis=1))


def _from_pairs(images: Images, pairs: NDArray[np.int64]) -> TrainingSet:
    """pairs: [2, K] (query, positive), in the order of the list."""
    order = np.argsort(pairs[0], kind="stable")
    query, first, counts = np.unique(pairs[0][order], return_index=True, return_counts=True)
    positive = pairs[1][order]
    listed = Ragged(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), positive)
    nothing, nothing32 = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    candidates = Candidates(np.zeros_like(listed.indptr), nothing, nothing, nothing32, nothing32, nothing)
    return TrainingSet(
        images,
        Queries(query, images.split[query]),
        candidates,
        Positives(listed, positive[first], listed),
        Negatives(nothing, nothing, nothing, np.empty(0, dtype=bool)),
        {"val": no_benchmark(), "test": no_benchmark()},
        {"source": "a training list of the reference code"},
    )


def _writable(training_set: TrainingSet, split: int) -> NDArray[np.int64]:
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


def _columns(training_set: TrainingSet, split: int, images: NDArray[np.int64]) -> dict[str, list[Any]]:
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


class _PlainUnpickler(pickle.Unpickler):
    """Lists, dicts, str, int: no class is ever looked up, so that no code can run."""

    def find_class(self, module: str, name: str) -> Any:
        raise BadTrainingList(
            f"it holds {module}.{name}, not only lists of str and int; refuse it or convert it"
        )


def _load(pkl: Path) -> Any:
    try:
        return _PlainUnpickler(io.BytesIO(pkl.read_bytes()), encoding="utf-8").load()
    except BadTrainingList as error:
        raise BadTrainingList(f"{pkl}: {error}") from error
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
    ) as error:
        raise BadTrainingList(f"{pkl}: no training list of the reference ({error})") from error


def _checked(lists: Any, split: str, pkl: Path) -> dict[str, list[Any]]:
    part = lists.get(split) if isinstance(lists, dict) else None
    if not isinstance(part, dict) or any(not isinstance(part.get(column), list) for column in _COLUMNS):
        raise BadTrainingList(f"{pkl}: {split!r} must hold the lists {', '.join(_COLUMNS)}")
    kinds = {"cids": str, "cluster": int, "qidxs": int, "pidxs": int}
    for column, kind in kinds.items():
        wrong = [value for value in part[column] if type(value) is not kind]
        if wrong:
            raise BadTrainingList(f"{pkl}: {split}/{column} holds {wrong[0]!r}, not {kind.__name__}")
    count = len(part["cids"])
    if len(part["cluster"]) != count or len(part["qidxs"]) != len(part["pidxs"]):
        raise BadTrainingList(
            f"{pkl}: {split} has {count} cids, {len(part['cluster'])} clusters, "
            f"{len(part['qidxs'])} queries, {len(part['pidxs'])} positives"
        )
    outside = [index for index in part["qidxs"] + part["pidxs"] if not 0 <= index < count]
    if outside:
        raise BadTrainingList(f"{pkl}: {split} points to image {outside[0]}, it lists {count}")
    return part


def _digest(cid: str) -> str:
    """The cid where it is a sha256 (our own lists), else the digest of the name.

    The file's content is not known.
    """
    plain = len(cid) == 64 and all(letter in "0123456789abcdef" for letter in cid)
    return cid if plain else hashlib.sha256(cid.encode()).hexdigest()
