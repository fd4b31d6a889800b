"""What counts as a position."""

import numpy as np
import pytest

from storage.pictures.coordinates import doubts_m, exchanged, has_fix, has_fix_m

FAR = np.array([[500_000.0, 5_300_000.0], [500_100.0, 5_300_000.0]])


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        (48.1, 16.2, True), (0.0, 0.0, False), (-0.0, 0.0, False), (0.0, 6.5, True), (51.5, 0.0, True),
        (90.0, 180.0, True), (90.1, 0.0, False), (0.1, -180.1, False), (np.nan, 1.0, False),
        (1.0, np.inf, False),
    ],
)  # fmt: skip
def test_degrees(latitude, longitude, expected):
    assert bool(has_fix(latitude, longitude)) is expected


def test_metres_are_no_fix_at_zero_where_all_else_is_far_away():
    assert has_fix_m(np.vstack([FAR, [[0, 0], [0, 0]]])).tolist() == [True, True, False, False]
    assert has_fix_m(np.array([[0.0, 0], [3, 4], [0, 0]])).all()
    assert has_fix_m(np.zeros((3, 2))).all()
    assert has_fix_m(np.vstack([FAR, [[np.nan, 0], [np.inf, 1]]])).tolist() == [True, True, False, False]
    assert has_fix_m(np.empty((0, 2))).size == 0


def test_exchanged_degrees_are_seen_where_they_can_be():
    assert exchanged([151.2, 150.9], [-33.8, -34.0])
    assert not exchanged([48.8], [2.3]) and not exchanged([151.2], [-133.8])


def test_doubts_about_metres():
    assert doubts_m(FAR) == [] and doubts_m(np.array([[0.0, 0], [3, 4]])) == []
    assert "look like degrees" in doubts_m(np.array([[2.29451, 48.85831], [2.34991, 48.85303]]))[0]
    assert "3 photographs lie at exactly 0, 0" in doubts_m(np.array([[0.0, 0], [0, 0], [0, 0], [5, 5]]))[0]
    zones = np.vstack([FAR, FAR, [[-4e6, 5_300_000]]])
    assert doubts_m(zones) == ["1 of 5 positions are no UTM coordinates as the others are"]
    assert "more than a zone" in doubts_m(np.array([[120_000.0, 5.3e6], [990_000, 5.3e6]]))[0]
    assert doubts_m(np.array([[2_600_000.0, 1_200_000], [2_600_010, 1_200_000]])) == []  # Swiss LV95
