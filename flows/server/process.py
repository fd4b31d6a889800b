"""A Prefect server as a process: `... -m flows.server.process FD PARENT_PID KIND HOST [NAME...]`

FD: the listening socket; KIND: temporary or lasting; HOST: the address that it listens on; NAME: further ones
that the server answers to.

It serves on a socket that its parent has bound and ends with it: standard input is a pipe from the parent,
whose end (also after `kill -9`), or another parent process, ends the server at once. SIGTERM ends it in
order, with everything written that it has been told.
"""

import asyncio
import fcntl
import gc
import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from flows.server.children import watch_parent
from flows.server.guard import Guard

DRAIN_LIMIT_S = 20.0


def migrate_once() -> None:
    """Create or migrate the database, one process at a time; the store's own file once per version of Prefect
    and file.

    Creating one takes many seconds, so an empty one is kept in the user's cache and copied into new stores.
    """
    import prefect
    from prefect.server.database import provide_database_interface
    from prefect.settings import PREFECT_HOME

    home = Path(PREFECT_HOME.value())
    stamp, database = home / "migrated-to", home / "prefect.db"
    template = cache_folder() / f"prefect-{prefect.__version__}.db"
    with (home / "migration.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_own(provide_database_interface().database_config.connection_url, database):
            asyncio.run(provide_database_interface().create_db())
            return
        if stamp.exists() and stamp.read_text() == _identity(prefect.__version__, database):
            return
        new = not database.exists()
        if not (new and copy_database(template, database)):
            asyncio.run(provide_database_interface().create_db())
            if new and database.exists():
                copy_database(database, template)
        if database.exists():
            stamp.write_text(_identity(prefect.__version__, database))


def is_own(url: str, database: Path) -> bool:
    """Whether a connection URL means the SQLite file `database`, and not a database that the user named."""
    scheme, _, path = url.partition(":///")
    return scheme.startswith("sqlite") and path.partition("?")[0] == str(database)


def copy_database(source: Path, target: Path) -> bool:
    """Copy a SQLite database in one step; whether that worked. A missing or damaged source is left alone."""
    if not source.is_file():
        return False
    temporary = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(temporary)) as new:
            old.backup(new)
            if new.execute("PRAGMA quick_check").fetchone() != ("ok",):
                return False
        os.replace(temporary, target)
    except (OSError, sqlite3.Error):
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def cache_folder() -> Path:
    """Where things go that are the same for every store of this user and can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retrieval-sfm"


def _identity(version: str, database: Path) -> str:
    return f"{version} {database.stat().st_ino if database.exists() else 'none'}"


async def everything_recorded(limit_s: float = DRAIN_LIMIT_S) -> None:
    """Returns when the server has taken every task run event off its in-memory queues, or after `limit_s`.

    Prefect drops at its end what is still queued; the runs would stay in their last state for ever.
    """
    from prefect.server.utilities.messaging.memory import Topic

    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        subscriptions = [s for topic in Topic._topics.values() for s in topic._subscriptions]
        if all(s._queue.empty() and s._retry.empty() for s in subscriptions):
            return
        await asyncio.sleep(0.05)


def guarded(prefect: Any, host: str, names: Iterable[str]) -> Guard:
    """Prefect's application behind our own pages, and both behind the guard. Raises ValueError without a
    key."""
    from prefect.settings import PREFECT_HOME, PREFECT_SERVER_API_AUTH_STRING

    from flows.server.sign_in import with_pages

    key = PREFECT_SERVER_API_AUTH_STRING.value()
    if not key:
        raise ValueError("no server is started without a key")
    reports = Path(PREFECT_HOME.value()).parent / "runs"
    return Guard(with_pages(prefect, key, reports), host, names)


def main() -> None:
    """Serve until told to end."""
    listening, parent = int(sys.argv[1]), int(sys.argv[2])
    threading.Thread(target=watch_parent, args=(parent,), daemon=True).start()
    gc.disable()  # what is imported stays: looking for garbage in it is a tenth of the start
    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await everything_recorded()
            await super().shutdown(sockets)

    migrate_once()
    lasting = sys.argv[3] == "lasting"
    app = guarded(create_app(ephemeral=not lasting, final=True), sys.argv[4], sys.argv[5:])
    gc.freeze()
    gc.enable()
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=5)
    Server(config).run(sockets=[socket.socket(fileno=listening)])


if __name__ == "__main__":
    main()
