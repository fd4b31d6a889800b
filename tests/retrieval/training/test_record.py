"""Which epoch is kept."""

import math

import pytest

from retrieval.training.record import EpochRecord, best_epoch

UNKNOWN = math.nan


def _history(*rows: tuple[float, float]) -> list[EpochRecord]:
    """Epochs from 0, each (mAP, loss) of val."""
    return [EpochRecord(epoch, 0.1, loss, value, 1e-5, 3.0, 0.5) for epoch, (value, loss) in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([], 0),
        ([(0.9, 0.1)], 0),
        ([(0.6, 0.1), (0.5, 0.4), (0.7, 0.6)], 2),
        ([(0.9, 0.1), (0.5, 0.4), (0.7, 0.6)], 0),
        ([(1.0, 0.5), (1.0, 0.4), (1.0, 0.2), (1.0, 0.3)], 2),
        ([(1.0, 0.2), (1.0, 0.2), (1.0, 0.2)], 0),
        ([(1.0, UNKNOWN), (1.0, UNKNOWN), (1.0, 0.5)], 2),
        ([(1.0, UNKNOWN), (1.0, UNKNOWN), (1.0, UNKNOWN)], 0),
        ([(UNKNOWN, 0.5), (UNKNOWN, 0.4), (UNKNOWN, 0.3), (UNKNOWN, 0.3)], 2),
        ([(UNKNOWN, UNKNOWN), (UNKNOWN, UNKNOWN), (UNKNOWN, UNKNOWN)], 2),
    ],
    ids=[
        "nothing",
        "not trained",
        "map before loss",
        "before training was best",
        "equal map: loss",
        "all equal: earlier",
        "loss unknown once",
        "loss unknown",
        "no val benchmark",
        "nothing known: last",
    ],
)
def test_best_epoch(rows, best):
    assert best_epoch(_history(*rows)) == best
