"""Progress of long steps: a callback given to library functions, shown as a bar on a terminal, else as log
lines."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[int, int, str], None]
"""`progress(done, total, what)`: `done` of `total` items, `what` they are ("photographs")."""

LOG_EVERY_S = 15.0
logger = logging.getLogger(__name__)


class LogLines:
    """Writes a log line when a step begins, every `every_s` seconds, and when it is complete."""

    def __init__(self, label: str, every_s: float = LOG_EVERY_S) -> None:
        self._label = label
        self._every_s = every_s
        self._last: tuple[int, int, str] | None = None
        self._next_s = 0.0
        self._lock = threading.Lock()

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        with self._lock:
            complete = done >= total and self._last != (done, total, what)
            if now < self._next_s and not complete:
                return
            self._next_s, self._last = now + self._every_s, (done, total, what)
        logger.info("%s: %d of %d %s", self._label, done, total, what)


class Bars:
    """Rich progress bars, one per label, shared by all threads of this process."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}
        self._lock = threading.Lock()

    def update(self, label: str, done: int, total: int, what: str) -> None:
        with self._lock:
            if label not in self._tasks:
                self._tasks[label] = self._progress.add_task(label, total=total)
            bar = self._tasks[label]
            description = f"{label} ({what})" if what else label
            self._progress.update(bar, completed=done, total=total, description=description)
            if done >= total:
                self._progress.remove_task(self._tasks.pop(label))


_BARS: Bars | None = None


def reporter(label: str) -> Progress:
    """A callback for the step called `label`: a bar while `bars()` is active in this process, else log
    lines."""
    lines = LogLines(label)

    def progress(done: int, total: int, what: str = "") -> None:
        shown = _BARS  # another thread may end it in between
        if shown is None:
            lines(done, total, what)
        else:
            shown.update(label, done, total, what)

    return progress


@contextmanager
def bars(console: Any) -> Iterator[Bars]:
    """Show the progress of every `reporter` of this process as bars on a rich console; log lines go above
    them."""
    global _BARS
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as display, _console_of_handlers(console):
        _BARS = Bars(display)
        try:
            yield _BARS
        finally:
            _BARS = None


def console_handlers() -> list[Any]:
    """Prefect's handlers that write to a rich console."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    found = {h: None for owner in loggers if isinstance(owner, logging.Logger) for h in owner.handlers}
    return [handler for handler in found if hasattr(handler, "console")]


@contextmanager
def _console_of_handlers(console: Any) -> Iterator[None]:
    """Prefect's console handlers write through `console`, so that a live bar and a log line do not mix."""
    before = {handler: handler.console for handler in console_handlers()}
    try:
        for handler in before:
            handler.console = console
        yield
    finally:
        for handler, original in before.items():
            handler.console = original
