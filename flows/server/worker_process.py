"""The worker of `retrieval-sfm up` as a process: `... -m flows.server.worker_process POOL NAME PARENT_PID`.

It is Prefect's process worker, for our own flows only. With the end of its parent (standard input is a pipe
from it) it ends at once, and every process that it started with it; what these had finished is in the store.
"""

import sys
import threading
from contextlib import suppress

from flows.server.children import watch_parent


def end_children() -> None:
    """Kill every process under this one."""
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()


def main() -> None:
    """Work until told to end."""
    pool, name, parent = sys.argv[1], sys.argv[2], int(sys.argv[3])
    threading.Thread(target=watch_parent, args=(parent, end_children), daemon=True).start()
    from prefect.cli import app

    from flows.server.locked_worker import lock

    lock()
    sys.argv = ["prefect", "worker", "start", "--pool", pool, "--name", name, "--type", "process"]
    app()


if __name__ == "__main__":
    main()
