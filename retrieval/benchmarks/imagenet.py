"""ImageNet-1K by weighted k nearest neighbours on frozen descriptors (DINO's `knn_classifier`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retrieval.nearest.exact import search

QUERIES_PER_BLOCK = 1024


def knn_accuracy(
    train_features: NDArray[np.float32],
    train_labels: ArrayLike,
    test_features: NDArray[np.float32],
    test_labels: ArrayLike,
    ks: Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
) -> dict[int, tuple[float, float]]:
    """{k: (top-1, top-5)} in %; each neighbour votes for its class with weight exp(similarity / temperature).

    train_features [N, D], test_features [M, D]: unit rows; labels: [N], [M] int from 0. One search for the
    largest k serves all. With k < 5 the second number is top-k. Peak memory: QUERIES_PER_BLOCK x classes.
    Raises ValueError.
    """
    labels, wanted = _classes(train_labels), _classes(test_labels)
    if labels.shape != (len(train_features),) or wanted.shape != (len(test_features),) or not len(wanted):
        raise ValueError(
            f"{labels.shape}, {wanted.shape} labels for {len(train_features)}, {len(test_features)} rows"
        )
    if min(labels.min(initial=0), wanted.min()) < 0 or not ks or temperature <= 0:
        raise ValueError("labels are integers from 0, ks is not empty, the temperature is positive")
    num_classes = int(max(labels.max(), wanted.max())) + 1
    correct = {k: np.zeros(2) for k in ks}
    for start in range(0, len(wanted), QUERIES_PER_BLOCK):
        rows = slice(start, start + QUERIES_PER_BLOCK)
        similarity, neighbours = search(train_features, test_features[rows], max(ks))
        places = vote_places(neighbours, similarity, labels, wanted[rows], ks, temperature, num_classes)
        for k, place in places.items():
            correct[k] += ((place < 1).sum(), (place < min(5, k)).sum())
    return {
        k: (100.0 * float(first) / len(wanted), 100.0 * float(fifth) / len(wanted))
        for k, (first, fifth) in correct.items()
    }


def _classes(labels: ArrayLike) -> NDArray[np.int64]:
    given = np.asarray(labels)
    if given.size and given.dtype.kind not in "iu":
        raise ValueError(f"labels are {given.dtype}; labels are integers from 0")
    return given.astype(np.int64)


def vote_places(
    neighbours: NDArray[np.int64],
    similarity: NDArray[np.float32],
    train_labels: NDArray[np.int64],
    test_labels: NDArray[np.int64],
    ks: Sequence[int],
    temperature: float = 0.07,
    num_classes: int | None = None,
) -> dict[int, NDArray[np.int64]]:
    """{k: [M] 0-based place of the true class by the votes of the first k neighbours}.

    neighbours, similarity: [M, K] of the test rows, best first, K at least the largest k; labels: int from 0;
    num_classes: None: as many as the labels say.
    """
    num_classes = num_classes or int(max(train_labels.max(), test_labels.max())) + 1
    places: dict[int, list[NDArray[np.int64]]] = {k: [] for k in ks}
    for start in range(0, len(test_labels), QUERIES_PER_BLOCK):
        rows = slice(start, start + QUERIES_PER_BLOCK)
        weight = np.exp(similarity[rows] / np.float32(temperature))
        for k, found in places.items():
            votes = _votes(train_labels[neighbours[rows, :k]], weight[:, :k], num_classes)
            found.append(_place(votes, test_labels[rows]))
    return {k: np.concatenate(found) for k, found in places.items()}


def _votes(labels: NDArray[np.int64], weights: NDArray[np.float32], num_classes: int) -> NDArray[np.float64]:
    """Summed weights: [M, k] labels and weights -> [M, classes]."""
    cells = labels + num_classes * np.arange(len(labels))[:, None]
    votes = np.bincount(cells.ravel(), weights.ravel().astype(np.float64), len(labels) * num_classes)
    return np.asarray(votes, dtype=np.float64).reshape(len(labels), num_classes)


def _place(votes: NDArray[np.float64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """[M] 0-based place of the true class by decreasing votes, in the order of torch's own sort.

    Fewer than five classes may have votes at all, and then top-5 depends on how the sort orders the others:
    the official code leaves that to torch, so this does too.
    """
    import torch

    order = torch.from_numpy(votes.astype(np.float32)).sort(1, True)[1].numpy()
    return np.asarray((order == wanted[:, None]).argmax(axis=1))
