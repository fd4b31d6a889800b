"""Native code in a process of its own: it may hang, abort or be killed without harm to the caller.

The child is started as `python -m <module>`. Its standard input is a pipe whose other end only the parent
holds: when the parent dies, however it dies, the pipe closes and the child ends. Request and reply are JSON
files in a scratch folder.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.scratch_folders import remove_in_stead, scratch_folder

logger = logging.getLogger(__name__)

_LOG_TAIL_LINES = 12
_LOG_TAIL_BYTES = 16_384
_EXIT_REPORTED = 3  # the child wrote why it failed into the reply
_EXIT_ORPHANED = 4


class ChildFailed(RuntimeError):
    """A child process did not give a result. The text names what it worked on and shows the end of its log.

    `returncode` is the process's exit status, negative for a signal; None where it was killed at its time
    limit.
    """

    def __init__(self, message: str, returncode: int | None) -> None:
        super().__init__(message)
        self.returncode = returncode

    @property
    def aborted(self) -> bool:
        """True where native code ended the process by a signal, as COLMAP does on input it cannot take."""
        return self.returncode is not None and self.returncode < 0


def run_child(
    module: str,
    request: dict[str, Any],
    *,
    label: str,
    time_limit_s: float,
    threads: int = 1,
    scratch: Path | None = None,
) -> dict[str, Any]:
    """Run `python -m module` on a request and return its reply.

    request and reply: anything JSON holds. `label` names the work in errors ("cluster 12 of 31 photographs"),
    `time_limit_s` seconds are the most it may take, `scratch` is where temporary folders go.
    Raises ChildFailed when the child dies, reports an error or exceeds its time; it is then gone.
    """
    with scratch_folder("child", scratch) as place:
        (place / "request.json").write_text(json.dumps(request))
        started = time.monotonic()
        with (place / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(place)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(threads),
            )
        try:
            process.wait(timeout=time_limit_s)
        except subprocess.TimeoutExpired:
            _end(process)
            raise ChildFailed(
                _describe(label, f"took longer than its limit of {time_limit_s:g} s", place), None
            ) from None
        finally:
            _end(process)
        logger.debug("%s: %s ended after %.1f s", label, module, time.monotonic() - started)
        return _reply(process.returncode, label, place)


def serve(handle: Callable[[dict[str, Any], Path], dict[str, Any]]) -> None:
    """The child's side: call `handle(request, scratch folder)` and leave its reply; ends with the parent.

    Call it under `if __name__ == "__main__"` of a module that `run_child` names.
    """
    place = Path(sys.argv[1])
    threading.Thread(target=_end_with_parent, args=(place,), daemon=True).start()
    try:
        reply = handle(json.loads((place / "request.json").read_text()), place)
    except Exception as error:
        traceback.print_exc()
        _write_reply(place, {"error": f"{type(error).__name__}: {error}"})
        os._exit(_EXIT_REPORTED)
    _write_reply(place, {"reply": reply})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # native thread pools are not worth waiting for


def _end_with_parent(place: Path) -> None:
    """Wait for the pipe to close, then clean up in the parent's stead and end."""
    while os.read(0, 1):
        pass
    try:
        remove_in_stead(place)
    finally:
        os._exit(_EXIT_ORPHANED)


def _write_reply(place: Path, content: dict[str, Any]) -> None:
    unfinished = place / "reply.json.unfinished"
    unfinished.write_text(json.dumps(content))
    unfinished.rename(place / "reply.json")


def _environment(threads: int) -> dict[str, str]:
    """The parent's environment with the thread count, and this code importable from any folder.

    What COLMAP logs goes to the child's log alone; by default it leaves a file in the temporary folder too.
    """
    root = str(Path(__file__).resolve().parents[1])
    path = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    own = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(path), "GLOG_logtostderr": "1"}
    return {**os.environ, **own}


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdin is not None and not process.stdin.closed:
        process.stdin.close()


def _reply(returncode: int, label: str, place: Path) -> dict[str, Any]:
    if returncode == 0:
        return json.loads((place / "reply.json").read_text())["reply"]
    if returncode == _EXIT_REPORTED:
        raise ChildFailed(f"{label}: {json.loads((place / 'reply.json').read_text())['error']}", returncode)
    ended = f"exit status {returncode}"
    if returncode < 0:
        ended = f"ended by signal {signal.Signals(-returncode).name}"
    raise ChildFailed(_describe(label, ended, place), returncode)


def _describe(label: str, what: str, place: Path) -> str:
    with (place / "log.txt").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return "\n  ".join([f"{label}: the child process {what}", *(lines or ["(it logged nothing)"])])
