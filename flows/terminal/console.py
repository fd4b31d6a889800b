"""Where the commands print. What a person sees while a flow runs: one line per event on the console,
everything in the log file.

All output of the commands goes through this module, and no control character of a name gets through it.
"""

import copy
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from storage.files.escaping import escaped, escaped_lines, shown
from tasks.engine.progress import console_handlers

WIDTH_OF_FILES = 160


class PlainConsole(Console):
    """A console that writes control characters out, wherever in a table or a tree they stand."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of something that rich can show."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped_lines(segment.text), segment.style)


def console(stderr: bool = False) -> PlainConsole:
    """A console as wide as the terminal; what goes to a file or a pipe is not folded at 80 columns."""
    found = PlainConsole(stderr=stderr)
    if found.is_terminal or "COLUMNS" in os.environ:
        return found
    return PlainConsole(stderr=stderr, width=WIDTH_OF_FILES)


out = console()
err = console(stderr=True)


def say(line: object) -> None:
    """One line on standard output, folded nowhere."""
    out.print(escaped(line), highlight=False, soft_wrap=True, markup=False)


def tell(line: object, red: str = "") -> None:
    """One line on standard error. red: the word before it."""
    first = f"[red]{shown(red)}[/red] " if red else ""
    err.print(first + shown(line), highlight=False, soft_wrap=True)


def put(text: str) -> None:
    """A text for programs on standard output, as it is."""
    sys.stdout.write(text + "\n")


class Told(logging.Handler):
    """Tells what nobody else handles, without its traceback: warnings of libraries, outside of runs too."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(record.getMessage())


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
    before = [(handler, handler.formatter) for handler in console_handlers() if handler.formatter]
    for handler, formatter in before:
        handler.setFormatter(WithoutTracebacks(formatter))
        if terminal:
            handler.addFilter(is_worth_a_line)
    try:
        yield
    finally:
        for handler, formatter in before:
            handler.setFormatter(formatter)
            handler.removeFilter(is_worth_a_line)
