"""The temporary Prefect server as a process: `python -m flows.server_process LISTENING_FD PARENT_PID`.

It serves on a socket that its parent has bound and ends with it: standard input is a pipe from the parent,
whose end (also after `kill -9`), or another parent process, ends the server at once. SIGTERM ends it in
order, with everything written that it has been told.
"""

import asyncio
import fcntl
import os
import select
import socket
import sys
import threading
import time
from pathlib import Path

POLL_S = 0.5
DRAIN_LIMIT_S = 20.0


def watch_parent(parent: int) -> None:
    """Ends this process when the parent's end of the pipe closes or the parent is no longer `parent`."""
    while True:
        readable, _, _ = select.select([0], [], [], POLL_S)
        if (readable and not os.read(0, 1)) or os.getppid() != parent:
            os._exit(0)


def migrate_once() -> None:
    """Create or migrate the database, one process at a time, once per version of Prefect and database
    file."""
    import prefect
    from prefect.server.database import provide_database_interface
    from prefect.settings import PREFECT_HOME

    home = Path(PREFECT_HOME.value())
    stamp = home / "migrated-to"
    with (home / "migration.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        database = home / "prefect.db"
        identity = f"{prefect.__version__} {database.stat().st_ino if database.exists() else 'none'}"
        if stamp.exists() and stamp.read_text() == identity:
            return
        asyncio.run(provide_database_interface().create_db())
        if database.exists():
            stamp.write_text(f"{prefect.__version__} {database.stat().st_ino}")


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


def main() -> None:
    """Serve until told to end."""
    listening, parent = int(sys.argv[1]), int(sys.argv[2])
    threading.Thread(target=watch_parent, args=(parent,), daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await everything_recorded()
            await super().shutdown(sockets)

    migrate_once()
    app = create_app(ephemeral=True, final=True)
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=5)
    Server(config).run(sockets=[socket.socket(fileno=listening)])


if __name__ == "__main__":
    main()
