"""A training in several processes, one per GPU, each a child of its own: see `storage.children`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from retrieval.training.options import TrainingCall, TrainingProgress, TrainingSummary
from storage.children.child import Child
from storage.children.errors import ChildCancelled
from storage.files.scratch import scratch_folder

_GRACE_S = 10.0  # for the first process to say itself what another one has noticed


def train_in_processes(call: TrainingCall, progress: Callable[[TrainingProgress], Any]) -> TrainingSummary:
    """Run `trainer.run_training` in as many processes as the call wants; progress is that of the first.

    Where one fails the others are ended. Raises what the first process raises, else what another one does,
    and ChildFailed.
    """
    processes = call.resources.training_processes
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("training"))
        others = stack.enter_context(ThreadPoolExecutor(processes))
        first, *rest = [
            stack.enter_context(
                Child(f"process {rank} of a training", environment=_place(rank, processes, folder))
            )
            for rank in range(processes)
        ]
        futures = [others.submit(child.call, "retrieval.training.distributed:train", call) for child in rest]
        for future in futures:
            future.add_done_callback(lambda done: _end_if_failed(done, first))
        try:
            summary: TrainingSummary = first.call(
                "retrieval.training.distributed:train", call, on_news=progress
            )
        except ChildCancelled:
            for future in futures:
                if future.done() and (error := future.exception()) is not None:
                    raise error from None
            raise
        for future in futures:
            future.result()
        return summary


def _end_if_failed(done: Future[Any], first: Child) -> None:
    if done.exception() is not None:
        timer = threading.Timer(_GRACE_S, first.cancel)
        timer.daemon = True
        timer.start()


def _place(rank: int, processes: int, folder: Path) -> dict[str, str]:
    """Variables that tell a process its place, see `retrieval.learning.processes.launched`."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
    meeting = {"TRAINING_MEETING": (folder / "meeting").as_uri()}
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return {name: str(value) for name, value in numbers.items()} | meeting | threads


def train(call: TrainingCall, progress: Callable[[TrainingProgress], Any]) -> TrainingSummary:
    """What one of the processes does."""
    import torch

    from retrieval.training.trainer import run_training

    # before torch starts threads, see retrieval.describe.compute.without_denormals
    torch.set_flush_denormal(True)
    summary = run_training(call, progress)
    return replace(summary, seconds=dict(summary.seconds))
