"""Functions in a process of their own that may hang or crash without harm: the HDF5 library does both on
damaged files, and nothing in the same process can stop it.

    with Worker() as worker:
        description = worker.call("storage.inspection:describe", path, time_limit_s=20)

The process ends with its caller, however that one ends: it waits on a pipe that closes then.
"""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import IO, Any

_HEADER = struct.Struct("<BQ")
_NEWS, _RESULT, _ERROR = range(3)
_BLOCK = 1 << 20
START_LIMIT_S = 60.0  # to start Python and import what is called


class Stuck(RuntimeError):
    """A call that made no progress within its time limit, or ended its process. `at`: its last news."""

    def __init__(self, message: str, at: str = "") -> None:
        super().__init__(message)
        self.at = at


class Worker:
    """One process, started at the first call and again after one that was stuck. Calls come one by one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        function: str,
        *arguments: Any,
        time_limit_s: float,
        on_news: Callable[[str], None] | None = None,
        **named: Any,
    ) -> Any:
        """What `function` ("module:name", of this code) returns; it is given `watch`, a function of one text.

        The limit counts from where the function begins and from each `watch(text)`, which `on_news` gets.
        Raises Stuck, and what it raises.
        """
        with self._lock:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            try:
                _ask(process.stdin, (function, arguments, named))
                kind, value = _answer(process.stdout, time_limit_s, on_news)
            except _Closed as error:  # it is ending by itself
                returncode = process.wait()
                self.close()
                raise _ended(returncode, error.at) from None
            except BaseException:  # late, or the caller was interrupted: an answer would come at a wrong time
                self.close()
                raise
        if kind == _ERROR:
            raise value
        return value

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "storage.limited"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, "PYTHONPATH": _python_path()},
            )
        return self._process


class _Late(Stuck):
    pass


class _Closed(Stuck):
    pass


def _ask(stream: IO[bytes], request: Any) -> None:
    try:
        _send(stream, _NEWS, request)
    except BrokenPipeError:
        raise _Closed("ended") from None


def _ended(returncode: int, at: str) -> Stuck:
    why = signal.Signals(-returncode).name if returncode < 0 else f"exit status {returncode}"
    return Stuck(f"the process that read it ended ({why})", at)


def _answer(stream: IO[bytes], time_limit_s: float, on_news: Callable[[str], None] | None) -> tuple[int, Any]:
    """(kind, value) of the first answer that is no news."""
    news: str | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            limit_s = max(time_limit_s, START_LIMIT_S) if news is None else time_limit_s
            try:
                kind, value = _receive(stream, selector, time.monotonic() + limit_s)
            except _Late:
                raise _Late(f"no progress within {limit_s:g} s", news or "") from None
            except EOFError:
                raise _Closed("ended", news or "") from None
            if kind != _NEWS:
                return kind, value
            begins, news = news is None, value
            if on_news is not None and not begins:
                on_news(news)


def _receive(stream: IO[bytes], selector: selectors.BaseSelector, deadline: float) -> tuple[int, Any]:
    kind, size = _HEADER.unpack(_read(stream, selector, _HEADER.size, deadline))
    return kind, pickle.loads(_read(stream, selector, size, deadline))


def _read(stream: IO[bytes], selector: selectors.BaseSelector, size: int, deadline: float) -> bytes:
    found = bytearray()
    while len(found) < size:
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise _Late("late")
        part = os.read(stream.fileno(), min(_BLOCK, size - len(found)))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


def _send(stream: IO[bytes], kind: int, value: Any) -> None:
    content = pickle.dumps(value)
    whole = memoryview(_HEADER.pack(kind, len(content)) + content)
    while whole:
        whole = whole[os.write(stream.fileno(), whole) :]


def _python_path() -> str:
    root = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])


def _serve() -> None:
    """The process's side. What is printed goes to standard error: standard output carries answers.

    An interruption from the keyboard reaches the caller as well, whose end is this process's end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    requests: list[Any] = []
    there = threading.Semaphore(0)
    threading.Thread(target=_listen, args=(requests, there), daemon=True).start()
    while there.acquire():
        function, arguments, named = requests.pop(0)
        _send(answers, *_outcome(function, arguments, named, lambda text: _send(answers, _NEWS, text)))


def _listen(requests: list[Any], there: threading.Semaphore) -> None:
    """Take requests; when the pipe closes, end at once, whatever the other thread is doing."""
    try:
        while True:
            header = _exactly(_HEADER.size)
            requests.append(pickle.loads(_exactly(_HEADER.unpack(header)[1])))
            there.release()
    finally:
        os._exit(0)


def _exactly(size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = os.read(0, size - len(found))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


def _outcome(function: str, arguments: Any, named: Any, watch: Callable[[str], None]) -> tuple[int, Any]:
    try:
        module, _, name = function.partition(":")
        called = getattr(import_module(module), name)
        watch("")  # it begins
        return _RESULT, called(*arguments, watch=watch, **named)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return _ERROR, RuntimeError(f"{type(error).__name__}: {error}")
        return _ERROR, error


if __name__ == "__main__":
    _serve()
