"""A child that a signal killed is tried again, then alone: the kernel kills when memory is short, and that
need not be the work's fault."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from storage.children.child import check_not_ending, run_child
from storage.children.errors import ChildKilled

logger = logging.getLogger(__name__)

T = TypeVar("T")
MORE_MEMORY = (
    "each time; give it more memory, or lower resources.workers, and run again: what is finished is kept"
)
_LOOK_S = 0.5


def run_patiently(function: str, *arguments: Any, label: str, **more: Any) -> Any:
    """`run_child`, three times where a signal kills the child. Raises what it raises."""
    return patiently(lambda: run_child(function, *arguments, label=label, **more))


def patiently(work: Callable[[], T], alone: Callable[[], T] | None = None) -> T:
    """What `work`, which waits for a child, returns: tried again where a signal kills the child, and then
    `alone`, by default the same, while no other such work of this process is under way.

    Raises ChildKilled after that.
    """
    try:
        return twice(lambda: _COMPANY.beside_others(work))
    except ChildKilled as killed:
        logger.warning("%s; trying with nothing beside it", killed)
    try:
        return _COMPANY.alone(alone or work)
    except ChildKilled as killed:
        raise killed if killed.crashed else killed.with_remedy(MORE_MEMORY) from killed


def twice(work: Callable[[], T]) -> T:
    """What `work` returns, tried again where a signal kills the child."""
    try:
        return work()
    except ChildKilled as killed:
        logger.warning("%s; trying again", killed)
        return work()


class _Company:
    """Who works at the same time: many beside each other, or one alone, for whom no one else begins."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = self._waiting = 0

    def beside_others(self, work: Callable[[], T]) -> T:
        with self._changed:
            self._until(lambda: not self._waiting)
            self._working += 1
        try:
            return work()
        finally:
            self._change(working=-1)

    def alone(self, work: Callable[[], T]) -> T:
        self._change(waiting=+1)
        try:
            with self._changed:
                self._until(lambda: not self._working)
                self._working += 1
            try:
                return work()
            finally:
                self._change(working=-1)
        finally:
            self._change(waiting=-1)

    def _change(self, working: int = 0, waiting: int = 0) -> None:
        with self._changed:
            self._working += working
            self._waiting += waiting
            self._changed.notify_all()

    def _until(self, free: Callable[[], bool]) -> None:
        while not self._changed.wait_for(free, _LOOK_S):
            check_not_ending()


_COMPANY = _Company()
