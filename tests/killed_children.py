"""Children that are really killed, as the function that they were asked for begins or while it works."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.children.child import Child
from storage.children.process import find, given


def call_and_die(
    number: int, after_s: float, function: str, *arguments: Any, scratch: Path | None = None, **named: Any
) -> Any:
    """In a child: call the function and be ended by a signal, at once or while it works; never come back."""
    if after_s:
        subprocess.Popen(["sh", "-c", f"sleep {after_s}; kill -{int(number)} {os.getpid()}"])
        found = find(function)
        found(*arguments, **given(found, lambda *_: None, scratch), **named)
    os.kill(os.getpid(), number)


def killing_children(
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    number: int,
    times: int | None = None,
    only: Callable[..., bool] = lambda *_: True,
    after_s: float = 0.0,
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
        return real(self, f"{__name__}:call_and_die", number, after_s, name, *arguments, **named)

    monkeypatch.setattr(Child, "call", call)
    return calls
