"""What a command needs around its flows: a Prefect API, settings for its store, a log file, bars on a
terminal.

    with session(store) as command:
        from flows.end_to_end import end_to_end      # imports Prefect while the server starts

        record = command.run(end_to_end, photos=photos, store=str(store), options=options)

Importing this module does not import Prefect.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flows.server.access import serving_settings
from flows.server.configured_api import check, configured_api
from flows.server.keys import client_key_settings
from flows.server.proxies import no_proxy
from flows.server.reconcile import reconcile, registered
from flows.server.server import TemporaryServer, serving
from flows.server.settings import client_settings, logging_settings, prepare_home
from flows.terminal.console import tell
from storage.files.scratch import sweep_scratch

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


@dataclass
class Session:
    """A command that is running: its store, where its log is, and the tag of its flow runs."""

    store: Path
    log: Path
    tag: str
    server: TemporaryServer | None
    settings: dict[str, str]
    stack: ExitStack
    ready: bool = False

    def open(self) -> None:
        """Wait for the API, apply the settings and mark what killed commands left behind. Safe to repeat."""
        if self.ready:
            return
        if self.server is not None:
            self.server.wait()
            self.server.keep_running()
        self.stack.enter_context(prefect_settings(self.settings, heartbeats=self.server is None))
        self.stack.enter_context(_log_file(self.log))  # Prefect, when it is imported, takes handlers away
        self.stack.callback(_send_what_waits)
        sweep_scratch()
        if crashed := reconcile(self.store / "prefect"):
            logger.warning("%d runs of killed commands are now marked Crashed", crashed)
        self.ready = True

    def run(self, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Call a flow (or anything that calls flows) with this command's API, settings and tag."""
        from prefect import tags

        self.open()
        with tags(self.tag):
            return function(*args, **kwargs)


@contextmanager
def session(store: str | os.PathLike[str], *, log_level: str = "INFO") -> Iterator[Session]:
    """Start what a command on `store` needs; it starts in the background and `run` waits for it.

    Uses the Prefect server that the user configured (PREFECT_API_URL or one of Prefect's files), else that of
    an `up` on this store, else a temporary one. Raises StoreNotWritable, ApiUnusable, OSError where there is
    no room for a log; `run` raises ServerFailed.
    """
    root = Path(store).absolute()
    home = prepare_home(root)
    users, server = configured_api(), None
    settings = logging_settings(log_level)
    with ExitStack() as stack:
        stack.enter_context(environment({}))
        lasting = serving(home)
        if lasting is not None and (users is None or users.url == lasting):
            settings |= client_settings(home, lasting) | serving_settings(home)
        elif users is not None:
            stack.enter_context(environment(settings))
            check(users)
            settings["PREFECT_API_URL"] = users.url
        else:
            server = TemporaryServer(root)
            stack.callback(server.stop)
            settings |= client_settings(home, server.api_url) | client_key_settings(server.key)
        tag = stack.enter_context(registered(home))
        log = home / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{tag[-6:]}.log"
        stack.enter_context(environment(settings))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        yield Session(root, log, tag, server, settings, stack)


@contextmanager
def environment(settings: dict[str, str]) -> Iterator[None]:
    """Variables for Prefect, if it is not imported yet, and for child processes; no proxy stands between them
    and a server on this machine, or that of the settings."""
    settings = {**no_proxy(settings.get("PREFECT_API_URL")), **settings}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def prefect_settings(settings: dict[str, str], *, heartbeats: bool) -> Iterator[None]:
    """The same settings in a process that had imported Prefect before they were set.

    Without heartbeats a flow ends up to a second earlier; `flows.server.reconcile` finds killed commands
    without them.
    """
    import prefect.settings

    updates: dict[Any, Any] = {getattr(prefect.settings, name): value for name, value in settings.items()}
    if not heartbeats:
        updates[prefect.settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY] = None  # type: ignore[attr-defined]
    with prefect.settings.temporary_settings(updates=updates):
        yield


def _send_what_waits(limit_s: float = 10.0) -> None:
    """Log lines and state changes that Prefect still holds in memory go out while the API is there."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=limit_s, at_exit=False)
    EventsWorker.drain_all(timeout=limit_s, at_exit=False)


class LogFile(logging.FileHandler):
    """A log that says once, on the terminal, that it cannot be written any more: the run goes on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._failed:
            self._failed = True
            tell(f"the log {self.baseFilename} cannot be written: {sys.exc_info()[1]}")

    def close(self) -> None:
        with suppress(OSError):  # what could not be written is tried once more
            super().close()


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Everything that goes to the console also goes to `path`; library loggers speak from INFO on."""
    from tasks.engine.runtime import hear_libraries

    handler, root = LogFile(path), logging.getLogger()
    root.addHandler(handler)
    hear_libraries()
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
