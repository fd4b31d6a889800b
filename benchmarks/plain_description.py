"""The straightforward way of describing, whitening and mining, for `benchmarks.descriptor_speed`.

One photograph at a time in float32 with an unfolded network; whitening with dense inverses and the general
eigensolver. Written from the definitions; `reproduces_the_oracles` runs the recorded cases first. Mining is
that of `benchmarks.plain_training`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks import plain_training

Rows = NDArray[np.float64]


def whiten(descriptors: Rows, queries: NDArray[np.int64], positives: NDArray[np.int64]) -> tuple[Rows, Rows]:
    """Lw of descriptors [N, D]: mean [D] and projection [D, D], strongest axis first."""
    mean = descriptors[queries].mean(axis=0)
    difference = descriptors[queries] - descriptors[positives]
    inner = np.linalg.inv(np.linalg.cholesky(difference.T @ difference / len(queries)))
    projected = inner @ (descriptors - mean).T
    values, vectors = np.linalg.eig(projected @ projected.T)
    return mean, vectors[:, values.argsort()[::-1]].T @ inner


def reproduces_the_oracles(folder: Path, tiny: Callable[[], nn.Module]) -> None:
    """Describe, whiten and mine the recorded cases; AssertionError where they differ."""
    recorded = np.load(folder / "extract" / "tiny_gem.npz")
    network = tiny()
    network.load_state_dict(
        {n[2:]: torch.from_numpy(recorded[n]) for n in recorded.files if n.startswith("w.")}, strict=False
    )
    for number in range(3):
        photograph = torch.from_numpy(recorded[f"x{number}"])
        found = plain_training.describe(network, lambda image: photograph, [0])  # noqa: B023
        np.testing.assert_allclose(found[0], recorded[f"x{number}_ss"].ravel(), atol=1e-5)
    case = np.load(folder / "whiten" / "d16_n400_f64.npz")
    mean, projection = whiten(case["X"].T, case["qidxs"], case["pidxs"])
    np.testing.assert_allclose(mean, case["lw_m"][:, 0], atol=1e-12)
    signs = np.sign(np.sum(projection * case["lw_P"], axis=1, keepdims=True))
    np.testing.assert_allclose(signs * projection, case["lw_P"], atol=1e-9)
    for path in sorted((folder / "mining").glob("*.npz")):
        each = np.load(path)
        rows, cluster, query, pool = each["vecs"].T, each["cluster"], each["qidxs"], each["drawn_pool"]
        mined = plain_training.mine(rows[query], rows[pool], cluster[query], cluster[pool], int(each["nnum"]))
        assert (pool[mined] == each["nidxs"]).all(), path.name
