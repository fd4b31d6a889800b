"""Clusters are the connected components of verified pairs."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm.bridges import component_labels
from sfm.cluster_files import Cluster, read_clusters
from sfm.clusters import ClusterOptions, UnknownPhotograph, find_clusters

PAIRS = [("d", "b"), ("a", "e"), ("b", "f"), ("c", "d")]


def test_components_by_hand(tmp_path):
    out = tmp_path / "clusters.json"
    found = find_clusters("fedcba", PAIRS, np.array([15, 40, 20, 14]), ClusterOptions(), out)
    assert found == [
        Cluster(("a", "e"), (("a", "e"),)),
        Cluster(("b", "d", "f"), (("b", "d"), ("b", "f"))),
        Cluster(("c",), ()),
    ]
    assert [cluster.name for cluster in found] == ["a", "b", "c"]
    assert read_clusters(out) == found


def test_the_order_of_pairs_does_not_matter(tmp_path):
    inliers = np.array([15, 40, 20, 14])
    find_clusters("abcdef", PAIRS, inliers, ClusterOptions(), tmp_path / "1")
    swapped = [(b, a) for a, b in PAIRS[::-1]]
    find_clusters("cadbef", swapped, inliers[::-1], ClusterOptions(), tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_photograph_without_pairs_is_alone(tmp_path):
    found = find_clusters("ab", [], np.zeros(0, np.int64), ClusterOptions(), tmp_path / "c")
    assert found == [Cluster(("a",), ()), Cluster(("b",), ())]
    assert find_clusters([], [], np.zeros(0, np.int64), ClusterOptions(), tmp_path / "c") == []


def test_a_pair_of_strangers_is_an_error(tmp_path):
    with pytest.raises(UnknownPhotograph, match="z is not in the collection"):
        find_clusters("ab", [("a", "z")], np.array([99]), ClusterOptions(), tmp_path / "c")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=25))
def test_labels_are_networkx_components_numbered_by_their_smallest(edges):
    graph = nx.Graph()
    graph.add_nodes_from(range(12))
    graph.add_edges_from(edges)
    expected = sorted(sorted(part) for part in nx.connected_components(graph))
    labels = component_labels(np.array(edges, np.int64).reshape(-1, 2), 12)
    assert [np.flatnonzero(labels == n).tolist() for n in range(labels.max() + 1)] == expected
