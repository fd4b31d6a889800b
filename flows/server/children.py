"""Servers and workers as child processes: how one starts, what tells others of it, how it ends with its
parent."""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from storage.files.processes import started
from storage.files.whole import read_json, write_text

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.5


def start_module(
    module: str, words: Sequence[str], log: Path, environment: Mapping[str, str], **settings: Any
) -> subprocess.Popen[bytes]:
    """`python -m module words` in a session of its own; its standard input tells it of our end."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**environment, "PYTHONPATH": path},
            **settings,
        )


def watch_parent(parent: int, end_others: Callable[[], None] = lambda: None) -> None:
    """Ends this process when the parent's end of the pipe closes or the parent is no longer `parent`.

    end_others: called before.
    """
    while True:
        readable, _, _ = select.select([0], [], [], POLL_S)
        if (readable and not os.read(0, 1)) or os.getppid() != parent:
            end_others()
            os._exit(0)


def write_record(path: Path, **facts: Any) -> Path:
    """A file about a process of this machine, whole or not there."""
    write_text(path, json.dumps({**facts, "machine": socket.gethostname()}), durable=False)
    return path


def read_record(path: Path) -> dict[str, Any]:
    """What `write_record` wrote, {} where the file is lost or damaged."""
    record = read_json(path)
    return record if isinstance(record, dict) else {}


def identity(pid: int) -> dict[str, int | str]:
    """A process as more than a number that the system reuses."""
    return {"pid": pid, "started": started(pid)}


def is_alive(process: Any) -> bool:
    """Whether the process with this `identity` still runs on this machine; what is none of ours does not."""
    try:
        return process["started"] != "" and started(process["pid"]) == process["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
