"""The worker of `retrieval-sfm up` as a process: `python -m flows.worker_process POOL NAME PARENT_PID`.

It is Prefect's process worker, for our own flows only. With the end of its parent (standard input is a pipe
from it) it ends at once, and every process that it started with it; what these had finished is in the store.
"""

import os
import select
import sys
import threading
from contextlib import suppress

POLL_S = 0.5


def end_children() -> None:
    """Kill every process under this one."""
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()


def watch_parent(parent: int) -> None:
    """Ends this process and its children when the parent's end of the pipe closes."""
    while True:
        readable, _, _ = select.select([0], [], [], POLL_S)
        if (readable and not os.read(0, 1)) or os.getppid() != parent:
            end_children()
            os._exit(0)


def main() -> None:
    """Work until told to end."""
    pool, name, parent = sys.argv[1], sys.argv[2], int(sys.argv[3])
    threading.Thread(target=watch_parent, args=(parent,), daemon=True).start()
    from prefect.cli import app

    from flows.locked_worker import lock

    lock()
    sys.argv = ["prefect", "worker", "start", "--pool", pool, "--name", name, "--type", "process"]
    app()


if __name__ == "__main__":
    main()
