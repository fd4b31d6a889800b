"""Neighbours by local features: COLMAP's vocabulary tree, trained on the collection, in a child process."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.features.database import write_features
from storage.children.patience import run_patiently
from storage.keys.options import Options, Resources

logger = logging.getLogger(__name__)

_TRAINING_FEATURES_PER_WORD = 30
_CHECKS = 64


class VocabularyOptions(Options):
    """Neighbours by words of local features."""

    neighbours: int = Field(20, ge=0, description="nearest photographs by local features, per photograph")
    words: int = Field(
        1024, ge=16, description="visual words at most; a collection with few features gets fewer"
    )
    features: int = Field(
        500, ge=16, description="features per photograph that are looked up, the largest ones"
    )


class VocabularyResources(Resources):
    """What the vocabulary tree may use; always one thread, because its answers depend on the number."""

    time_limit_s: float = Field(3600.0, gt=0, description="fails when it takes longer, seconds")


def vocabulary_neighbours(
    shas: Sequence[str],
    features: Mapping[str, Path],
    options: VocabularyOptions,
    resources: VocabularyResources | None = None,
) -> NDArray[np.int64]:
    """The nearest other photographs by local features, best first.

    shas: N sorted sha256; features: sha256 -> features file. -> [N, options.neighbours] positions, -1 = none.
    Raises ChildFailed.
    """
    resources = resources or VocabularyResources()
    started = time.monotonic()
    files = {sha: str(features[sha]) for sha in shas}
    label = f"vocabulary tree of {len(shas)} photographs"
    nearest: list[list[int]] = run_patiently(
        "sfm.pairing.vocabulary:_lookup", files, options, label=label, total_limit_s=resources.time_limit_s
    )
    found = np.full((len(shas), options.neighbours), -1, np.int64)
    for row, neighbours in enumerate(nearest):
        found[row, : len(neighbours)] = neighbours
    logger.info("vocabulary tree over %d photographs in %.1f s", len(shas), time.monotonic() - started)
    return found


def _lookup(features: dict[str, str], options: VocabularyOptions, scratch: Path) -> list[list[int]]:
    """The child's work: the largest features into a database, train on a sample, ask for every photograph."""
    database = scratch / "features.db"
    identifiers = write_features(database, features, with_descriptors=True, largest=options.features)
    sample = _training_sample(database, options.words * _TRAINING_FEATURES_PER_WORD)
    words = min(options.words, len(sample) // _TRAINING_FEATURES_PER_WORD)
    if words < 2:
        return [[] for _ in identifiers]
    tree = scratch / "tree.bin"
    _train(sample, words).write(tree)
    return _ask(database, tree, identifiers, options.neighbours)


def _training_sample(database: Path, count: int) -> NDArray[np.uint8]:
    """About `count` descriptors [n, 128], equally many of every photograph."""
    import pycolmap

    rows = []
    with pycolmap.Database.open(database) as opened:
        images = sorted(image.image_id for image in opened.read_all_images())
        each = max(1, -(-count // max(len(images), 1)))
        for image in images:
            descriptors = np.asarray(opened.read_descriptors(image).data, np.uint8)
            order = np.random.default_rng(image).permutation(len(descriptors))[:each]
            rows.append(descriptors[np.sort(order)])
    return np.concatenate([np.empty((0, 128), np.uint8), *rows])


def _train(sample: NDArray[np.uint8], words: int) -> Any:
    import pycolmap

    build = pycolmap.VisualIndex.BuildOptions()
    build.num_visual_words = words
    build.num_iterations = 5
    build.num_rounds = 1
    build.num_checks = _CHECKS
    build.num_threads = 1
    index = pycolmap.VisualIndex.create(128, 64)
    index.build(build, pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, sample).to_float())
    return index


def _ask(database: Path, tree: Path, identifiers: Mapping[str, int], count: int) -> list[list[int]]:
    """Positions of the nearest other photographs, by photograph in sorted order, best first."""
    import pycolmap

    options = pycolmap.VocabTreePairingOptions()
    options.vocab_tree_path = tree
    options.num_images = count + 1  # the photograph itself is the first that is found
    options.num_nearest_neighbors = 1
    options.num_checks = _CHECKS
    options.num_threads = 1
    found: dict[int, list[int]] = {identifier: [] for identifier in identifiers.values()}
    with pycolmap.Database.open(database) as opened:
        for first, second in pycolmap.VocabTreePairGenerator(options, opened).all_pairs():
            if first != second and len(found[first]) < count:
                found[first].append(second - 1)
    return [found[identifiers[sha]] for sha in sorted(identifiers)]
