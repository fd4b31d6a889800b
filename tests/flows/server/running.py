"""A server for as long as a test needs one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.server.server import TemporaryServer
from flows.server.settings import STARTUP_LIMIT_S


@contextmanager
def temporary_server(store: Path, limit_s: float = STARTUP_LIMIT_S) -> Iterator[TemporaryServer]:
    """A running server for the store, stopped at the end. Raises StoreNotWritable, ServerFailed."""
    server = TemporaryServer(store)
    try:
        server.wait(limit_s)
        yield server
    finally:
        server.stop()
