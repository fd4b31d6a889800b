"""What a person sees while a flow runs: one line per event on the console, everything in the log file."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager


class WithoutTracebacks(logging.Formatter):
    """Formats as `inner` does, without the traceback; the log file has it."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        plain = copy.copy(record)
        plain.exc_info = plain.exc_text = plain.stack_info = None
        return self._inner.format(plain)


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Where bars show the progress, the state changes of single tasks do not scroll by."""
    return record.levelno >= logging.WARNING or not record.name.startswith("prefect.task_runs")


@contextmanager
def calm_console(terminal: bool) -> Iterator[None]:
    """Console handlers of this process print no tracebacks and, on a terminal, no state changes of tasks."""
    handlers = [handler for handler in console_handlers() if handler.formatter is not None]
    before = [(handler, handler.formatter) for handler in handlers]
    for handler, formatter in before:
        assert formatter is not None
        handler.setFormatter(WithoutTracebacks(formatter))
        if terminal:
            handler.addFilter(is_worth_a_line)
    try:
        yield
    finally:
        for handler, formatter in before:
            handler.setFormatter(formatter)
            handler.removeFilter(is_worth_a_line)


def console_handlers() -> list[logging.Handler]:
    """Prefect's handlers that write to a rich console."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    found = {h: None for owner in loggers if isinstance(owner, logging.Logger) for h in owner.handlers}
    return [handler for handler in found if hasattr(handler, "console")]
