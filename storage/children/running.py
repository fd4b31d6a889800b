"""A child process that runs: its connection, its folder, the end of what it prints, and how it is ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from storage.children.wire import Wire
from storage.files.scratch import scratch_folder

_END_LIMIT_S = 1.0
_LOG_BYTES, _LOG_LINES = 16_384, 12


class Running:
    """One process of `storage.children.process`, the first of a session of its own. `cancelled`: it was ended
    because its answer is not wanted."""

    def __init__(self, function: str, environment: Mapping[str, str], scratch: bool | Path) -> None:
        """function: the first that is asked for; lists of processes show it."""
        self.cancelled = False
        self._log = b""
        self._stack = ExitStack()
        with ExitStack() as stack:
            folder = ""
            if scratch is not False:
                parent = scratch if isinstance(scratch, Path) else None
                folder = str(stack.enter_context(scratch_folder("child", parent)))
            mine, its = socket.socketpair()
            stack.callback(mine.close)
            with its:
                self.process = subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-m", "storage.children.process"),
                        *(str(its.fileno()), folder, function),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[its.fileno()],
                    start_new_session=True,
                    bufsize=0,
                    env={**_environment(), **environment},
                )
            self._stack = stack.pop_all()
        self.wire = Wire(mine)
        self._listener = threading.Thread(target=self._listen, daemon=True, name="log of a child")
        self._listener.start()

    def cancel(self) -> None:
        """End it, from any thread; who waits for its answer finds it gone."""
        self.cancelled = True
        self._kill()

    def returncode(self) -> int:
        """Its exit status, negative for a signal; it is ended where it does not end by itself."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(_END_LIMIT_S)
        self._kill()
        return self.process.wait()

    def end(self) -> str:
        """End it and every process that it started, remove its folder; the end of what it printed."""
        self._kill()
        self.process.wait()
        self._listener.join(_END_LIMIT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not (pipe is self.process.stdout and self._listener.is_alive()):
                pipe.close()
        self._stack.close()
        return "\n".join(self._log.decode(errors="replace").splitlines()[-_LOG_LINES:])

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        while part := os.read(self.process.stdout.fileno(), _LOG_BYTES):
            self._log = (self._log + part)[-_LOG_BYTES:]


def _environment() -> dict[str, str]:
    """This process's, with this code importable from any folder.

    What COLMAP logs goes to the child's log alone; by default it leaves a file in the temporary folder too.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "GLOG_logtostderr": "1"}
