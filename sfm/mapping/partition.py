"""Parts of a cluster that is too large to be mapped in one go: cut where it hangs together least.

Each cut takes away the fewest inliers per photograph of the smaller side, among the cuts along the second
eigenvector of the graph (Shi, Malik: Normalized Cuts and Image Segmentation, PAMI 2000). Fixed start vector,
sign and ties: the same graph gives the same parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

Indices = NDArray[np.int64]
_SMALLEST_SHARE = 0.1
_DIGITS = 6  # entries of the eigenvector that agree to so many are equal; rounding decides nothing


def split(edges: Indices, weights: Indices, count: int, largest: int) -> list[Indices]:
    """Connected parts of a connected graph of `count` nodes, none over `largest`, by their smallest node.

    edges: [K, 2], weights: [K] positive; a part holds its nodes in rising order. Recursive: a part that is
    still too large is cut again. Memory: a few floats per node and edge.
    """
    whole = csr_array((weights.astype(np.float64), (edges[:, 0], edges[:, 1])), shape=(count, count))
    whole = csr_array(whole + whole.T)
    waiting, parts = [np.arange(count)], []
    while waiting:
        nodes = waiting.pop()
        if nodes.size <= largest:
            parts.append(nodes)
            continue
        graph = csr_array(whole[nodes][:, nodes])
        side = bisect(graph)
        waiting += [nodes[side], nodes[~side]]
    return sorted(parts, key=lambda part: int(part[0]))


def bisect(graph: csr_array) -> NDArray[np.bool_]:
    """[N] one of the two connected sides of a connected graph, at its weakest cut.

    graph: [N, N] symmetric, N at least 2; entries are what holds two nodes together. Each side has at least a
    tenth of the nodes before what would lie there unconnected has joined the other.
    """
    order = np.lexsort((np.arange(graph.shape[0]), np.round(_along(graph), _DIGITS)))
    side = np.zeros(graph.shape[0], dtype=bool)
    side[order[: _weakest(graph, order)]] = True
    side = _largest_piece(graph, side)
    return ~_largest_piece(graph, ~side)


def _weakest(graph: csr_array, order: Indices) -> int:
    """How many nodes of an order stand before its weakest cut, per node of the smaller side."""
    count = order.size
    rank = np.argsort(order)
    pairs = graph.tocoo()
    low, high = rank[pairs.row], rank[pairs.col]
    once = low < high
    change = np.bincount(low[once] + 1, pairs.data[once], count + 1)
    change -= np.bincount(high[once] + 1, pairs.data[once], count + 1)
    before = np.arange(count + 1)
    smaller = np.minimum(before, count - before)
    cost = np.full(count + 1, np.inf)
    allowed = smaller >= max(1, int(_SMALLEST_SHARE * count))
    cost[allowed] = np.cumsum(change)[allowed] / smaller[allowed]
    return int(np.argmin(cost))


def _along(graph: csr_array) -> NDArray[np.float64]:
    """[N] position of each node along the graph's longest way: the second eigenvector, largest entry 1."""
    count = graph.shape[0]
    if count < 3:
        return np.arange(count, dtype=np.float64)
    degree = np.asarray(graph.sum(axis=1), dtype=np.float64).reshape(-1)
    scale = diags_array(1.0 / np.sqrt(degree))
    normalised = scale @ graph @ scale
    top = np.sqrt(degree / degree.sum())
    rest = LinearOperator(
        graph.shape, matvec=lambda x: normalised @ x - top * (top @ x.reshape(-1)), dtype=np.float64
    )
    start = np.sin(np.arange(1.0, count + 1.0))
    try:
        vector = eigsh(rest, k=1, which="LA", v0=start, tol=1e-9)[1][:, 0] / np.sqrt(degree)
    except ArpackNoConvergence:
        return _by_steps(graph)
    vector = vector / np.abs(vector).max()
    first = vector[np.abs(vector) > 10.0**-_DIGITS][0]
    return vector * -np.sign(first)


def _by_steps(graph: csr_array) -> NDArray[np.float64]:
    """[N] place of each node on a walk, nearest first, from a node that is farthest from the first."""
    far = breadth_first_order(graph, 0, directed=False, return_predecessors=False)[-1]
    order = breadth_first_order(graph, far, directed=False, return_predecessors=False)
    place = np.empty(graph.shape[0])
    place[order] = np.arange(graph.shape[0])
    return place


def _largest_piece(graph: csr_array, side: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[N] the largest connected piece of a side, the one with the first node of equals."""
    nodes = np.flatnonzero(side)
    piece = connected_components(graph[nodes][:, nodes], directed=False)[1]
    kept = np.zeros_like(side)
    kept[nodes[piece == np.argmax(np.bincount(piece))]] = True
    return kept
