"""Make `sfm/codebook.npy`: the words of `sfm/pairing/aggregation.py`, from photographs of a rendered town.

    python -m benchmarks.codebook OUT.npy

The town shares no building and no texture with that of the demo; no real photograph is needed, so the words
belong to no collection. k-means of square-rooted SIFT descriptors; the same on every run on one machine.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import faiss
import numpy as np

from sfm.features.sift import FeatureOptions, extract_features
from sfm.pairing.aggregation import largest_descriptors, root
from sfm.photographs.outcome import read_outcomes
from sfm.photographs.working import WorkingOptions, make_working_copies
from storage.files.digests import file_sha256
from town.town import TownOptions, render_town

WORDS = 64
TOWN = TownOptions(seed=100)
FEATURES = 500
SAMPLE = 200_000


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = _town_descriptors(Path(folder))
    order = np.random.default_rng(0).permutation(len(rows))[:SAMPLE]
    faiss.omp_set_num_threads(1)
    kmeans = faiss.Kmeans(128, WORDS, niter=25, seed=0, max_points_per_centroid=SAMPLE)
    kmeans.train(rows[np.sort(order)])
    assert kmeans.centroids is not None
    np.save(out, kmeans.centroids.astype(np.float16))
    print(f"{len(order)} descriptors, sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


def _town_descriptors(folder: Path) -> np.ndarray:
    render_town(folder / "photos", TOWN)
    photos = sorted((folder / "photos").rglob("*.jpg"))
    shas = {path: file_sha256(path) for path in photos}
    working = folder / "working"
    make_working_copies([(sha, path) for path, sha in shas.items()], WorkingOptions(), working)
    outcomes = read_outcomes({working})
    wanted = [(sha, working, outcomes[sha]) for sha in sorted(shas.values())]
    extract_features(wanted, FeatureOptions(), folder / "features.h5")
    found = dict(largest_descriptors(dict.fromkeys(shas.values(), folder / "features.h5"), FEATURES))
    return np.concatenate([root(found[sha]) for sha in sorted(found)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
