"""A graph that is too large falls apart where it is weakest, into connected parts, always the same."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import ArpackNoConvergence

from sfm.mapping import partition
from sfm.mapping.partition import split


def clique(nodes, weight=100):
    return {(a, b): weight for a in nodes for b in nodes if a < b}


def parts_of(edges, count, largest):
    pairs = np.array(list(edges), np.int64).reshape(-1, 2)
    return [part.tolist() for part in split(pairs, np.array(list(edges.values())), count, largest)]


def test_two_groups_part_at_the_pairs_between_them():
    odd, even = range(1, 20, 2), range(0, 20, 2)
    edges = {**clique(odd), **clique(even), (3, 4): 30, (7, 10): 30}
    assert parts_of(edges, 20, 19) == [list(even), list(odd)]
    assert parts_of(edges, 20, 20) == [list(range(20))]


def test_the_weights_decide_where():
    ring = {(n, n + 1): 100 for n in range(11)} | {(0, 11): 100}
    weak = ring | {(2, 3): 1, (8, 9): 1}
    assert parts_of(weak, 12, 11) == [[0, 1, 2, 9, 10, 11], [3, 4, 5, 6, 7, 8]]


def test_it_is_cut_until_every_part_is_small_enough():
    groups = [range(n, n + 6) for n in range(0, 24, 6)]
    edges = {edge: weight for group in groups for edge, weight in clique(group).items()}
    edges |= {(5, 6): 20, (11, 12): 20, (17, 18): 20}
    assert parts_of(edges, 24, 10) == [list(group) for group in groups]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 12))
def test_parts_are_connected_small_and_complete(seed, count, largest):
    rng = np.random.default_rng(seed)
    tree = {(int(rng.integers(node)), node): int(rng.integers(15, 500)) for node in range(1, count)}
    more = {tuple(sorted(rng.choice(count, 2, replace=False).tolist())): 15 for _ in range(count)}
    edges = more | tree
    parts = parts_of(edges, count, largest)
    graph = nx.Graph(list(edges))
    assert sorted(node for part in parts for node in part) == list(range(count))
    assert all(len(part) <= largest and part == sorted(part) for part in parts)
    assert all(nx.is_connected(graph.subgraph(part)) for part in parts)
    assert parts == sorted(parts) == parts_of(dict(reversed(edges.items())), count, largest)


@pytest.mark.parametrize("largest", [5, 7])
def test_without_an_eigenvector_it_walks(monkeypatch, largest):
    def never(*_, **__):
        raise ArpackNoConvergence("no convergence", np.empty(0), np.empty((0, 0)))

    monkeypatch.setattr(partition, "eigsh", never)
    edges = {**clique(range(5)), **clique(range(5, 10)), (4, 5): 15}
    assert parts_of(edges, 10, largest) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
