"""A pair that alone joins two groups is judged by its inliers, a third photograph and the groups' sizes."""

import networkx as nx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm.mapping.bridges import bridges, weak_bridges
from sfm.mapping.components import component_labels

TRIANGLES = [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)]
PAIR = st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] < pair[1])


def rows(pairs):
    return np.array(pairs, np.int64).reshape(-1, 2)


def cut(edges, inliers, count, tried=(), tried_inliers=(), enough=20, third=12, least=3):
    """The pairs that go; `tried` are matched besides the verified ones."""
    all_tried = rows([*edges, *tried])
    found = weak_bridges(
        rows(edges), np.array(inliers), all_tried, np.array([*inliers, *tried_inliers]), count,
        enough=enough, third=third, least=least,
    )  # fmt: skip
    return [tuple(edges[place]) for place in found.tolist()]


def test_bridges_by_hand():
    edges = rows([*TRIANGLES, (2, 3), (5, 6)])
    assert bridges(edges, 7).tolist() == [6, 7]
    assert bridges(edges, 7, np.arange(8) != 6).tolist() == [7]
    assert bridges(rows([(0, 1), (1, 0)]), 2).tolist() == []
    assert bridges(rows([]), 3).tolist() == []


@settings(max_examples=150, deadline=None)
@given(
    st.lists(PAIR, max_size=18, unique=True),
    st.randoms(use_true_random=False),
)
def test_a_bridge_parts_its_component_whatever_is_asked(edges, random):
    asked = np.array([random.random() < 0.5 for _ in edges], bool)
    graph = nx.Graph(edges)
    expected = [
        place
        for place, (a, b) in enumerate(edges)
        if asked[place] and not nx.has_path(nx.restricted_view(graph, [], [(a, b)]), a, b)
    ]
    assert bridges(rows(edges), 10, asked).tolist() == expected


def test_a_weak_bridge_between_two_groups_goes():
    edges = [*TRIANGLES, (2, 3)]
    assert cut(edges, [90] * 6 + [19], 6) == [(2, 3)]
    assert cut(edges, [16] * 6 + [19], 6) == [(2, 3)]  # the groups need not be strong
    assert cut(edges, [90] * 6 + [20], 6) == []


def test_two_pairs_between_two_groups_are_no_bridge():
    assert cut([*TRIANGLES, (2, 3), (1, 4)], [90] * 6 + [15, 15], 6) == []


def test_a_third_photograph_that_agrees_keeps_a_bridge():
    edges, inliers = [*TRIANGLES, (2, 3)], [90] * 6 + [15]
    assert cut(edges, inliers, 6, [(2, 4)], [12]) == []
    assert cut(edges, inliers, 6, [(1, 3)], [12]) == []
    assert cut(edges, inliers, 6, [(2, 4)], [11]) == [(2, 3)]
    assert cut(edges, inliers, 6, [(1, 4)], [14]) == [(2, 3)]  # four photographs, no triplet
    assert cut(edges, inliers, 7, [(2, 6), (3, 6)], [14, 14]) == [(2, 3)]  # verified with neither


def test_photographs_that_hang_on_one_pair_stay():
    edges = [*TRIANGLES[:3], (2, 3), (3, 4)]
    assert cut(edges, [90] * 3 + [15, 15], 5) == []
    assert cut(edges, [90] * 3 + [15, 15], 5, least=2) == [(2, 3)]


def test_the_weakest_goes_first_and_no_group_is_left_too_small():
    chain = [(n, n + 1) for n in range(6)]
    assert cut(chain, [18, 18, 17, 15, 18, 18], 7) == [(3, 4)]
    assert cut(chain, [18, 18, 15, 17, 18, 18], 7) == [(2, 3)]
    assert cut(chain, [18] * 6, 7) == [(2, 3)]  # the earliest of equals


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(PAIR, st.integers(15, 25), max_size=14),
    st.integers(2, 4),
)
def test_what_goes_is_weak_and_leaves_large_groups(found, least):
    edges = sorted(found)
    gone = cut(edges, [found[edge] for edge in edges], 10, least=least, third=99)
    kept = nx.Graph([edge for edge in edges if edge not in gone])
    kept.add_nodes_from(range(10))
    assert all(found[edge] < 20 for edge in gone)
    assert all(len(nx.node_connected_component(kept, end)) >= least for edge in gone for end in edge)
    assert nx.number_connected_components(kept) == len(set(component_labels(rows(edges), 10))) + len(gone)
