"""Random changes of training photographs."""

import numpy as np
import pytest

from retrieval.training.augmentation import SMALLEST_SIDE, augment, changes
from retrieval.training.options import TrainingOptions

Array = np.ndarray


def photograph(height: int = 60, width: int = 90) -> Array:
    """Every pixel differs: red is the row, green the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 100)], axis=2).astype(np.uint8)


def changed(seed: int = 0, shape: tuple[int, int] = (60, 90), **options: float) -> Array:
    return augment(photograph(*shape), TrainingOptions(**options), np.random.default_rng(seed))


def test_no_option_changes_nothing() -> None:
    assert changes(TrainingOptions(), 1) is None
    np.testing.assert_array_equal(changed(), photograph())


def test_crops_are_pieces_of_the_photograph() -> None:
    pieces = [changed(seed, augment_crop=0.4) for seed in range(50)]
    for piece in pieces:
        height, width = piece.shape[:2]
        assert 36 <= height <= 60 and 54 <= width <= 90
        top, left = piece[0, 0, :2].astype(int)
        np.testing.assert_array_equal(piece, photograph()[top : top + height, left : left + width])
    corners = {tuple(piece[0, 0, :2]) for piece in pieces}
    assert len({piece.shape for piece in pieces}) > 20 and len(corners) > 20


def test_scales_lie_in_their_range_and_keep_the_proportions() -> None:
    shapes = np.array([changed(seed, augment_scale=0.6).shape[:2] for seed in range(50)])
    assert shapes[:, 1].min() >= 54 and shapes[:, 1].max() <= 90 and np.ptp(shapes[:, 1]) > 20
    assert np.abs(shapes[:, 1] / shapes[:, 0] - 1.5).max() < 0.05


def test_colours_are_multiplied_within_their_range() -> None:
    """On an even grey only brightness shows."""
    grey, options = np.full((40, 40, 3), 100, dtype=np.uint8), TrainingOptions(augment_colour=0.3)
    means = np.array([augment(grey, options, np.random.default_rng(seed)).mean() for seed in range(50)])
    assert 69 <= means.min() < 80 and 120 < means.max() <= 131
    assert changed(augment_colour=0.3).shape == photograph().shape
    assert changed(augment_colour=0.3).std() != pytest.approx(photograph().std(), rel=0.01)


@pytest.mark.parametrize("shape", [(10, 90), (SMALLEST_SIDE, 40), (1, 1)])
def test_small_photographs_stay_usable(shape: tuple[int, int]) -> None:
    for seed in range(20):
        found = changed(seed, shape, augment_scale=0.1, augment_crop=0.9, augment_colour=0.9)
        assert all(min(side, SMALLEST_SIDE) <= left <= side
                   for side, left in zip(shape, found.shape[:2], strict=True))  # fmt: skip


def test_draws_depend_on_epoch_position_and_place_alone() -> None:
    options = TrainingOptions(augment_crop=0.5, seed=3)
    whole, rest = changes(options, 2), changes(options, 2, first=7)
    assert whole is not None and rest is not None
    given = photograph()
    np.testing.assert_array_equal(whole(given, 9, 1), rest(given, 2, 1))
    others = [whole(given, 9, 2), whole(given, 8, 1), changes(options, 3)(given, 9, 1)]  # type: ignore[misc]
    assert all(not np.array_equal(whole(given, 9, 1), other) for other in others)


def test_one_option_does_not_change_what_another_draws() -> None:
    alone, both = changed(augment_crop=0.5), changed(augment_crop=0.5, augment_colour=0.2)
    assert alone.shape == both.shape


def test_the_photograph_itself_is_left_alone() -> None:
    given = photograph()
    given.flags.writeable = False
    augment(given, TrainingOptions(augment_colour=0.5, augment_crop=0.2), np.random.default_rng(0))
    np.testing.assert_array_equal(given, photograph())
