"""Neighbours by local features: each photograph's SIFT descriptors aggregated into one vector (VLAD).

The words are fixed (`codebook.npy`, made by `benchmarks/codebook.py` from a rendered town), so that a
photograph's vector depends on itself alone: a collection that grows keeps its neighbours but for the new
ones. Jegou, Douze, Schmid, Perez, Aggregating local descriptors into a compact image representation, CVPR
2010; square-rooted SIFT and residuals normalised per word as in Arandjelovic and Zisserman, All about VLAD,
CVPR 2013.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.features.database import by_file
from storage.hdf5.open import Artifact, open_artifact
from storage.keys.options import Options

logger = logging.getLogger(__name__)

CODEBOOK_SHA256 = "c0c5eb5416aca1e49f7b8af7f5bb8802ca5081445a9b73995f28b725166d8c04"
"""Of codebook.npy; the words are part of this module's code."""

_SIFT_VALUES = 128
Descriptors = NDArray[np.uint8]


class AggregationOptions(Options):
    """Neighbours by aggregated local features."""

    neighbours: int = Field(
        5, ge=0, description="nearest photographs by local features, per photograph; 0 = do not use"
    )
    features: int = Field(500, ge=16, description="features per photograph that count, the largest ones")


class DamagedCodebook(RuntimeError):
    """codebook.npy is not the one that belongs to this code."""


def aggregated(
    shas: Sequence[str], features: Mapping[str, Path], options: AggregationOptions
) -> NDArray[np.float32]:
    """[N, words * 128] float32, a unit vector per photograph; 0 for one without SIFT features.

    shas: N sha256; features: sha256 -> features file. Memory: 32 kB per photograph, its
    descriptors one photograph at a time. Raises DamagedCodebook.
    """
    started = time.monotonic()
    words = codebook()
    vectors = np.zeros((len(shas), words.size), np.float32)
    row_of = {sha: row for row, sha in enumerate(shas)}
    for sha, descriptors in largest_descriptors({sha: features[sha] for sha in shas}, options.features):
        if len(descriptors):
            vectors[row_of[sha]] = vlad(root(descriptors), words)
    logger.info("%d photographs aggregated in %.1f s", len(shas), time.monotonic() - started)
    return vectors


def vlad(rows: NDArray[np.float32], words: NDArray[np.float32]) -> NDArray[np.float32]:
    """Residuals of descriptors [n, D] to their nearest words [K, D], summed per word, each word's sum of unit
    length -> [K * D], of unit length; 0 for none."""
    nearest = np.argmax(rows @ words.T - (words**2).sum(axis=1) / 2, axis=1)
    sums: NDArray[np.float32] = np.zeros(words.shape, np.float32)
    np.add.at(sums, nearest, rows - words[nearest])
    lengths: NDArray[np.float32] = np.sqrt((sums**2).sum(axis=1, keepdims=True))
    unit = sums / np.where(lengths > 0, lengths, 1)
    vector = unit.reshape(-1) / math.sqrt(max(1, int((lengths > 0).sum())))
    return vector.astype(np.float32)


def root(descriptors: Descriptors) -> NDArray[np.float32]:
    """SIFT [n, 128] as unit vectors whose dot product is the Hellinger kernel."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1))


def largest_descriptors(features: Mapping[str, Path], count: int) -> Iterator[tuple[str, Descriptors]]:
    """(sha256, its SIFT descriptors [n, 128] of the `count` largest scales, largest first), file by file.

    Photographs whose descriptors are no SIFT are left out.
    """
    for file, members in by_file(features):
        with open_artifact(file, "features") as artifact:
            for sha in members:
                values = artifact[f"{sha}/descriptors"]
                if values.dtype == np.uint8 and values.shape[0] == _SIFT_VALUES:
                    yield sha, values.T[_largest(artifact, sha, count)]


def _largest(artifact: Artifact, sha: str, count: int) -> NDArray[np.int64]:
    """Positions of the features of the largest scales, largest first; the first ones without scales."""
    if f"{sha}/scales" not in artifact:
        return np.arange(min(count, artifact.dataset(f"{sha}/keypoints").shape[0]))
    return np.argsort(-artifact[f"{sha}/scales"], kind="stable")[:count]


@cache
def codebook() -> NDArray[np.float32]:
    """The words [64, 128]. Raises DamagedCodebook."""
    path = Path(__file__).with_name("codebook.npy")
    content = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != CODEBOOK_SHA256:
        raise DamagedCodebook(
            f"{path.name} beside sfm/pairing/aggregation.py is missing or altered; install again"
        )
    words: NDArray[np.float32] = np.load(io.BytesIO(content), allow_pickle=False).astype(np.float32)
    return words
