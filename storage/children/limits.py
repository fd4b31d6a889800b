"""A question to a child and its answer, within time limits."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

from storage.children.wire import NEWS, REQUEST, Wire

START_LIMIT_S = 120.0
"""To start Python and import what is called."""
_LOOK_S = 1.0  # between two looks whether the process is alive


class Gone(Exception):
    """The process has ended."""


class Late(Exception):
    """A time limit is over."""


class Limits:
    """How long a call may go on; `at` is its last news."""

    def __init__(
        self, process: subprocess.Popen[bytes], time_limit_s: float | None, total_limit_s: float | None
    ) -> None:
        self._process, self._idle_s, self._total_s = process, time_limit_s, total_limit_s
        self._ends = {f"did not start within {START_LIMIT_S:g} s": time.monotonic() + START_LIMIT_S}
        self._dead_since: float | None = None
        self.at = ""

    def begin(self) -> None:
        """The function begins."""
        self._ends = {}
        if self._total_s is not None:
            self._ends[f"took longer than its limit of {self._total_s:g} s"] = (
                time.monotonic() + self._total_s
            )
        self.progress("")

    def progress(self, at: str) -> None:
        """There is news."""
        self.at = at
        if self._idle_s is not None:
            self._ends[f"made no progress within {self._idle_s:g} s"] = time.monotonic() + self._idle_s

    def patience(self) -> float:
        """Seconds until the next look. Raises Late, and Gone where nothing can come any more."""
        now = time.monotonic()
        for what, end in self._ends.items():
            if now >= end:
                raise Late(f"the child process {what}")
        if self._process.poll() is not None:  # a process that it started may hold the connection open
            self._dead_since = self._dead_since or now
            if now - self._dead_since > _LOOK_S:
                raise Gone
        return min([_LOOK_S, *(end - now for end in self._ends.values())])


def answer(wire: Wire, request: Any, limits: Limits, on_news: Callable[..., None] | None) -> tuple[int, Any]:
    """(kind, value) of the first answer that is no news. Raises Gone, Late, and what `on_news` raises."""
    begun = False
    try:
        wire.send(REQUEST, request, limits.patience)
    except OSError:
        raise Gone from None
    while True:
        try:
            kind, value = wire.receive(limits.patience)
        except (EOFError, OSError):
            raise Gone from None
        if kind != NEWS:
            return kind, value
        if not begun:
            begun = True
            limits.begin()
            continue
        if on_news is not None:
            on_news(*value)
        limits.progress(" ".join(map(str, value)))
