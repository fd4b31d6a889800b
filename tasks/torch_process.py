"""Work with torch in a process of its own, which ends after the last call: the half a gigabyte that torch
takes is there again for matching and mapping. A process that holds torch already does the work itself."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from importlib import import_module
from typing import Any

from storage.limited import Stuck, Worker

IDLE_S = 2.0
READY_S = 20.0  # kept for its first call when it is started ahead
TIME_LIMIT_S = 3600.0  # without any news; weights may be downloading


class TorchProcessLost(BrokenExecutor):
    """The process died, killed for its memory perhaps, or hung: worth another try."""


class TorchProcess:
    """One process, started at a call and ended `idle_s` seconds after the last one. Calls come one by one."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._worker = Worker()
        self._lock = threading.Lock()
        self._idle_s = idle_s
        self._timer: threading.Timer | None = None

    def call(self, function: str, *arguments: Any, on_news: Callable[[str], None], **named: Any) -> Any:
        """See `storage.limited.Worker.call`. Raises TorchProcessLost, and what `function` raises."""
        return self._call(self._idle_s, function, *arguments, on_news=on_news, **named)

    def start(self, ready_s: float = READY_S) -> None:
        """Start the process and import torch there now, for a first call within `ready_s` seconds."""
        with suppress(Exception):  # the call that needs it says why
            self._call(ready_s, "retrieval.watched:ready", on_news=lambda _: None)

    def _call(
        self, idle_s: float, function: str, *arguments: Any, on_news: Callable[[str], None], **named: Any
    ) -> Any:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            try:
                return self._worker.call(
                    function, *arguments, time_limit_s=TIME_LIMIT_S, on_news=on_news, **named
                )
            except Stuck as error:
                raise TorchProcessLost(f"{function}: {error} (at {error.at or 'the start'})") from error
            finally:
                self._timer = threading.Timer(idle_s, self._end_idle)
                self._timer.daemon = True
                self._timer.start()

    def end(self) -> None:
        """End the process now, once no call is under way."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._worker.close()

    def _end_idle(self) -> None:
        with self._lock:
            if threading.current_thread() is self._timer:
                self._worker.close()


_PROCESS = TorchProcess()


def with_torch(
    function: str, *arguments: Any, on_news: Callable[[str], None] = lambda _: None, **named: Any
) -> Any:
    """What `function` ("module:name" of this code) returns. It is given `watch`, whose texts `on_news` gets;
    arguments, result and errors are pickled. Raises TorchProcessLost, and what `function` raises."""
    if "torch" not in sys.modules:
        return _PROCESS.call(function, *arguments, on_news=on_news, **named)
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)(*arguments, watch=on_news, **named)


def start_torch_process() -> None:
    """Begin to start it, beside what the caller does: for a caller that knows that torch is needed soon."""
    if "torch" not in sys.modules:
        threading.Thread(target=_PROCESS.start, name="torch", daemon=True).start()


def end_torch_process() -> None:
    """Give back the memory of torch, where a process of its own has it."""
    _PROCESS.end()
