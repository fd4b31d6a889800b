"""A training list of the reference code (cirtorch), read without executing anything.

Format: see `sfm.training_set.cirtorch`.
"""

from __future__ import annotations

import hashlib
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.files.digests import is_digest
from storage.files.errors import ArtifactError
from storage.outside.guarded import read_pickle
from storage.outside.pickles import BadPickle

SPLITS = ("train", "val")
COLUMNS = ("cids", "cluster", "qidxs", "pidxs")
_LARGEST = 2**31


class BadTrainingList(ValueError):
    """A file that is no training list of the reference, or holds more than lists of str and int."""


@dataclass(frozen=True, eq=False)
class CirtorchList:
    """train and val of a list, one after the other: names and known digests of N images, K pairs.

    cluster: [N], those of val numbered above those of train; split: [N] 0 train, 1 val; pairs: [2, K]
    (query, positive), in the order of the list.
    """

    cids: list[str]
    cluster: NDArray[np.int64]
    split: NDArray[np.int8]
    pairs: NDArray[np.int64]

    @property
    def names(self) -> list[str]:
        """[N] paths in the image tree."""
        return [image_path(cid) for cid in self.cids]

    @property
    def sha256(self) -> list[str]:
        """[N] digests of the photographs where the list knows them (our own lists), else empty."""
        return [cid if is_digest(cid) else "" for cid in self.cids]


def image_path(cid: str) -> str:
    """Where the reference looks for an image, below the root of its image tree."""
    return f"{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"


def digest_of(cid: str) -> str:
    """The cid where it is a sha256, else the digest of the name: the file's content is not known."""
    return cid if is_digest(cid) else hashlib.sha256(cid.encode()).hexdigest()


def read_cirtorch(pkl: Path) -> CirtorchList:
    """A list, checked. Raises BadTrainingList."""
    lists = _load(pkl)
    parts = [_checked(lists, name, pkl) for name in SPLITS]
    sizes = [len(part["cids"]) for part in parts]
    cids = [cid for part in parts for cid in part["cids"]]
    if len(set(cids)) != len(cids):
        raise BadTrainingList(f"{pkl}: an image is listed twice; a cid may occur once over train and val")
    first_val = 1 + max(parts[0]["cluster"], default=-1)
    pairs = [
        np.array([part["qidxs"], part["pidxs"]], dtype=np.int64).reshape(2, -1) + offset
        for part, offset in zip(parts, (0, sizes[0]), strict=True)
    ]
    return CirtorchList(
        cids,
        np.array(parts[0]["cluster"] + [c + first_val for c in parts[1]["cluster"]], dtype=np.int64),
        np.repeat(np.arange(2, dtype=np.int8), sizes),
        np.concatenate(pairs, axis=1),
    )


def _load(pkl: Path) -> Any:
    try:
        return read_pickle(pkl)
    except OSError as error:
        raise BadTrainingList(f"{pkl}: cannot be read ({error.strerror}); give a .pkl file") from error
    except (BadPickle, ArtifactError) as error:
        raise BadTrainingList(f"{error}; expected a training list of the reference") from error


def _checked(lists: Any, split: str, pkl: Path) -> dict[str, list[Any]]:
    given = lists.get(split) if isinstance(lists, dict) else None
    part: dict[str, list[Any]] = {}
    for column in COLUMNS:
        values = _plain_list(given.get(column)) if isinstance(given, dict) else None
        if values is None:
            raise BadTrainingList(f"{pkl}: {split!r} must hold the lists {', '.join(COLUMNS)}")
        part[column] = values
    kinds = {"cids": str, "cluster": int, "qidxs": int, "pidxs": int}
    for column, kind in kinds.items():
        wrong = [value for value in part[column] if type(value) is not kind]
        if wrong:
            shown = reprlib.repr(wrong[0])
            raise BadTrainingList(f"{pkl}: {split}/{column} holds {shown}, not {kind.__name__}")
    count = len(part["cids"])
    if len(part["cluster"]) != count or len(part["qidxs"]) != len(part["pidxs"]):
        raise BadTrainingList(
            f"{pkl}: {split} has {count} cids, {len(part['cluster'])} clusters, "
            f"{len(part['qidxs'])} queries, {len(part['pidxs'])} positives"
        )
    outside = [index for index in part["qidxs"] + part["pidxs"] if not 0 <= index < count]
    if outside:
        raise BadTrainingList(f"{pkl}: {split} points to image {outside[0]}, it lists {count}")
    _check_values(part, f"{pkl}: {split}")
    return part


def _plain_list(values: Any) -> list[Any] | None:
    """A column as a list: of a list, a tuple or an array [n]; None for anything else."""
    if isinstance(values, np.ndarray):
        return values.tolist() if values.ndim == 1 else None
    return list(values) if isinstance(values, list | tuple) else None


def _check_values(part: dict[str, list[Any]], where: str) -> None:
    """Names that can be those of files, clusters that can be numbers of clusters, pairs that teach."""
    for cid in part["cids"]:
        if not cid or "\0" in cid or any("\ud800" <= letter <= "\udfff" for letter in cid):
            raise BadTrainingList(f"{where}/cids holds {reprlib.repr(cid)}, which is the name of no image")
    for number in part["cluster"]:
        if not 0 <= number < _LARGEST:
            raise BadTrainingList(f"{where}/cluster holds {number}; clusters are numbered from 0")
    for query, positive in zip(part["qidxs"], part["pidxs"], strict=True):
        if query == positive:
            raise BadTrainingList(f"{where}: image {query} is its own positive; leave the pair out")
        if part["cluster"][query] != part["cluster"][positive]:
            raise BadTrainingList(
                f"{where}: image {positive} is a positive of image {query} and of another cluster, so a "
                "negative of it too; give both one cluster or leave the pair out"
            )
