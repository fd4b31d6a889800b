"""What is done to the queries of harder rows: sizes, colours, the detail; what names their descriptors."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.describe.altered import altered
from retrieval.describe.harder_queries import CHANGES, AlteredQuery, altered_queries, altered_rows
from retrieval.describe.images import limit_array

SHA = ["0" * 63 + str(n) for n in range(3)]
BOX = (0.5, 0.0, 1.0, 0.5)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_detail_is_as_large_as_the_whole_would_be() -> None:
    quarters = np.zeros((240, 320, 3), dtype=np.uint8)
    quarters[:120, 160:] = (10, 20, 30)
    detail = altered(quarters, "detail", BOX, 100)
    assert detail.shape == (75, 100, 3) and (detail == (10, 20, 30)).all()
    assert altered(quarters, "detail", BOX, 1000).shape == (240, 320, 3)  # no photograph is described larger


def test_a_detail_of_the_whole_is_the_whole() -> None:
    whole = picture(90, 120)
    np.testing.assert_array_equal(altered(whole, "detail", (0, 0, 1, 1), 500), whole)


@pytest.mark.parametrize(("change", "size"), [("half", (180, 240)), ("quarter", (90, 120))])
def test_smaller_queries_are_a_share_of_the_described_size(change: str, size: tuple[int, int]) -> None:
    found = altered(picture(720, 960), change, None, 480)
    assert found.shape == (*size, 3)


def test_a_small_side_stays_large_enough() -> None:
    assert altered(picture(96, 400), "quarter", None, 480).shape == (64, 267, 3)
    assert altered(picture(40, 400), "quarter", None, 480).shape == (40, 400, 3)


def test_dark_by_hand() -> None:
    grey = np.full((4, 4, 3), 128, dtype=np.uint8)  # 255 (128 / 255)^2 = 64.25
    assert altered(grey, "dark", None, 100)[0, 0].tolist() == [64, 55, 45]
    bright = altered(np.full((4, 4, 3), 255, dtype=np.uint8), "dark", None, 100)
    assert bright[0, 0].tolist() == [255, 217, 178]
    photograph = picture(60, 80)
    dark = altered(photograph, "dark", None, 40)
    assert dark.dtype == np.uint8 and (dark <= limit_array(photograph, 40)).all()


def test_a_photograph_is_left_as_it_is() -> None:
    photograph = picture(100, 140)
    before = photograph.copy()
    for change in CHANGES:
        altered(photograph, change, BOX, 200)
    np.testing.assert_array_equal(photograph, before)


def training_set() -> dict[str, np.ndarray]:
    """Images 0, 1, 2; val has queries 2 and 1, of which 1 has no detail; test is not known."""
    return {
        "images/sha256": np.array(SHA, dtype="S64"),
        "benchmark/val/queries": np.array([2, 1]),
        "harder/val/box": np.array([BOX, [np.nan] * 4], dtype=np.float32),
        "benchmark/test/queries": np.array([], dtype=np.int64),
    }


def test_queries_with_a_detail_are_altered() -> None:
    found = list(altered_queries(training_set(), "val"))
    assert [(change, row) for change, row, _ in found] == [(change, 0) for change in CHANGES]
    assert [each.box for *_, each in found] == [BOX, None, None, None]
    assert {each.sha256 for *_, each in found} == {SHA[2]}
    assert list(altered_queries(training_set(), "test")) == []
    assert altered_rows(training_set(), {}).keys() == {("val", change) for change in CHANGES}


def test_a_descriptor_is_named_by_all_that_it_is_made_from() -> None:
    queries = [
        AlteredQuery(SHA[0], "detail", BOX),
        AlteredQuery(SHA[0], "detail", (0.25, 0.0, 1.0, 0.5)),
        AlteredQuery(SHA[0], "half", None),
        AlteredQuery(SHA[0], "dark", None),
        AlteredQuery(SHA[1], "dark", None),
    ]
    assert len({each.item for each in queries}) == len(queries)
    digests = {each.made_from(network) for each in queries for network in ("a", "b")}
    assert len(digests) == 2 * len(queries)
