"""Clusters are the connected components of verified pairs."""

import itertools
import json

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm.mapping.cluster_files import Cluster, read_clusters
from sfm.mapping.clusters import ClusterOptions, UnknownPhotograph, find_clusters
from sfm.mapping.components import component_labels

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


TWO_PLACES = [("a", "b"), ("a", "c"), ("b", "c"), ("d", "e"), ("d", "f"), ("e", "f"), ("d", "c")]


def test_a_cut_bridge_is_recorded_and_told(tmp_path, caplog):
    out = tmp_path / "clusters.json"
    caplog.set_level("INFO")
    found = find_clusters("abcdef", TWO_PLACES, np.array([40] * 6 + [17]), ClusterOptions(), out)
    assert [cluster.photographs for cluster in found] == [("a", "b", "c"), ("d", "e", "f")]
    assert ("c", "d") not in [pair for cluster in found for pair in cluster.pairs]
    cut = {"reason": "bridge", "pair": ["c", "d"], "inliers": 17, "photographs": [3, 3]}
    assert json.loads(out.read_text())["cut"] == [cut]
    assert "c-d (17 inliers) alone would join clusters of 3 and 3 photographs" in caplog.text


@pytest.mark.parametrize(
    ("inliers", "options"),
    [
        (18, {}),
        (15, {"bridge_inliers": 0}),
        (15, {"bridge_min_side": 4}),
    ],
)
def test_a_bridge_stays_where_the_options_say_so(tmp_path, inliers, options):
    counts = np.array([40] * 6 + [inliers])
    (cluster,) = find_clusters("abcdef", TWO_PLACES, counts, ClusterOptions(**options), tmp_path / "c")
    assert len(cluster.pairs) == 7
    assert json.loads((tmp_path / "c").read_text())["cut"] == []


def test_a_large_cluster_is_mapped_in_parts_and_stays_one(tmp_path):
    names = [f"{n:02d}" for n in range(12)]
    left, right = names[::2], names[1::2]
    pairs = [pair for side in (left, right) for pair in itertools.combinations(side, 2)]
    pairs += [("00", "01"), ("02", "05")]
    inliers = np.array([60] * (len(pairs) - 2) + [30, 30])
    out = tmp_path / "c"
    (cluster,) = found = find_clusters(names, pairs, inliers, ClusterOptions(max_cluster_size=10), out)
    assert read_clusters(out) == found
    assert cluster.photographs == tuple(names) and len(cluster.pairs) == len(pairs)
    one, other = cluster.units()
    assert (one.photographs, other.photographs) == (tuple(left), tuple(right))
    assert [one.name, other.name] == ["00", "01"] and one.units() == [one]
    assert sorted([*one.pairs, *other.pairs]) == sorted(set(cluster.pairs) - {("00", "01"), ("02", "05")})
    (whole,) = find_clusters(names, pairs, inliers, ClusterOptions(max_cluster_size=12), out)
    assert whole.parts == () and whole.units() == [whole]
