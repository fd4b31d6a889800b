"""The child's side of `storage.children`: `python -m storage.children.process CONNECTION SCRATCH FUNCTION`;
SCRATCH may be empty, FUNCTION is for people who list processes.

Standard input is a pipe whose other end only the parent holds, and on which nothing is ever sent: it closes
when the parent ends, however it ends, and with it this process and all that it started.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import inspect
import os
import pickle
import re
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from storage.children.wire import ERROR, NEWS, OVER_MEMORY, RESULT, Wire
from storage.files.scratch import remove_in_stead

NEWS_PARAMETERS = ("watch", "progress")
_NO_MEMORY = re.compile(
    r"memory allocation failed|(can't|cannot|unable to) allocate|bad_alloc", re.IGNORECASE
)
_LINUX = sys.platform == "linux"


def main() -> None:
    """Answer requests until the parent wants no more."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    scratch = Path(sys.argv[2]) if sys.argv[2] else None
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever is interrupted ends this process
    _end_for_certain()
    threading.Thread(target=_end_with_parent, args=(scratch,), daemon=True).start()
    wire, lock = Wire(connection), threading.Lock()

    def say(*news: Any) -> None:
        with lock:
            wire.send(NEWS, news)

    with suppress(EOFError, OSError):
        while True:
            _, request = wire.receive()
            kind, value = _outcome(request, say, scratch)
            with lock:
                wire.send(kind, value)
            del request, value  # they may be large
    signal.pause()  # the parent is about to end this process


def given(function: Callable[..., Any], say: Callable[..., None], scratch: Path | None) -> dict[str, Any]:
    """What a function is given beside its arguments, where it has such parameters: `watch` or `progress`, a
    callback whose arguments become news, and `scratch`, a folder."""
    takes = inspect.signature(function).parameters
    found: dict[str, Any] = {name: say for name in NEWS_PARAMETERS if name in takes}
    return found | ({"scratch": scratch} if "scratch" in takes and scratch is not None else {})


def find(function: str) -> Callable[..., Any]:
    """A function by its name, "module:function"."""
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def prepare(*modules: str) -> None:
    """Import modules ahead of the functions that need them."""
    for module in modules:
        import_module(module)


def _outcome(request: Any, say: Callable[..., None], scratch: Path | None) -> tuple[int, Any]:
    name, arguments, named, limit_bytes = request
    try:
        function = find(name)
        more = given(function, say, scratch)
        with _memory_limit(limit_bytes):
            say()  # it begins
            return RESULT, function(*arguments, **more, **named)
    except Exception as error:
        if limit_bytes is not None and _is_over_memory(error):
            return OVER_MEMORY, None
        traceback.print_exc()
        return ERROR, _portable(error)


def _portable(error: Exception) -> Exception:
    """The error itself where it can be sent, else its text."""
    error.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def _memory_limit(limit_bytes: int | None) -> Iterator[None]:
    """Inside, the process cannot have more than this much memory of its own beside what it has now."""
    if limit_bytes is None or not _LINUX:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = pages * resource.getpagesize() + limit_bytes
    if before[1] != resource.RLIM_INFINITY:
        limit = min(limit, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _is_over_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return _NO_MEMORY.search(str(error)) is not None


def _end_for_certain() -> None:
    """Native code that holds the interpreter keeps every thread of ours from running: then the kernel ends
    this process, three seconds after its parent.

    It sends SIGQUIT, number 3, to all of the group when the pipe closes; a handler is called with the number
    of its signal, and this one is the C library's `alarm`.
    """
    if not _LINUX:
        return
    library = ctypes.CDLL(None)
    library.signal(signal.SIGQUIT, library.alarm)
    fcntl.fcntl(0, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGQUIT)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _end_with_parent(scratch: Path | None) -> None:
    """When the pipe closes, clean up in the parent's stead and end, with every process under this one."""
    with suppress(OSError):
        while os.read(0, 1):
            pass
    try:
        if scratch is not None:
            remove_in_stead(scratch)
    finally:
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


if __name__ == "__main__":
    main()
