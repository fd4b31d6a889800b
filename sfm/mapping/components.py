"""Connected components of a graph of photographs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Indices = NDArray[np.int64]


def symmetric(edges: Indices, count: int) -> csr_array:
    """[count, count] int32 how many of the edges [K, 2] join two nodes, either way round."""
    ends = np.concatenate([edges, edges[:, ::-1]])
    return csr_array((np.ones(len(ends), np.int32), (ends[:, 0], ends[:, 1])), shape=(count, count))


def component_labels(edges: Indices, count: int) -> Indices:
    """Connected component of each of `count` nodes: edges [K, 2] -> [count], by their smallest node."""
    graph = csr_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    raw = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(raw, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)
