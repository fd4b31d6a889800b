"""Server, work pool, deployments and worker in one process tree: what `retrieval-sfm up` keeps running."""

import logging
import os
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from flows.server.access import serving_settings, sign_in_address
from flows.server.children import ROOT, start_module
from flows.server.context import environment, prefect_settings
from flows.server.deployments import POOL, install
from flows.server.keys import CLIENT_KEY, KeyNotUsable, client_key_settings
from flows.server.reconcile import WORKER, reconcile_if_possible, register_worker
from flows.server.server import LastingServer, announced, serving
from flows.server.settings import prepare_home, worker_settings
from storage.files.locks import FileLock

logger = logging.getLogger(__name__)

MARK = "RETRIEVAL_SFM_UP"
"""Variable in the environment of every process under the worker: theirs even when its parent is gone."""
RECONCILE_EVERY_S = 20.0
WORKER_LIMIT_S = 20.0
RUNS_LIMIT_S = 15.0
RESTART_DELAY_S = 2.0


class AlreadyUp(ValueError):
    """Another `up` serves this store."""


@dataclass(frozen=True)
class Request:
    """What `up` is asked for. photos: default of the end-to-end flow's form; names: under which the server is
    reached besides its address."""

    store: Path
    host: str = "127.0.0.1"
    port: int = 4200
    photos: Path | None = None
    names: tuple[str, ...] = ()

    def variables(self) -> dict[str, str]:
        """What prefect.yaml fills into the forms."""
        found = {"RETRIEVAL_SFM_STORE": str(self.store)}
        return found if self.photos is None else {**found, "RETRIEVAL_SFM_PHOTOS": str(self.photos)}


class Worker:
    """Prefect's process worker in a child process, and every process under it."""

    def __init__(self, home: Path, settings: dict[str, str]) -> None:
        self._home, self.log = home, home / "worker.log"
        self._settings = settings
        self._mark = uuid.uuid4().hex
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        name = f"{WORKER}{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        words, inherited = [POOL, name, str(os.getpid())], {**os.environ, **self._settings, MARK: self._mark}
        process = start_module("flows.server.worker_process", words, self.log, inherited, cwd=ROOT)
        register_worker(self._home, name, process.pid)
        return process

    def restart(self) -> None:
        """A new worker in place of one that ended; what that one had started is killed."""
        code = self.process.wait()
        logger.warning("the worker ended with code %d; its runs end too, and a new one starts", code)
        self._close()
        self.kill_rest()
        self.process = self._start()

    def stop(self) -> None:
        """End the runs, then the worker; what does not end in time is killed."""
        for pid in self._pids():
            if pid != self.process.pid:
                _signal(pid, signal.SIGTERM)
        _wait_until(lambda: self._pids() <= {self.process.pid}, RUNS_LIMIT_S)
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(WORKER_LIMIT_S)
        self.kill_rest()
        self.process.wait()
        self._close()

    def kill_rest(self) -> None:
        """Kill every process that this worker's processes started and that still runs."""
        for pid in self._pids():
            _signal(pid, signal.SIGKILL)
        _wait_until(lambda: not self._pids(), RUNS_LIMIT_S)

    def _close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _pids(self) -> set[int]:
        import psutil

        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.add(process.pid)
        return found


def up(request: Request, say: Callable[[str], None], stop: threading.Event) -> None:
    """Serve until `stop` is set, then end everything that was started.

    say: one line at a time for the person at the terminal. Raises AlreadyUp, PortTaken, StoreNotWritable,
    KeyNotUsable, ServerFailed, DeploymentsFailed.
    """
    home = prepare_home(request.store)
    with ExitStack() as stack:
        stack.callback(_only_one(home, request.store).release)
        stack.enter_context(environment({}))
        server = LastingServer(request.store, request.host, request.port, request.names)
        stack.callback(server.stop)
        say(f"starting the server; log: {server.log}")
        server.wait()
        settings = worker_settings(home, server.api_url) | client_key_settings(server.key)
        stack.enter_context(environment(settings))
        stack.enter_context(prefect_settings(settings, heartbeats=True))
        names = install({**settings, **request.variables()})
        stack.enter_context(announced(home, server.api_url, server.users_key))
        stack.callback(reconcile_if_possible, home)
        worker = Worker(home, settings)
        stack.callback(worker.stop)
        say(f"{len(names)} deployments: {', '.join(names)}")
        say(f"sign in with a browser, once, within an hour: {sign_in_address(server.api_url, server.key)}")
        say(f"Prefect UI: {server.api_url.removesuffix('/api')}   store: {request.store}   Ctrl-C ends it")
        _watch(home, server, worker, stop)
        say("ending: runs, worker, server")


def _only_one(home: Path, store: Path) -> FileLock:
    """The lock of the only `up` of a store, held also while it starts and ends. Raises AlreadyUp."""
    lock = FileLock(home / "up.lock", "up")
    if lock.try_acquire():
        return lock
    api_url = serving(home)
    if api_url is None:
        raise AlreadyUp(f"another `up` of {str(store)!r} is starting or ending; wait for it")
    where = f"{str(store)!r} is already served at {api_url.removesuffix('/api')}"
    with suppress(KeyNotUsable, OSError):
        where += f"; sign in with a browser: {sign_in_address(api_url, serving_settings(home)[CLIENT_KEY])}"
    raise AlreadyUp(where)


def _watch(home: Path, server: LastingServer, worker: Worker, stop: threading.Event) -> None:
    """Until `stop`: a worker that ended is replaced, runs of killed processes are marked.

    Raises ServerFailed (by `wait`) when the server ended.
    """
    last = 0.0
    while not stop.wait(0.5):
        if server.process.poll() is not None:
            server.wait(0.0)
        if worker.process.poll() is not None:
            if stop.wait(RESTART_DELAY_S):
                return
            worker.restart()
            last = 0.0
        if time.monotonic() - last > RECONCILE_EVERY_S:
            reconcile_if_possible(home)
            last = time.monotonic()


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _wait_until(condition: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
