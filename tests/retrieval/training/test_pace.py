"""Sentences about a training's progress, by hand."""

import math

from retrieval.training.options import TrainingProgress
from retrieval.training.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_speed_and_time_left() -> None:
    """Describing 10 photographs takes 10 s, training 4 tuples 8 s; two epochs of both."""
    clock = Clock()
    pace = Pace(clock)
    first = pace.sentence(TrainingProgress("describing", 1, 2, 1, 10))
    assert first == "epoch 1 of 2, describing"
    clock.now = 5.0
    assert pace.sentence(TrainingProgress("describing", 1, 2, 6, 10)).endswith("1.2 photographs/s, 0:12 left")
    clock.now = 10.0
    pace.sentence(TrainingProgress("training", 1, 2, 1, 4, 0.5, 1e-5, 2.9))
    clock.now = 14.0
    text = pace.sentence(TrainingProgress("training", 1, 2, 2, 4, 0.25, 1e-5, 2.9))
    # 2 tuples left at 2 s each, then one more epoch of 10 + 8 s
    assert text == (
        "epoch 1 of 2, training, loss 0.2500, learning rate 1.00e-05, p 2.900, 0.5 tuples/s, 0:22 left"
    )


def test_a_training_that_goes_on_counts_from_where_it_goes_on() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.sentence(TrainingProgress("training", 3, 3, 101, 200, 0.5, 1e-5, math.nan))
    clock.now = 10.0
    text = pace.sentence(TrainingProgress("training", 3, 3, 120, 200, 0.5, 1e-5, math.nan))
    assert text.endswith("2.0 tuples/s, 0:40 left") and " p " not in text


def test_hours() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.sentence(TrainingProgress("training", 1, 1, 1, 1000))
    clock.now = 9.0 * 9
    assert pace.sentence(TrainingProgress("training", 1, 1, 9, 1000)).endswith("2:28:39 left")
