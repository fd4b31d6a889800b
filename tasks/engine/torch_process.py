"""Work with torch in a process of its own, which ends after the last call: the half a gigabyte that torch
takes is there again for matching and mapping. A process that holds torch already does the work itself."""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from storage.children.child import Child, call_here
from storage.children.patience import patiently

IDLE_S = 2.0
READY_S = 20.0  # kept for its first call when it is started ahead
TIME_LIMIT_S = 3600.0  # without any news; weights may be downloading

_CHILD = Child("work with torch", idle_s=IDLE_S)
_MODULES = ("retrieval.describe.describe", "retrieval.networks.network")


def with_torch(
    function: str, *arguments: Any, on_news: Callable[..., None] = lambda *_: None, **named: Any
) -> Any:
    """What `function` ("module:name" of this code) returns. Its progress is news; arguments, result and
    errors are pickled. Raises ChildFailed, and what `function` raises."""
    if "torch" in sys.modules:
        return call_here(function, *arguments, on_news=on_news, **named)
    return patiently(
        lambda: _CHILD.call(function, *arguments, time_limit_s=TIME_LIMIT_S, on_news=on_news, **named)
    )


def start_torch_process() -> None:
    """Begin to start it, beside what the caller does: for a caller that knows that torch is needed soon."""

    def start() -> None:
        with suppress(Exception):  # the call that needs it says why
            _CHILD.prepare(*_MODULES, idle_s=READY_S)

    if "torch" not in sys.modules:
        threading.Thread(target=start, name="torch", daemon=True).start()


def end_torch_process() -> None:
    """Give back the memory of torch, where a process of its own has it."""
    _CHILD.close()
