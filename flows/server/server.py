"""A Prefect server for one command, in a child process that cannot outlive it for long."""

import errno
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from flows.server.children import identity, is_alive, read_record, start_module, write_record
from flows.server.keys import key_of_up, new_key, server_key_settings
from flows.server.settings import STARTUP_LIMIT_S, lasting_server_settings, prepare_home, server_settings

STOP_LIMIT_S = 30.0
RESTARTS = 3
logger = logging.getLogger(__name__)


class ServerFailed(RuntimeError):
    """The server did not start."""


class PortTaken(ValueError):
    """The port that a server should listen on is another program's."""


class TemporaryServer:
    """A Prefect server on a free port of the loopback interface; its database is
    `<store>/prefect/prefect.db`. It answers to a key that this process alone knows.

    Two of them on one store share the database file. Created, it is starting; `wait` returns when it answers.
    Raises StoreNotWritable.
    """

    kind = "temporary"

    def __init__(
        self, store: Path, host: str = "127.0.0.1", port: int = 0, names: tuple[str, ...] = ()
    ) -> None:
        self.home = prepare_home(store)
        stop_orphans(self.home)
        self.log = self.home / "server.log"
        self.host, self.names = host, names
        self.key, self.users_key = self._choose_key()
        self._lock, self._stopped = threading.Lock(), False
        self._listening = _listening_socket(host, port)
        self.port: int = self._listening.getsockname()[1]
        self._start()

    @property
    def api_url(self) -> str:
        return f"http://{address_of(self.host)}:{self.port}/api"

    def _choose_key(self) -> tuple[str, bool]:
        return new_key(), False

    def settings(self) -> dict[str, str]:
        """Variables of the server's process."""
        return server_settings(self.home)

    def _start(self) -> None:
        self.process = self._spawn(self._listening.fileno())
        server, owner = identity(self.process.pid), identity(os.getpid())
        path = self.home / "servers" / f"{self.process.pid}.json"
        self._pid_file = write_record(path, server=server, owner=owner)

    def keep_running(self) -> None:
        """Whenever the process ends by itself, start it again, a few times: under the same key and on the
        same socket, in which requests wait meanwhile. What it does not know any more, the run tells it again.
        """
        threading.Thread(target=self._restart, daemon=True, name="server").start()

    def _restart(self) -> None:
        for _ in range(RESTARTS):
            code = self.process.wait()
            with self._lock:
                if self._stopped:
                    return
                logger.warning("the Prefect server ended with code %d and is started again", code)
                self._clear()
                try:
                    self._start()
                except OSError as error:
                    logger.error("the Prefect server cannot be started again: %s", error)
                    break
        self._listening.close()  # requests fail at once rather than wait for nobody

    def _spawn(self, listening: int) -> subprocess.Popen[bytes]:
        inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        inherited |= server_key_settings(self.key, self.api_url.removesuffix("/api")) | self.settings()
        words = [str(listening), str(os.getpid()), self.kind, self.host, *self.names]
        return start_module("flows.server.process", words, self.log, inherited, pass_fds=[listening])

    def wait(self, limit_s: float = STARTUP_LIMIT_S) -> None:
        """Returns when the server answers. Raises ServerFailed with the end of its log."""
        deadline = time.monotonic() + limit_s
        opener = build_opener(ProxyHandler({}))
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with suppress(URLError, OSError), opener.open(f"{self.api_url}/health", timeout=2.0) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.05)
        code = self.process.poll()
        self.stop()
        state = f"ended with code {code}" if code is not None else f"did not answer within {limit_s:.0f} s"
        raise ServerFailed(f"the {self.kind} Prefect server {state}; log: {self.log}\n{_tail(self.log)}")

    def stop(self) -> None:
        """End the server in order, or after a few seconds by force."""
        with self._lock:
            self._stopped = True
        self._listening.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._clear()

    def _clear(self) -> None:
        """Let go of a process that has ended."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self._pid_file.unlink(missing_ok=True)


class LastingServer(TemporaryServer):
    """The Prefect server of `retrieval-sfm up`: with the UI, schedules, events and automations. Its key is
    the user's, else the store's.

    names: further names under which it is reached. Raises StoreNotWritable, PortTaken, KeyNotUsable.
    """

    kind = "lasting"

    def _choose_key(self) -> tuple[str, bool]:
        return key_of_up(self.home)

    def settings(self) -> dict[str, str]:
        return lasting_server_settings(self.home, self.host, self.port)


def address_of(host: str) -> str:
    """The address under which this machine reaches a server that listens on `host`."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"
    return f"[{host}]" if ":" in host else host


def serving(home: Path) -> str | None:
    """The API address of the `up` that serves the store with this Prefect home, None where there is none."""
    record = read_record(home / "up.json")
    here = record.get("machine") == socket.gethostname() and is_alive(record.get("owner"))
    return str(record["api_url"]) if here and "api_url" in record else None


@contextmanager
def announced(home: Path, api_url: str, users_key: bool = False) -> Iterator[None]:
    """The file by which `serving` finds this process.

    users_key: the key is one that the user has set; no key is in the file.
    """
    owner = identity(os.getpid())
    path = write_record(home / "up.json", api_url=api_url, owner=owner, users_key=users_key)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def stop_orphans(home: Path) -> list[int]:
    """Kill servers of earlier commands on this store whose command is gone; their process ids."""
    killed = []
    for path in (home / "servers").glob("*.json"):
        record = read_record(path)
        if record and (record.get("machine") != socket.gethostname() or is_alive(record.get("owner"))):
            continue
        server: Any = record.get("server")
        if is_alive(server):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(server["pid"], signal.SIGKILL)
                killed.append(server["pid"])
        path.unlink(missing_ok=True)
    return killed


def _listening_socket(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"port {port} of {host} is taken by another program, perhaps another Prefect server; "
                "end that one, or choose another --port"
            ) from error
        raise PortTaken(f"{host}:{port}: {error.strerror}; choose another --host or --port") from error
    return listening


def _tail(path: Path, lines: int = 20) -> str:
    with suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""
