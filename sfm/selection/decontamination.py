"""Decontamination: what a benchmark shows must not be trained on.

The published training lists left out, by hand, the landmarks of the test sets. Here every image of a
benchmark is matched to the training photographs that look most like it; a cluster with a verified pair is
dropped, with the pair as evidence. Test is not looked at: nothing is trained or chosen on it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.pairing.proposal import Proposal, write_pairs
from sfm.training_set.known_truth import NothingToTrainOn, counts
from sfm.training_set.splits import TEST, TRAIN
from sfm.training_set.subset import without_clusters
from sfm.training_set.training_set import TrainingSet
from storage.keys.options import ContentPath, Options
from storage.keys.stages import Stage
from storage.schemas.training_set import Dropped

if TYPE_CHECKING:
    from sfm.matching.match import Attempts

_PACKAGES = ("numpy", "scipy", "h5py")
PAIRS_STAGE = Stage(
    name="benchmark_pairs", version=1, schema_name="pairs", suffix=".h5", packages=_PACKAGES, code=__name__
)
STAGE = Stage(
    name="decontaminated_set",
    version=1,
    schema_name="training_set",
    suffix=".h5",
    packages=_PACKAGES,
    code=__name__,
)
SAME_FILE = -1
_BLOCK_ROWS = 1024
_log = logging.getLogger(__name__)


class BadBenchmark(ValueError):
    """Images of a benchmark, or their descriptors, that cannot be used."""


class DecontaminationOptions(Options):
    """Which benchmark must not be trained on, and how it is looked for."""

    benchmark: ContentPath | None = Field(
        None, description="folder of a benchmark's images; clusters that show the same are dropped"
    )
    benchmark_neighbours: int = Field(
        20, ge=1, description="nearest training photographs that each image of the benchmark is matched to"
    )
    benchmark_inliers: int = Field(
        15, ge=8, description="inliers with an image of the benchmark from which a cluster is dropped"
    )


@dataclass(frozen=True, eq=False)
class BenchmarkImages:
    """A benchmark's images [B]: sha256, sorted; names below its folder; descriptors [B, D] L2-normalised."""

    sha256: Sequence[str]
    name: Sequence[str]
    descriptors: NDArray[np.float32]


def propose_benchmark_pairs(
    chosen: TrainingSet,
    descriptors: NDArray[np.float32],
    benchmark: BenchmarkImages,
    options: DecontaminationOptions,
    out: Path,
    *,
    inputs: Sequence[str] = (),
) -> int:
    """Write the pairs to match (schema pairs): every image of the benchmark with its nearest photographs of
    train and val; their number.

    descriptors: [N, D] L2-normalised, aligned with the images of the training set. Ties go to the smaller
    sha256. A photograph that is the image itself is no pair. Raises BadBenchmark.
    """
    _check(chosen, descriptors, benchmark)
    shas = chosen.images.sha256.astype(str)
    searched = np.flatnonzero(chosen.images.split != TEST)
    searched = searched[np.argsort(shas[searched])]
    everything = sorted({*benchmark.sha256, *shas[searched].tolist()})
    position = {sha: place for place, sha in enumerate(everything)}
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(benchmark.sha256), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        similarity = np.round(benchmark.descriptors[block] @ descriptors[searched].T, 5)
        near = np.argsort(-similarity, axis=1, kind="stable")[:, : options.benchmark_neighbours]
        for sha, row in zip(benchmark.sha256[block], near, strict=True):
            ends = [
                (position[sha], position[other]) for other in shas[searched[row]].tolist() if other != sha
            ]
            pairs |= {(min(pair), max(pair)) for pair in ends}
    table = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    proposal = Proposal(table[:, 0], table[:, 1], ["benchmark"] * len(table))
    described = options.model_dump(mode="json")
    write_pairs(out, everything, proposal, PAIRS_STAGE.name, described, inputs)
    return len(table)


def decontaminate(
    chosen: TrainingSet,
    descriptors: NDArray[np.float32],
    benchmark: BenchmarkImages,
    matched: Attempts,
    options: DecontaminationOptions,
) -> TrainingSet:
    """The training set without the clusters of train and val that show what the benchmark shows.

    matched: the proposed pairs with their raw inliers. Each dropped cluster is a row of `dropped`, with its
    strongest pair: the same file, then most inliers, then the higher similarity. Raises BadBenchmark,
    NothingToTrainOn.
    """
    _check(chosen, descriptors, benchmark)
    image, other, inliers = _evidence(chosen, benchmark, matched, options.benchmark_inliers)
    similarity = np.einsum("kd,kd->k", descriptors[image], benchmark.descriptors[other]).astype(np.float32)
    cluster = chosen.images.cluster[image]
    strength = np.where(inliers == SAME_FILE, np.iinfo(np.int64).max, inliers)
    order = np.lexsort((other, image, -similarity, -strength, cluster))
    found, first = np.unique(cluster[order], return_index=True)
    best = order[first]
    dropped = Dropped(
        found,
        np.bincount(chosen.images.cluster, minlength=1)[found],
        chosen.images.split[image[best]],
        np.array([benchmark.name[each] for each in other[best].tolist()], dtype=object),
        chosen.images.name[image[best]],
        inliers[best],
        similarity[best],
    )
    rest = without_clusters(chosen, found)
    if not np.any(rest.queries.split == TRAIN):
        raise NothingToTrainOn(
            f"the benchmark shows what all train queries show ({found.size} clusters dropped); raise "
            "selection.decontamination.benchmark_inliers or add photographs of other places"
        )
    _log.info("%d clusters show what the benchmark shows and are dropped", found.size)
    return replace(rest, dropped=dropped, summary=_summary(rest, dropped))


def _check(chosen: TrainingSet, descriptors: NDArray[np.float32], benchmark: BenchmarkImages) -> None:
    if not len(benchmark.sha256):
        raise BadBenchmark("the benchmark's folder holds no image that can be read; give its images")
    if list(benchmark.sha256) != sorted(set(benchmark.sha256)):
        raise BadBenchmark("images of a benchmark must be sorted by sha256, each once")
    wanted = (chosen.images.cluster.size, len(benchmark.sha256))
    if (len(descriptors), len(benchmark.descriptors)) != wanted or len(benchmark.name) != wanted[1]:
        raise BadBenchmark(
            f"{len(descriptors)} and {len(benchmark.descriptors)} descriptors for {wanted[0]} photographs "
            f"and {wanted[1]} images of the benchmark; give one row for each"
        )


def _evidence(
    chosen: TrainingSet, benchmark: BenchmarkImages, matched: Attempts, least: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(image, image of the benchmark, inliers) of every verified pair, and of every file in both [K]."""
    searched = np.flatnonzero(chosen.images.split != TEST)
    image_of = dict(zip(chosen.images.sha256[searched].astype(str).tolist(), searched.tolist(), strict=True))
    place_of = {sha: place for place, sha in enumerate(benchmark.sha256)}
    rows = [(image_of[sha], place, SAME_FILE) for sha, place in place_of.items() if sha in image_of]
    for (first, second), inliers in zip(matched[0], matched[1].tolist(), strict=True):
        if inliers >= least:
            for sha, benchmark_sha in ((first, second), (second, first)):
                if sha in image_of and benchmark_sha in place_of:
                    rows.append((image_of[sha], place_of[benchmark_sha], inliers))
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _summary(rest: TrainingSet, dropped: Dropped) -> Mapping[str, Any]:
    left = counts(rest.images, rest.queries.image)
    gone = {"clusters": int(dropped.cluster.size), "photographs": int(dropped.photographs.sum())}
    return {**rest.summary, "queries": left["queries"], "clusters": left["clusters"], "dropped": gone}
