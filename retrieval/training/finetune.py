"""Fine-tuning: a training set and a network in, another network out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from retrieval.training.options import (
    Matcher,
    Photographs,
    TrainingCall,
    TrainingOptions,
    TrainingProgress,
    TrainingResources,
    TrainingSummary,
)
from storage.children.patience import patiently


def finetune(
    training_set: Path,
    network: Path,
    photographs: Photographs,
    options: TrainingOptions,
    *,
    out: Path,
    work_dir: Path,
    resources: TrainingResources | None = None,
    progress: Callable[[TrainingProgress], Any] | None = None,
    matcher: Matcher | None = None,
    inputs: Sequence[str] = (),
    descriptors: Mapping[int, Mapping[str, Path]] | None = None,
) -> TrainingSummary:
    """Train a network on a training set; fill the directory `out` with network.safetensors and training.h5.

    work_dir holds a checkpoint per epoch, and one within it: a killed training goes on from the last one and
    ends bit for bit as if undisturbed (CPU, same number of threads); with more epochs a finished one is
    continued. A work_dir that belongs to other options or inputs is emptied. matcher: for suspicious
    negatives, None = they are taken as they are; inputs: digests of what it depends on; descriptors:
    longer side in px -> sha256 of a photograph -> file of its descriptor by this network at one scale, at
    every size of `options.described_at`, None = they are made here. The epoch with the
    best val mAP is kept, epoch 0 (before training) is one of them. Global settings of torch are put back.
    Raises TooFewClusters, NoQueries, WithoutOverlap, WithoutMatches, TrainingDiverged, UnreadablePhotograph,
    UnreadableNetwork. Source: TPAMI 2018, sec. 4 and 6.
    """
    used, report = resources or TrainingResources(), progress or (lambda event: None)
    call = TrainingCall(
        training_set,
        network,
        photographs,
        options,
        out,
        work_dir,
        used,
        matcher,
        tuple(inputs),
        descriptors,
    )
    if used.training_processes > 1:
        from retrieval.training.distributed import train_in_processes

        return patiently(lambda: train_in_processes(call, report))
    from retrieval.describe.compute import without_denormals
    from retrieval.training.trainer import run_training

    def train(check: Callable[[], None]) -> TrainingSummary:
        def checked(event: TrainingProgress) -> None:
            check()
            report(event)

        return run_training(call, checked)

    return without_denormals(train)
