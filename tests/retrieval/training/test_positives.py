"""Positives of a query: how many, from which band, by way of a third, and what they weigh."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from retrieval.training.epoch_tuples import draw_epoch
from retrieval.training.options import TrainingOptions
from retrieval.training.positives import (
    WithoutOverlap,
    band,
    draw_positives,
    matched_alone,
    matched_elsewhere,
    overlap_weights,
    overlaps,
    partners,
    reached,
)


def chain() -> dict[str, Any]:
    """Images 0-4 of one model, each sharing points with its neighbours alone; 0, 1 and 3 are queries."""
    return {
        "images/cluster": np.zeros(6, dtype=np.int64),
        "images/split": np.zeros(6, dtype=np.int8),
        "queries/image": np.array([0, 1, 3]),
        "queries/split": np.zeros(3, dtype=np.int8),
        "candidates/indptr": np.array([0, 1, 3, 5]),
        "candidates/image": np.array([1, 0, 2, 2, 4]),
        "candidates/overlap": np.array([0.5, 0.25, 0.75, 0.3, 0.6], dtype=np.float32),
        "candidates/shared_points": np.array([10, 10, 30, 6, 12]),
        "positives/m2": np.array([1, 2, 4]),
        "positives/m3/indptr": np.array([0, 1, 3, 5]),
        "positives/m3/image": np.array([1, 0, 2, 2, 4]),
        "negatives/image": np.empty(0, dtype=np.int64),
        "negatives/cluster": np.empty(0, dtype=np.int64),
        "negatives/allowed": np.empty(0, dtype=bool),
    }


def test_overlaps_and_weights_by_hand() -> None:
    arrays = chain()
    assert overlaps(arrays, 1, np.array([2, 0, 4])).tolist() == [0.75, 0.25, 0.0]
    tuples = np.array([[3, 4, 2, 9], [0, 1, 1, 9]])
    np.testing.assert_allclose(overlap_weights(arrays, tuples, 2), [[0.6, 0.3], [0.5, 0.5]])
    with pytest.raises(WithoutOverlap, match="positive_weights=equal"):
        overlap_weights(arrays, np.array([[0, 2, 9]]), 1)


def test_what_is_reached_by_way_of_a_third() -> None:
    arrays = chain()
    assert reached(arrays, 0).tolist() == [2]  # by way of 1, which is a query
    assert reached(arrays, 1).tolist() == []  # 2 is no query: what it sees is not known
    assert reached(arrays, 2).tolist() == []


def test_what_m3_leaves_out_of_a_model_that_is_all_candidates() -> None:
    """Query 0: 1 is its m3, 2 overlaps too little, 3 shares no point and has a near centre, 4 is reached by
    way of 2 where that is a query."""
    arrays = chain() | {
        "queries/image": np.array([0, 2]),
        "candidates/indptr": np.array([0, 3, 7]),
        "candidates/image": np.array([1, 2, 3, 0, 1, 4, 5]),
        "candidates/shared_points": np.array([40, 5, 0, 5, 20, 8, 0]),
        "positives/m3/indptr": np.array([0, 1, 2]),
        "positives/m3/image": np.array([1, 1]),
    }
    assert reached(arrays, 0).tolist() == [2, 3, 4]
    assert reached(arrays, 1).tolist() == [0, 4, 5]


def test_bands_go_from_the_most_overlap_to_the_least() -> None:
    arrays = chain()
    arrays["candidates/image"] = np.array([1, 0, 2, 2, 4])
    choice = np.array([2, 4])
    assert [band(arrays, 2, choice, epoch, 2).tolist() for epoch in (1, 2)] == [[4], [2]]
    assert [band(arrays, 2, choice, epoch, 5).tolist() for epoch in (1, 5)] == [[4], [2]]
    assert sorted(band(arrays, 2, choice, 1, 1).tolist()) == [2, 4]


def test_several_positives_differ_as_far_as_there_are() -> None:
    choices = [np.array([4, 7, 9]), np.array([2])]
    for seed in range(20):
        drawn = draw_positives(choices, np.random.default_rng(seed), 3)
        assert sorted(drawn[0]) == [4, 7, 9] and drawn[1].tolist() == [2, 2, 2]
    first = draw_positives(choices, np.random.default_rng(3), 3)[0, 0]
    assert first == draw_positives(choices, np.random.default_rng(3))[0, 0]


def test_positives_through_the_model_as_often_as_asked() -> None:
    choices, beyond = [np.array([4, 7]), np.array([2])], [np.array([11, 12, 13]), np.array([], dtype=int)]
    always = draw_positives(choices, np.random.default_rng(0), 2, [(beyond, 1.0)])
    assert set(always[0]) <= {11, 12, 13} and len(set(always[0])) == 2 and always[1].tolist() == [2, 2]
    never = draw_positives(choices, np.random.default_rng(0), 2, [(beyond, 0.0)])
    assert sorted(never[0]) == [4, 7]
    generator = np.random.default_rng(1)
    often = [draw_positives(choices, generator, 1, [(beyond, 0.25)])[0, 0] > 10 for _ in range(400)]
    assert 0.18 < np.mean(often) < 0.32


def test_positives_from_several_sources_are_different_ones() -> None:
    beyond = [([np.array([11, 12])], 1.0), ([np.array([12, 13, 14])], 1.0)]
    for seed in range(20):
        drawn = draw_positives([np.array([4])], np.random.default_rng(seed), 4, beyond)[0]
        assert drawn[:2].tolist() in ([11, 12], [12, 11]) and set(drawn[2:]) == {13, 14}


def matched_chain() -> dict[str, Any]:
    """The chain; image 5, which its model lacks, was matched with 1 and 3, and 1 with 0 of the model."""
    more = {"images/model": np.array([0, 0, 0, 0, 0, -1])}
    return chain() | more | {"matched/first": np.array([0, 1, 3]), "matched/second": np.array([1, 5, 5])}


def test_what_was_matched_without_a_model() -> None:
    arrays = matched_chain()
    known = partners(arrays)
    assert [known.row(image).tolist() for image in range(6)] == [[1], [0, 5], [], [5], [], [1, 3]]
    assert [row.tolist() for row in matched_elsewhere(arrays, np.arange(3))] == [[], [5], [5]]
    assert matched_alone(arrays, 0).tolist() == [5] and matched_alone(arrays, 1).tolist() == []
    assert len(partners(chain()).image) == 0 and len(partners(chain())) == 6


def test_an_epoch_draws_what_was_matched() -> None:
    arrays = matched_chain() | {"images/cluster": np.array([0, 0, 0, 0, 0, 1])}
    told = {"compared_with": "descriptors", "positives_per_tuple": 2, "through_matches": 1.0}
    drawn = draw_epoch(arrays, TrainingOptions(**told, own_views=9, augment_crop=0.2), 1)
    chosen = dict(zip(drawn.queries.tolist(), map(np.ndarray.tolist, drawn.choices), strict=True))
    assert chosen[0] == [1, 1] and chosen[3][0] == 5 and chosen[3][1] in (2, 4)
    beside = {query: set(positives) for query, *positives in drawn.beside.tolist()}
    assert beside == {5: {1, 3}, 2: {2}, 4: {4}}  # no query stands for itself
    parts = drawn.parts(2)
    np.testing.assert_array_equal(np.concatenate([part.beside for part in parts]), drawn.beside)
    few = draw_epoch(arrays, TrainingOptions(**told, queries_per_epoch=1), 1)
    assert few.beside[:, 0].tolist() == [5]
    nobody = arrays | {f"matched/{name}": np.empty(0, np.int64) for name in ("first", "second")}
    none = draw_epoch(nobody, TrainingOptions(**told), 1)  # every photograph that was matched is a query
    assert none.beside.shape == (0, 3) and len(none.queries) > 0


def test_an_epoch_draws_what_the_options_say() -> None:
    arrays = chain()
    options = TrainingOptions(positives_per_tuple=2, through_model=1.0, queries_per_epoch=None)
    drawn = draw_epoch(arrays, options, 1)
    chosen = dict(zip(drawn.queries.tolist(), map(np.ndarray.tolist, drawn.choices), strict=True))
    assert set(chosen[0]) == {2, 1} and sorted(chosen[3]) == [2, 4]
    first, last = (
        draw_epoch(arrays, TrainingOptions(overlap_order="easy_to_hard", epochs=2), epoch) for epoch in (1, 2)
    )
    assert dict(zip(first.queries.tolist(), [c.tolist() for c in first.choices], strict=True))[3] == [4]
    assert dict(zip(last.queries.tolist(), [c.tolist() for c in last.choices], strict=True))[3] == [2]


def test_an_order_over_the_epochs_cannot_be_continued_by_more() -> None:
    plain, ordered = TrainingOptions(epochs=3), TrainingOptions(epochs=3, overlap_order="easy_to_hard")
    assert plain.resumable() == TrainingOptions(epochs=7).resumable()
    assert ordered.resumable() != TrainingOptions(epochs=7, overlap_order="easy_to_hard").resumable()
    falling, longer = (TrainingOptions(schedule="cosine", epochs=epochs) for epochs in (3, 7))
    assert falling.resumable() != longer.resumable()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"positives": "m1", "positives_per_tuple": 2}, "only m3"),
        ({"positives": "m2", "through_model": 0.5}, "only m3"),
        ({"positives": "m1", "overlap_order": "easy_to_hard"}, "only m3"),
        ({"trainable": "projection", "augment_crop": 0.2}, "computed once"),
        ({"trainable": "projection", "loss_on": "whitened"}, "begins as Lw"),
        ({"own_views": 3, "augment_crop": 0.2}, "finds itself"),
        ({"own_views": 3, "compared_with": "descriptors"}, "finds itself"),
        ({"memory": 3, "compared_with": "descriptors"}, "leave memory out"),
        ({"teacher_sizes": (64,)}, "needs compared_with=descriptors"),
        ({"negative_mining": "random", "compared_with": "descriptors"}, "nothing is drawn"),
        ({"augment_views": 3}, "nothing is changed"),
        ({"through_model": 0.5, "positive_weights": "overlap"}, "choose one"),
        ({"positives": "m2", "through_matches": 0.5}, "only m3"),
        ({"through_matches": 0.5}, "nothing is mined"),
        (
            {"through_matches": 0.5, "compared_with": "descriptors", "positive_weights": "overlap"},
            "choose one",
        ),
    ],
)
def test_options_that_do_not_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingOptions(**values)
