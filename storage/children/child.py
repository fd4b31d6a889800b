"""Work in a process of its own, which may hang, abort or be killed without harm: the one way to start one.

    with Child("cluster 12") as child:
        first = child.call("storage.inspect.describe:describe", path, time_limit_s=20)

    reply = run_child("sfm.mapping:_map", request, label="cluster 12", total_limit_s=1800)

A child imports the function and calls it; arguments and answers are pickled between our own processes. It
ends with its parent, however that one ends, and every process that it started with it.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.children.errors import (
    ChildCancelled,
    ChildFailed,
    ChildLate,
    ChildOverMemory,
    labelled,
    lost,
)
from storage.children.limits import Gone, Late, Limits, answer
from storage.children.process import find, given
from storage.children.running import Running
from storage.children.wire import ERROR, OVER_MEMORY

logger = logging.getLogger(__name__)

_LIVE: weakref.WeakSet[Child] = weakref.WeakSet()
_LIVE_LOCK, _ENDING = threading.Lock(), threading.Event()


class Child:
    """One process, started at the first call and again after one that was lost. Calls come one by one.

    label: names the work in errors; threads: of native code (OMP_NUM_THREADS), None = as the environment has
    it; scratch: whether its functions are given a folder, or where that folder goes; idle_s: ended so many
    seconds after the last call.
    """

    def __init__(
        self,
        label: str = "",
        *,
        threads: int | None = None,
        environment: Mapping[str, str] | None = None,
        scratch: bool | Path = False,
        idle_s: float | None = None,
    ) -> None:
        self.label = label
        self._idle_s = idle_s
        self._timer: threading.Timer | None = None
        self._environment = dict(environment or {}) | ({} if threads is None else _threads(threads))
        self._scratch = scratch
        self._running: Running | None = None
        self._lock = threading.RLock()
        with _LIVE_LOCK:
            _LIVE.add(self)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    @property
    def pid(self) -> int | None:
        """Of the process, None where none is running."""
        return None if self._running is None else self._running.process.pid

    def call(
        self,
        function: str,
        *arguments: Any,
        time_limit_s: float | None = None,
        total_limit_s: float | None = None,
        memory_limit_bytes: int | None = None,
        on_news: Callable[..., None] | None = None,
        **named: Any,
    ) -> Any:
        """What `function` ("module:name", of this code) returns.

        Where it has a parameter `watch` or `progress` it is given a callback, whose arguments `on_news` gets;
        `scratch`: see the class. time_limit_s counts from its begin and from each news, total_limit_s from
        its begin alone; memory_limit_bytes beside what the process has at the begin. Raises what it raises,
        in the same class, and ChildFailed: ChildKilled, ChildEnded, ChildLate, ChildOverMemory,
        ChildCancelled.
        """
        request = (function, arguments, named, memory_limit_bytes)
        with self._lock, self._idle_afterwards(self._idle_s):
            running = self._started(function)
            limits = Limits(running.process, time_limit_s, total_limit_s)
            try:
                kind, value = answer(running.wire, request, limits, on_news)
            except Gone:
                raise self._lost(running, limits.at, memory_limit_bytes) from None
            except Late as late:
                raise ChildLate(str(late), self.label, limits.at, self._end()) from None
            except BaseException:  # interrupted: an answer would come at a wrong time
                self._end()
                raise
        if kind == OVER_MEMORY:
            raise ChildOverMemory(_over(memory_limit_bytes), self.label, limits.at)
        if kind == ERROR:
            raise labelled(value, self.label)
        return value

    def prepare(self, *modules: str, idle_s: float | None = None) -> None:
        """Start the process and import modules there, ahead of a first call within `idle_s` seconds."""
        with self._lock, self._idle_afterwards(idle_s):
            self.call("storage.children.process:prepare", *modules)

    def close(self) -> None:
        """End the process once no call is under way; another call would start it again."""
        with self._lock:
            self._end()

    def cancel(self) -> None:
        """End the process at once; a call that is under way in another thread raises ChildCancelled."""
        running = self._running
        if running is not None:
            running.cancel()
        self.close()

    @contextmanager
    def _idle_afterwards(self, idle_s: float | None) -> Iterator[None]:
        if self._timer is not None:
            self._timer.cancel()
        try:
            yield
        finally:
            if idle_s is not None:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = threading.Timer(idle_s, self._end_idle)
                self._timer.daemon = True
                self._timer.start()

    def _end_idle(self) -> None:
        with self._lock:
            if threading.current_thread() is self._timer:
                self._end()

    def _started(self, function: str) -> Running:
        check_not_ending()
        if self._running is None or self._running.process.poll() is not None:
            self._end()
            self._running = Running(function, self._environment, self._scratch)
            if _ENDING.is_set():
                self._running.cancel()
        return self._running

    def _end(self) -> str:
        running, self._running = self._running, None
        return "" if running is None else running.end()

    def _lost(self, running: Running, at: str, memory_limit_bytes: int | None) -> ChildFailed:
        """Why a process is gone that should have answered."""
        returncode = running.returncode()
        log = self._end()
        if running.cancelled:
            return ChildCancelled("cancelled", self.label, at)
        if memory_limit_bytes is not None and "bad_alloc" in log:
            return ChildOverMemory(_over(memory_limit_bytes), self.label, at, log)
        return lost(returncode, self.label, at, log)


def run_child(
    function: str,
    *arguments: Any,
    label: str,
    threads: int | None = 1,
    scratch: bool | Path = True,
    environment: Mapping[str, str] | None = None,
    **more: Any,
) -> Any:
    """One call of a function in a child of its own; see `Child` and `Child.call`."""
    started = time.monotonic()
    with Child(label, threads=threads, scratch=scratch, environment=environment) as child:
        found = child.call(function, *arguments, **more)
    logger.debug("%s: ended after %.1f s", label, time.monotonic() - started)
    return found


def call_here(
    function: str, *arguments: Any, on_news: Callable[..., None] = lambda *_: None, **named: Any
) -> Any:
    """The same function in this process, without limits."""
    found = find(function)
    return found(*arguments, **given(found, on_news, None), **named)


def cancel_children() -> None:
    """End every child of this process, which is ending itself; no call starts one from now on."""
    _ENDING.set()
    with _LIVE_LOCK:
        children = list(_LIVE)
    for child in children:
        if (running := child._running) is not None:
            running.cancel()


def allow_children() -> None:
    """Children may be started again: the process goes on after all."""
    _ENDING.clear()


def check_not_ending() -> None:
    """Raises ChildCancelled after `cancel_children`."""
    if _ENDING.is_set():
        raise ChildCancelled("not started any more: this process is ending")


def _threads(count: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(count)}


def _over(limit_bytes: int | None) -> str:
    return f"the child process wanted more memory than {(limit_bytes or 0) / 2**20:,.0f} MiB"
