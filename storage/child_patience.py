"""A child that a signal killed is tried again, then alone: the kernel kills when memory is short, and that
need not be the work's fault."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from storage.children import ChildKilled, check_not_ending, run_child

logger = logging.getLogger(__name__)

T = TypeVar("T")
_LOOK_S = 0.5


def run_patiently(function: str, *arguments: Any, label: str, **more: Any) -> Any:
    """`run_child`, three times where a signal kills the child. Raises what it raises."""
    return patiently(lambda: run_child(function, *arguments, label=label, **more))


def patiently(work: Callable[[], T]) -> T:
    """What `work`, which waits for a child, returns: tried again where a signal kills the child, and then
    once more while no other such work of this process is under way. Raises ChildKilled after that."""
    for again in ("trying again", "trying again, with nothing beside it"):
        try:
            with _COMPANY.beside_others():
                return work()
        except ChildKilled as killed:
            logger.warning("%s; %s", killed, again)
    with _COMPANY.alone():
        return work()


class _Company:
    """Who works at the same time: many beside each other, or one alone, who does not wait for ever."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = self._waiting = 0

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        with self._changed:
            self._until(lambda: not self._waiting)
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting += 1
            try:
                self._until(lambda: not self._working)
                self._working += 1
            except BaseException:
                self._waiting -= 1
                self._changed.notify_all()
                raise
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._waiting -= 1
                self._changed.notify_all()

    def _until(self, free: Callable[[], bool]) -> None:
        while not self._changed.wait_for(free, _LOOK_S):
            check_not_ending()


_COMPANY = _Company()
