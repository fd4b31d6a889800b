"""False bridges: one pair of photographs that alone joins two groups must be surer than any other pair.

A pair is a bridge where removing it would leave two groups with no verified pair between them. Wrong pairs
that reach the threshold by chance stand alone, true ones seldom do: so a bridge between two groups that could
each be a place is kept only with more inliers, or where a third photograph agrees. A photograph or two that
hang on one pair are left where they are: losing them costs more than they can do wrong.
"""

from __future__ import annotations

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sfm.mapping.components import component_labels, symmetric

Indices = NDArray[np.int64]


def bridges(edges: Indices, count: int, among: NDArray[np.bool_] | None = None) -> Indices:
    """[B] positions of the edges [K, 2] whose removal parts their ends, in order.

    among: [K] the edges that are asked about, all by default; the others only join. A repeated edge is none.
    """
    asked = np.arange(len(edges)) if among is None else np.flatnonzero(among)
    groups, rows, position = _contracted(edges, count, asked)
    graph = nx.Graph(list(map(tuple, groups.tolist())))
    at = {tuple(pair): place for pair, place in zip(groups.tolist(), position.tolist(), strict=True)}
    found = [at[min(a, b), max(a, b)] for a, b in nx.bridges(graph)]
    return np.array(sorted(place for place in found if rows[place] == 1), np.int64)


def weak_bridges(
    edges: Indices,
    inliers: Indices,
    tried: Indices,
    tried_inliers: Indices,
    count: int,
    *,
    enough: int,
    third: int,
    least: int,
) -> Indices:
    """[B] positions of the edges that do not suffice to join what they join, in order.

    edges: [K, 2] verified pairs of `count` photographs, inliers: [K]; tried: [A, 2] every pair matched, with
    its raw inliers [A]. A bridge goes if it has fewer than `enough` inliers, if no third photograph that is
    verified with one of its ends has `third` raw inliers with the other, and if it joins two groups of
    `least` photographs or more. The weakest goes first, the earliest of equals; those left are judged by
    what then hangs together, so that no group under `least` photographs is cut off.
    """
    weak = bridges(edges, count, inliers < enough)
    joined, near = symmetric(edges, count), symmetric(tried[tried_inliers >= third], count)
    alone = [place for place in weak.tolist() if not _third_agrees(edges[place].tolist(), joined, near)]
    return _cut(edges, inliers, count, np.array(alone, np.int64), least)


def _contracted(edges: Indices, count: int, asked: Indices) -> tuple[Indices, dict[int, int], Indices]:
    """The graph in which all that is joined by edges not asked about is one node; it has the same bridges.

    -> [G, 2] its edges, position of an edge -> how many run beside it, [G] the first position of each.
    """
    others = np.delete(edges, asked, axis=0)
    ends = np.sort(component_labels(others, count)[edges[asked]], axis=1)
    between = asked[ends[:, 0] != ends[:, 1]]
    groups, first, times = np.unique(
        ends[ends[:, 0] != ends[:, 1]], axis=0, return_index=True, return_counts=True
    )
    position = between[first]
    return groups, dict(zip(position.tolist(), times.tolist(), strict=True)), position


def _third_agrees(pair: list[int], joined: csr_array, near: csr_array) -> bool:
    """Whether some photograph is joined with one end of a pair and near to the other."""
    one, other = pair
    return bool((_of(joined, one) & _of(near, other)) | (_of(joined, other) & _of(near, one)))


def _of(graph: csr_array, node: int) -> set[int]:
    return set(graph.indices[graph.indptr[node] : graph.indptr[node + 1]].tolist())


def _cut(edges: Indices, inliers: Indices, count: int, weak: Indices, least: int) -> Indices:
    """Those of the weak bridges that part two groups of `least` photographs, the weakest first."""
    group = component_labels(np.delete(edges, weak, axis=0), count)
    size = np.bincount(group, minlength=count).tolist()
    ends = {place: tuple(group[edges[place]].tolist()) for place in weak.tolist()}
    tree = nx.Graph(list(ends.values()))
    gone = []
    for place in weak[np.argsort(inliers[weak], kind="stable")].tolist():
        one, other = ends[place]
        tree.remove_edge(one, other)
        if all(_reaches(tree, size, start, least) for start in (one, other)):
            gone.append(place)
        else:
            tree.add_edge(one, other)
    return np.array(sorted(gone), np.int64)


def _reaches(tree: nx.Graph, size: list[int], start: int, least: int) -> bool:
    """Whether `least` photographs hang together with a node; looks no further than it must."""
    seen, waiting, photographs = {start}, [start], 0
    while waiting and photographs < least:
        node = waiting.pop()
        photographs += size[node]
        fresh = [other for other in tree[node] if other not in seen]
        seen.update(fresh)
        waiting += fresh
    return photographs >= least
