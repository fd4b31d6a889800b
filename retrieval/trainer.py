"""A whole training: epochs of mining, training and validation, resumed where it was left."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retrieval.augmentation import changes
from retrieval.benchmarks.geometry import GeometryBenchmark, score
from retrieval.compute import deterministic, fixed_threads, pick_device
from retrieval.current_descriptors import CurrentDescriptors
from retrieval.descriptors import DescriptorTable
from retrieval.epoch_tuples import (
    Draw,
    MinedTuples,
    draw_epoch,
    draw_validation,
    plan_of,
)
from retrieval.finetuning import (
    NETWORK_FILE,
    TRAINING_FILE,
    Matcher,
    Phase,
    Photographs,
    TrainingOptions,
    TrainingProgress,
    TrainingResources,
    TrainingSummary,
)
from retrieval.images import PhotographCache, load_photograph
from retrieval.losses import tuple_labels
from retrieval.mining import TooFewClusters
from retrieval.negative_checks import NegativeChecks, mine_verified
from retrieval.networks import RetrievalNetwork, load_network, save_network
from retrieval.processes import ALONE, Processes, launched
from retrieval.resuming import CheckpointFolder
from retrieval.training import TrainingDiverged, make_loss, make_optimizer, set_learning_rate, train_tuples
from retrieval.training_record import EpochProgress, EpochRecord, TrainingState, summarise, write_training
from retrieval.tuples import TRAIN, Indices, NegativePlan, NoQueries, usable_queries
from storage import hdf5
from storage.digests import content_sha256, json_sha256

LOGGER = logging.getLogger(__name__)
SHIFT_PHOTOGRAPHS = 20_000  # of larger training sets evenly spaced ones stand for all in descriptor_shift
BEFORE = "before"
Report = Callable[[TrainingProgress], Any]


def run_training(
    training_set: Path,
    network_path: Path,
    photographs: Photographs,
    options: TrainingOptions,
    *,
    out: Path,
    work_dir: Path,
    resources: TrainingResources,
    progress: Report,
    matcher: Matcher | None = None,
    inputs: Sequence[str] = (),
) -> TrainingSummary:
    """See retrieval.finetuning.finetune."""
    inputs = [content_sha256(training_set), content_sha256(network_path), *inputs]
    fingerprint = json_sha256([options.resumable().model_dump(mode="json"), inputs])
    with launched(resources.device) as (processes, name):
        device = pick_device(name)
        with fixed_threads(resources.threads), deterministic(device):
            network = load_network(network_path).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            arrays = hdf5.read(training_set, "training_set")
            folder = processes.from_first(
                lambda: CheckpointFolder(work_dir, fingerprint, resources.checkpoints_kept)
            )
            trainer = Trainer(
                network, arrays, photographs, options, resources, folder, progress, matcher, processes
            )
            state = trainer.run()
            processes.wait()
            folder.load_best(network, state.best_epoch)
            shift = trainer.descriptor_shift()
    if processes.first:
        out.mkdir(parents=True, exist_ok=True)
        save_network(network, out / NETWORK_FILE)
        clusters = np.asarray(arrays["images/cluster"], dtype=np.int64)
        may_match = trainer.checks.may_match(clusters)
        write_training(out / TRAINING_FILE, state, may_match, shift, options, inputs)
    return summarise(state, shift[1])


class Trainer:
    """One training. Whatever is random in epoch e comes from (seed, e) alone: resuming needs no generator
    state."""

    def __init__(
        self,
        network: RetrievalNetwork,
        arrays: Mapping[str, Any],
        photographs: Photographs,
        options: TrainingOptions,
        resources: TrainingResources,
        folder: CheckpointFolder,
        progress: Report,
        matcher: Matcher | None = None,
        processes: Processes = ALONE,
    ) -> None:
        if len(usable_queries(arrays, TRAIN, options.positives)) == 0:
            raise NoQueries(
                f"no train query has a positive under {options.positives!r}; choose training.positives=m2 "
                "or add "
                "photographs of the same places"
            )
        self._network = network
        self._arrays = arrays
        self._options = options
        self._resources = resources
        self._folder = folder
        self._progress = progress
        self._processes = processes
        self._names = [str(name) for name in arrays["images/name"]]
        self._load = PhotographCache(
            lambda image: load_photograph(
                photographs.path(self._names[image]), options.image_size, draft=options.draft
            ),
            resources.cache_megabytes * 2**20,
        )
        self._descriptors = CurrentDescriptors(
            network, self._load, self._names, options, resources, processes
        )
        self._loss = make_loss(options, network.description.architecture)
        self._optimizer = make_optimizer(network, options)
        self._benchmark = GeometryBenchmark.from_arrays(arrays, "val")
        self._validation = draw_validation(arrays, options)
        self._state = TrainingState()
        shared = None
        if matcher is not None and options.verify_negatives:
            shared = partial(_matched_by_first, processes, matcher)
        self.checks = NegativeChecks(shared, options.verify_inliers, options.verify_photographs)
        self._before: DescriptorTable | None = None
        self._epoch = 0

    def run(self) -> TrainingState:
        """Train up to options.epochs, from the last checkpoint on."""
        self._processes.wait()
        rows, images = self._folder.load_array(BEFORE), self._shift_images()
        restored = None
        if rows is not None and len(rows) == len(images):
            restored = self._folder.restore(self._network, self._optimizer, self._options.epochs)
        if rows is None or restored is None:
            self._before_training()
        else:
            LOGGER.info("training goes on after epoch %d", restored.epoch)
            self._state, self._before = restored, DescriptorTable(images, rows)
            self.checks.found = restored.checks
        while self._state.epoch < self._options.epochs and not self._state.stops_early(
            self._options.early_stopping
        ):
            self._epoch = self._state.epoch + 1
            self._run_epoch()
        return self._state

    def descriptor_shift(self) -> tuple[Indices, NDArray[np.float32]]:
        """Train photographs [S], and 1 - cosine of their descriptors before and after training [S]."""
        assert self._before is not None
        images = self._before.images
        before, after = self._before.rows.astype(np.float64), self._describe(images).rows.astype(np.float64)
        return images, (1 - np.einsum("nd,nd->n", before, after)).astype(np.float32)

    def _before_training(self) -> None:
        """Epoch 0: what the network can do as it comes."""
        self._before = self._describe(self._shift_images())
        if self._processes.first:
            self._folder.save_array(BEFORE, self._before.rows)
        started = time.perf_counter()
        loss_val, map_val = self._validate()
        seconds = {"validate": time.perf_counter() - started}
        record = EpochRecord(0, math.nan, loss_val, map_val, 0.0, self._gem_p(), math.nan, seconds)
        self._state.history.append(record)
        self._state.checks = self.checks.found
        self._save()

    def _run_epoch(self) -> None:
        """Mine and train part by part; a checkpoint may have left the epoch anywhere after a step."""
        epoch, rate, started = self._epoch, self._options.rate_at(self._epoch), time.perf_counter()
        drawn = draw_epoch(self._arrays, self._options, epoch)
        plan = self._plan(drawn, self._options.negatives)
        parts = drawn.parts(self._options.minings_per_epoch)
        progress = self._state.within or EpochProgress(epoch)
        for number, part in enumerate(parts):
            if number > progress.part:
                progress = self._mine_part(part, plan, progress)
            progress = self._train_part(progress, rate)
        clock = time.perf_counter()
        loss_val, map_val = self._validate()
        progress.seconds["validate"] = time.perf_counter() - clock
        losses, distance = float(progress.losses.mean()), progress.mean_negative_distance
        record = EpochRecord(
            *(epoch, losses, loss_val, map_val, rate, self._gem_p(), distance), seconds=progress.seconds
        )
        self._state.finish(record, progress.tuples, self.checks.found)
        self._save()
        LOGGER.info(
            "epoch %d/%d: loss %.5f, val loss %.5f, val mAP %.4f, p %.3f, %.0f s",
            *(epoch, self._options.epochs, losses, loss_val, map_val, record.gem_p),
            time.perf_counter() - started,
        )

    def _mine_part(self, part: Draw, plan: NegativePlan, progress: EpochProgress) -> EpochProgress:
        clock = time.perf_counter()
        described = self._current(part.images, progress.part < 0)
        described_s = time.perf_counter() - clock
        mined = self._mine(part, described, plan)
        _add(progress.seconds, describe=described_s, mine=time.perf_counter() - clock - described_s)
        return progress.mined(mined.tuples, mined.mean_negative_distance)

    def _train_part(self, progress: EpochProgress, rate: float) -> EpochProgress:
        """Train on the mined tuples that are left."""
        clock = saved = time.perf_counter()
        done, steps = len(progress.losses), 0
        total = float(progress.losses.sum())

        def after_tuple(position: int, loss: float) -> None:
            nonlocal total
            total += loss
            trained = done + position + 1
            self._report("training", trained, len(progress.tuples), total / trained, rate)

        def after_step(losses: NDArray[np.float64]) -> None:
            nonlocal steps, saved
            steps += 1
            due = steps % self._resources.checkpoint_steps == 0
            if due and time.perf_counter() - saved >= self._resources.checkpoint_pause_s:
                self._state.within, self._state.checks = progress.trained(losses), self.checks.found
                self._save()
                saved = time.perf_counter()

        losses = self._train(progress.tuples, done, rate, after_tuple, after_step)
        _add(progress.seconds, train=time.perf_counter() - clock)
        return progress.trained(losses)

    def _train(
        self, tuples: NDArray[np.int64], done: int, rate: float, after_tuple: Any, after_step: Any
    ) -> NDArray[np.float64]:
        set_learning_rate(self._optimizer, rate)
        try:
            return train_tuples(
                self._network,
                self._optimizer,
                self._loss,
                tuples[done:],
                self._load,
                tuples_per_step=self._options.tuples_per_step,
                precision=self._options.precision,
                negatives_at_a_time=self._resources.negatives_at_a_time,
                loader_threads=self._resources.loader_threads,
                name=self._names.__getitem__,
                changed=changes(self._options, self._epoch, done),
                after_tuple=after_tuple,
                after_step=after_step,
                processes=self._processes,
            )
        except TrainingDiverged as error:
            raise TrainingDiverged(f"epoch {self._epoch}, {error}") from error

    def _validate(self) -> tuple[float, float]:
        """Loss per tuple and Medium mAP on val; nan where val has no queries or too few clusters."""
        benchmark = self._benchmark
        images = np.unique(np.concatenate([benchmark.database, self._validation.images]))
        described = self._describe(images, "validating")
        map_val = math.nan
        if len(benchmark.queries):
            of_queries, of_database = described[benchmark.queries], described[benchmark.database]
            map_val = score(benchmark, of_queries, of_database).mean_average_precision
        if len(self._validation.queries) == 0:
            return math.nan, map_val
        try:
            tuples = self._mine(self._validation, described, self._plan(self._validation, None)).tuples
        except TooFewClusters as error:
            self._warn(f"no validation loss: {error}")
            return math.nan, map_val
        rows = torch.from_numpy(described[tuples.ravel()]).double()
        loss = self._loss(rows, tuple_labels(tuples.shape[1] - 2, len(tuples)))
        return float(loss) / len(tuples), map_val

    def _plan(self, drawn: Draw, negatives: int | None) -> NegativePlan:
        plan = plan_of(self._arrays, drawn, negatives, self._options.one_per_cluster, self._names.__getitem__)
        for warning in plan.warnings:
            self._warn(warning)
        return plan

    def _mine(self, drawn: Draw, described: DescriptorTable, plan: NegativePlan) -> MinedTuples:
        self.checks.epoch = self._epoch
        mined = mine_verified(
            self._arrays, drawn, described, self.checks, plan=plan, name=self._names.__getitem__
        )
        for warning in mined.warnings:
            self._warn(warning)
        return mined

    def _current(self, images: Indices, untrained: bool) -> DescriptorTable:
        """Descriptors of the network as it is; those of the untrained network are there already."""
        if self._epoch == 1 and untrained and self._before is not None and self._before.holds(images):
            return self._before
        return self._describe(images)

    def _describe(self, images: Indices, phase: Phase = "describing") -> DescriptorTable:
        return self._descriptors.table(images, self._epoch, partial(self._report, phase))

    def _save(self) -> None:
        if self._processes.first:
            self._folder.save(self._state, self._network, self._optimizer)

    def _shift_images(self) -> Indices:
        members = np.flatnonzero(np.asarray(self._arrays["images/split"]) == TRAIN)
        return members[:: max(1, -(-len(members) // SHIFT_PHOTOGRAPHS))]

    def _gem_p(self) -> float:
        gem = self._network.gem
        return math.nan if gem is None else float(gem.p.detach().mean())

    def _warn(self, text: str) -> None:
        if text not in self._state.warnings:
            self._state.warnings.append(text)
            LOGGER.warning("%s", text)

    def _report(
        self, phase: Phase, done: int, total: int, loss: float = math.nan, rate: float = math.nan
    ) -> None:
        event = TrainingProgress(
            phase, self._epoch, self._options.epochs, done, total, loss, rate, self._gem_p()
        )
        self._progress(event)


def _add(seconds: dict[str, float], **more: float) -> None:
    for name, value in more.items():
        seconds[name] = seconds.get(name, 0.0) + value


def _matched_by_first(processes: Processes, matcher: Matcher, pairs: Indices) -> Indices:
    """Matching by the first process alone, its verdicts given to all."""
    return processes.from_first(partial(matcher, pairs))
