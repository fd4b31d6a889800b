"""What a person watches while it trains: loss, rates, speed, time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from retrieval.training.options import Phase, TrainingProgress

Report = Callable[[TrainingProgress], Any]
UNITS = {"describing": "photographs", "training": "tuples", "validating": "photographs"}


@dataclass
class Reporter:
    """Turns what is done in an epoch into events."""

    progress: Report
    exponent: Callable[[], float]
    epochs: int
    epoch: int = 0

    def __call__(
        self, phase: Phase, done: int, total: int, loss: float = math.nan, rate: float = math.nan
    ) -> None:
        told = (phase, self.epoch, self.epochs, done, total, loss, rate)
        self.progress(TrainingProgress(*told, self.exponent()))


class Pace:
    """Turns the progress of a training into sentences. clock: seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._part: tuple[int, str] | None = None
        self._began = 0.0
        self._first = 0
        self._before: dict[str, float] = {}
        self._started = clock()

    def sentence(self, event: TrainingProgress) -> str:
        """Epoch, phase, speed; while it trains also loss, learning rate and p; what is left of the epoch's
        phase and of the training, as far as earlier epochs tell."""
        now, part = self._clock(), (event.epoch, event.phase)
        if part != self._part:
            if self._part is not None:
                self._before[self._part[1]] = now - self._began
            self._part, self._began, self._first = part, now, event.done - 1
        spent, done = now - self._began, event.done - self._first
        words = [f"epoch {event.epoch} of {event.epochs}, {event.phase}"]
        shown = {
            "loss {:.4f}": event.loss,
            "learning rate {:.2e}": event.learning_rate,
            "p {:.3f}": event.gem_p,
        }
        words += [text.format(value) for text, value in shown.items() if not math.isnan(value)]
        if spent > 0 and done > 1:
            words.append(f"{done / spent:.1f} {UNITS[event.phase]}/s")
            words.append(f"{_clock_time(self._left(event, spent / done))} left")
        return ", ".join(words)

    def _left(self, event: TrainingProgress, each_s: float) -> float:
        """Seconds: the rest of this phase; later phases and epochs as the ones before them took."""
        phases = list(UNITS)
        known = {**self._before, event.phase: each_s * event.total}
        later = phases[phases.index(event.phase) + 1 :] if event.epoch > 0 else []
        rest = each_s * (event.total - event.done) + sum(known.get(phase, 0.0) for phase in later)
        return rest + (event.epochs - event.epoch) * sum(known.values())


def _clock_time(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
