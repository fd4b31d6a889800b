"""Verified negatives: who is matched, once, and what follows from the verdict."""

from typing import Any

import numpy as np
import pytest

from retrieval.describe.describe import DescriptorTable
from retrieval.learning.mining import TooFewClusters
from retrieval.training.epoch_tuples import Draw, mine, plan_of
from retrieval.training.negative_checks import NegativeChecks, mine_verified, suspicious
from retrieval.training.tuples import NegativePlan

ANGLES = {  # degrees on the unit circle: the nearer two images, the more alike
    0: 0, 1: 10, 2: 20,  # cluster 0: the farthest positive of 0 is 20 degrees away
    3: 12, 4: 60,  # cluster 1: 3 is as near to 0 as its positives
    5: 80, 6: 90,  # cluster 2
    7: 40,  # alone, may serve clusters 0 and 1
    8: 5,  # alone, refused by cluster 0
}  # fmt: skip


def world() -> dict[str, Any]:
    """Clusters 0 = images 0-2, 1 = 3-4, 2 = 5-6, singletons 7 and 8; 0, 1, 3 and 5 are queries."""
    return {
        "images/cluster": np.array([0, 0, 0, 1, 1, 2, 2, 3, 4]),
        "images/split": np.zeros(9, dtype=np.int8),
        "queries/image": np.array([0, 1, 3, 5]),
        "queries/split": np.zeros(4, dtype=np.int8),
        "positives/m2": np.array([1, 0, 4, 6]),
        "positives/m3/indptr": np.array([0, 2, 4, 5, 6]),
        "positives/m3/image": np.array([1, 2, 0, 2, 4, 6]),
        "negatives/image": np.array([7, 7, 8]),
        "negatives/cluster": np.array([0, 1, 0]),
        "negatives/max_inliers": np.array([0, 3, 9]),
        "negatives/allowed": np.array([True, True, False]),
    }


def described() -> DescriptorTable:
    angles = np.radians(list(ANGLES.values()))
    return DescriptorTable(np.arange(9), np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32))


def drawn(*queries: int) -> Draw:
    positive = {0: 1, 1: 0, 3: 4, 5: 6}
    return Draw(
        0, np.array(queries), [np.array([positive[q]]) for q in queries], np.arange(9), needs_choices=False
    )


class Recorder:
    """A matcher that knows the answer, and remembers what it was asked."""

    def __init__(self, answers: dict[tuple[int, int], int] | None = None) -> None:
        self.answers, self.asked = answers or {}, []

    def __call__(self, pairs: np.ndarray) -> np.ndarray:
        self.asked += [tuple(pair) for pair in pairs.tolist()]
        return np.array([self.answers.get(tuple(pair), 0) for pair in pairs.tolist()], dtype=np.int64)


def checks(matcher: Any, photographs: int = 2) -> NegativeChecks:
    return NegativeChecks(matcher, inliers=8, photographs=photographs, epoch=4)


def mined(found: NegativeChecks, *queries: int, negatives: int = 1, arrays: Any = None) -> list[list[int]]:
    known, draw = arrays or world(), drawn(*queries)
    plan = plan_of(known, draw, negatives, True)
    return mine_verified(known, draw, described(), found, plan=plan).tuples.tolist()


def test_an_innocent_suspect_is_matched_once_and_stays() -> None:
    """3 (12 degrees) is as near as 0's positives (20); it is matched with 0 and the one nearest to it."""
    matcher = Recorder({(0, 3): 7})
    found = checks(matcher)
    assert mined(found, 0) == [[0, 1, 3]]
    assert matcher.asked == [(0, 3), (1, 3)]
    assert found.found.tolist() == [[4, 3, 0, 7]]
    assert mined(found, 1) == [[1, 0, 3]]  # another query of the cluster: the verdict is known
    assert len(matcher.asked) == 2
    assert len(found.may_match(world()["images/cluster"])) == 0


def test_a_guilty_suspect_bars_the_two_clusters() -> None:
    """Only 1 sees what 3 sees: enough for the whole clusters. 0's next negative is 7, cleared before."""
    matcher = Recorder({(1, 3): 8})
    found = checks(matcher)
    assert mined(found, 0) == [[0, 1, 7]]
    assert found.may_match(world()["images/cluster"]).tolist() == [[0, 1, 8]]
    assert mined(found, 3, 5, negatives=2) == [[3, 4, 7, 5], [5, 6, 4, 2]]
    barred = found.applied(world())
    refused = {
        (int(i), int(c))
        for i, c, ok in zip(
            barred["negatives/image"], barred["negatives/cluster"], barred["negatives/allowed"], strict=True
        )
        if not ok
    }
    assert refused == {(8, 0), (3, 0), (4, 0), (0, 1), (1, 1), (2, 1)}


def test_far_negatives_are_not_matched() -> None:
    matcher = Recorder()
    assert mined(checks(matcher), 5) == [[5, 6, 4]]  # 4 is 20 degrees away, the positive 10
    assert matcher.asked == []


def test_without_a_matcher_it_is_the_plain_mining() -> None:
    plain = mine(world(), drawn(0, 3), described(), plan_of(world(), drawn(0, 3), 2, True))
    assert mined(checks(None), 0, 3, negatives=2) == plain.tuples.tolist()
    assert suspicious(world(), drawn(0, 3), described(), plain).tolist() == [[1, 3], [3, 0]]


def test_a_positive_without_descriptor_suspects_everything() -> None:
    table = described()
    table = DescriptorTable(table.images[[0, 3, 5]], table.rows[[0, 3, 5]])
    draw = Draw(0, np.array([0]), [np.array([1])], np.array([3, 5]), needs_choices=False)
    plain = mine(world(), draw, table, plan_of(world(), draw, 2, True))
    assert suspicious(world(), draw, table, plain).tolist() == [[3, 0], [5, 0]]


def test_queries_without_enough_negatives_are_left_out_with_a_warning() -> None:
    """Clusters 0 and 1 bar each other: 0 keeps 2 and 7; three negatives are asked, only 5 has them."""
    arrays = world()
    arrays["negatives/image"] = np.array([7, 7, 7, 8])
    arrays["negatives/cluster"] = np.array([0, 1, 2, 0])
    arrays["negatives/max_inliers"] = np.zeros(4, dtype=np.int64)
    arrays["negatives/allowed"] = np.array([True, True, True, False])
    found = checks(Recorder({(0, 3): 20}))
    plan = NegativePlan(3, one_per_cluster=True)
    result = mine_verified(arrays, drawn(0, 5), described(), found, plan=plan, name=lambda i: f"photo {i}")
    assert result.tuples[:, 0].tolist() == [5]
    assert any("1 of 2 queries" in text and "photo 0" in text for text in result.warnings)
    with pytest.raises(TooFewClusters, match=r"photo 0.*verify_inliers"):
        mine_verified(arrays, drawn(0), described(), found, plan=plan, name=lambda i: f"photo {i}")


def test_the_order_of_queries_changes_no_verdict() -> None:
    one, two = checks(Recorder({(1, 3): 9})), checks(Recorder({(1, 3): 9}))
    mined(one, 0, 1, 3, 5)
    mined(two, 5, 3, 1, 0)
    assert sorted(one.found.tolist()) == sorted(two.found.tolist())
