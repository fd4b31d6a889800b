"""Children that are really killed, at the begin of the function that they were asked for."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from storage.child_process import find
from storage.children import Child


def kill_or_call(number: int, function: str, *arguments: Any, **named: Any) -> Any:
    """In a child: end by a signal, or call the function for number 0."""
    if number:
        os.kill(os.getpid(), number)
    return find(function)(*arguments, **named)


def killing_children(
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    number: int,
    times: int | None = None,
    only: Callable[..., bool] = lambda *_: True,
) -> list[str]:
    """The first `times` (None: all) calls of a function in a child, of those whose arguments `only` takes,
    are killed; the names of its calls."""
    real, calls, killed = Child.call, list[str](), list[str]()

    def call(self: Child, name: str, *arguments: Any, **named: Any) -> Any:
        if name != function:
            return real(self, name, *arguments, **named)
        calls.append(name)
        if not only(*arguments) or len(killed) == times:
            return real(self, name, *arguments, **named)
        killed.append(name)
        return real(self, f"{__name__}:kill_or_call", number, name, *arguments, **named)

    monkeypatch.setattr(Child, "call", call)
    return calls
