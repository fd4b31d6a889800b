"""A training in several processes, one per GPU: `finetuning.finetune` starts them with torch's launcher.

    python -m torch.distributed.run --standalone --nproc-per-node N -m retrieval.distributed CALL

CALL is a file of the starting process, which also follows the progress and hands on errors. When that process
dies, however it dies, the others end.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from retrieval.finetuning import TrainingProgress, TrainingSummary

POLL_S = 0.5
_LOG_TAIL = 3000


class ProcessesFailed(RuntimeError):
    """The processes of a training ended without a result; the text has the end of their log."""


def train_in_processes(
    call: dict[str, Any], processes: int, progress: Callable[[TrainingProgress], Any]
) -> TrainingSummary:
    """Run `trainer.run_training(**call)` in that many processes; progress is that of the first.

    Raises what the first process raises, and ProcessesFailed.
    """
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        root = Path(folder)
        (root / "call").write_bytes(pickle.dumps({"parent": os.getpid(), "call": call}))
        with open(root / "log", "wb") as log:
            running = subprocess.Popen(
                [
                    *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                    *("--nproc-per-node", str(processes), "-m", "retrieval.distributed", str(root / "call")),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )  # fmt: skip
        try:
            _follow(running, root / "progress", progress)
        finally:
            _end(running)
        return _reply(root, running.returncode)


def _follow(
    running: subprocess.Popen[bytes], lines: Path, progress: Callable[[TrainingProgress], Any]
) -> None:
    """Hand on progress until the processes have ended."""
    seen = 0
    while True:
        over = running.poll() is not None
        if lines.is_file():
            with open(lines, encoding="utf-8") as file:
                file.seek(seen)
                text = file.read()
            whole = text[: text.rfind("\n") + 1]
            seen += len(whole.encode())
            for line in whole.splitlines():
                progress(TrainingProgress(**json.loads(line)))
        if over:
            return
        time.sleep(POLL_S)


def _end(running: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the processes' session."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def _reply(root: Path, code: int) -> TrainingSummary:
    if (root / "reply").is_file():
        reply = json.loads((root / "reply").read_text(encoding="utf-8"))
        if "summary" in reply:
            return TrainingSummary(**{**reply["summary"], "warnings": tuple(reply["summary"]["warnings"])})
        kind = getattr(import_module(reply["module"]), reply["error"])
        raise kind(reply["text"])
    tail = (root / "log").read_bytes()[-_LOG_TAIL:].decode(errors="replace")
    raise ProcessesFailed(f"the processes of the training ended with exit code {code}: {tail}")


def main(path: Path) -> None:
    """One of the processes."""
    import torch

    from retrieval.trainer import run_training

    torch.set_flush_denormal(True)  # before torch starts threads, see retrieval.compute.without_denormals
    request = pickle.loads(path.read_bytes())
    _end_with(request["parent"])
    first = os.environ["RANK"] == "0"

    def progress(event: TrainingProgress) -> None:
        if first:
            with open(path.parent / "progress", "a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(event)) + "\n")

    try:
        summary = run_training(**request["call"], progress=progress)
        reply: dict[str, Any] = {"summary": {**asdict(summary), "seconds": dict(summary.seconds)}}
    except ValueError as error:
        reply = {"module": type(error).__module__, "error": type(error).__name__, "text": str(error)}
    if first:
        (path.parent / "reply.part").write_text(json.dumps(reply), encoding="utf-8")
        os.replace(path.parent / "reply.part", path.parent / "reply")


def _end_with(parent: int) -> None:
    """End this process once the one that started the training is gone."""

    def watch() -> None:
        while psutil.pid_exists(parent):
            time.sleep(POLL_S)
        os._exit(4)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
