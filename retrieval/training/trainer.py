"""A whole training: epochs of mining, training and validation, resumed where it was left."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval.describe.compute import deterministic, fixed_threads, pick_device
from retrieval.describe.describe import DescriptorTable
from retrieval.learning.averaging import blend, copied
from retrieval.learning.processes import ALONE, Processes, launched
from retrieval.networks.network import load_network, save_network
from retrieval.training.augmentation import changes, drawn_views
from retrieval.training.beside import Beside
from retrieval.training.checkpoints import CheckpointFolder, Journal
from retrieval.training.epoch_tuples import OWN_VIEWS, Draw, draw_epoch, with_those_beside
from retrieval.training.negative_checks import Miner, NegativeChecks
from retrieval.training.options import (
    NETWORK_FILE,
    TRAINING_FILE,
    Matcher,
    TrainingCall,
    TrainingSummary,
)
from retrieval.training.pace import Report, Reporter
from retrieval.training.positives import Indices, NoQueries, overlap_weights, require_matches, usable_queries
from retrieval.training.record import (
    Blends,
    EpochProgress,
    EpochRecord,
    TrainingState,
    summarise,
    write_training,
)
from retrieval.training.step import (
    Learner,
    Stepping,
    TrainingDiverged,
    TrainingPhotographs,
    set_learning_rate,
    train_tuples,
)
from retrieval.training.subject import Subject, behind_lw, last_stages, projection, taught, whole_network
from retrieval.training.tuples import TRAIN, NegativePlan
from retrieval.training.validation import Measured, Validation
from storage.files.digests import json_sha256
from storage.hdf5 import file as hdf5
from storage.hdf5.digests import content_sha256

LOGGER = logging.getLogger(__name__)
SHIFT_PHOTOGRAPHS = 20_000  # of larger training sets evenly spaced ones stand for all in descriptor_shift


def run_training(call: TrainingCall, progress: Report) -> TrainingSummary:
    """See retrieval.training.finetune."""
    options, resources = call.options, call.resources
    inputs = [content_sha256(call.training_set), content_sha256(call.network), *call.inputs]
    fingerprint = json_sha256([options.resumable().model_dump(mode="json"), inputs])
    with launched(resources.device) as (processes, name):
        device = pick_device(name)
        with fixed_threads(resources.threads), deterministic(device):
            arrays = hdf5.read(call.training_set, "training_set")
            subject = _subject(call, device, processes, arrays)
            before = copied(subject.module.state_dict())
            folder = processes.from_first(
                lambda: CheckpointFolder(call.work_dir, fingerprint, resources.checkpoints_kept)
            )
            trainer = Trainer(call, subject, arrays, folder, progress, processes)
            state = trainer.run()
            processes.wait()
            folder.load_best(subject.module, state.best_epoch)
            trainer.blend(before)
            shift = trainer.descriptor_shift()
    if processes.first:
        call.out.mkdir(parents=True, exist_ok=True)
        save_network(subject.result(), call.out / NETWORK_FILE)
        clusters = np.asarray(arrays["images/cluster"], dtype=np.int64)
        may_match = trainer.checks.may_match(clusters)
        write_training(call.out / TRAINING_FILE, state, may_match, shift, options, inputs)
    return summarise(state, shift[1])


class Trainer:
    """One training. Whatever is random in epoch e comes from (seed, e) alone: resuming needs no generator
    state."""

    def __init__(
        self,
        call: TrainingCall,
        subject: Subject,
        arrays: Mapping[str, Any],
        folder: CheckpointFolder,
        progress: Report,
        processes: Processes = ALONE,
    ) -> None:
        options = call.options
        if len(usable_queries(arrays, TRAIN, options.positives)) == 0:
            raise NoQueries(
                f"no train query has a positive under {options.positives!r}; choose training.positives=m2 "
                "or add photographs of the same places"
            )
        if options.through_matches:
            require_matches(arrays)
        names, network = _names(arrays), subject.module
        self.checks = NegativeChecks(
            _matcher(call, processes), options.verify_inliers, options.verify_photographs
        )
        self._arrays, self._folder = arrays, folder
        self._options, self._resources = options, call.resources
        self._processes = processes
        self._learner = Learner.of(network, options)
        self._photographs = TrainingPhotographs(subject.load, tensor=subject.tensor, name=names.__getitem__)
        self._subject = subject
        rows = subject.teacher
        teacher = None if rows is None else DescriptorTable(np.arange(len(rows)), rows)
        self._beside = Beside.of(network, options, teacher)
        self._journal = Journal(folder, network, self._learner.optimizer, processes.first, self._beside)
        self._miner = Miner(
            arrays, names.__getitem__, options.one_per_cluster, self.checks, self._journal.warn
        )
        self._validation = Validation.of(arrays, options, self._learner.loss)
        self._report = Reporter(progress, lambda: network.mean_exponent, options.epochs)
        self._before: DescriptorTable | None = None

    def run(self) -> TrainingState:
        """Train up to options.epochs, from the last checkpoint on."""
        self._processes.wait()
        options, journal = self._options, self._journal
        rows, images = self._folder.before(), self._shift_images()
        if rows is not None and len(rows) == len(images) and journal.restore(options.epochs):
            LOGGER.info("training goes on after epoch %d", journal.state.epoch)
            self._before, self.checks.found = DescriptorTable(images, rows), journal.state.checks
        else:
            self._before_training()
        state = journal.state
        while state.epoch < options.epochs and not state.stops_early(options.early_stopping):
            self._report.epoch = self.checks.epoch = state.epoch + 1
            self._run_epoch(state.epoch + 1)
        return state

    def blend(self, before: Mapping[str, Tensor]) -> None:
        """Mix the network with its weights before training as is best on val, where mixtures are asked for.

        Of equal ones the one with the largest share of the network before training.
        """
        shares = sorted(set(self._options.off_the_shelf_shares), reverse=True)
        if shares == [0.0] or self._journal.state.best_epoch == 0:
            return
        network, trained = self._learner.network, copied(self._learner.network.state_dict())
        mixed, found = [], []
        for share in shares:
            mixed.append(copied(trained))
            blend(mixed[-1], before, share)
            network.load_state_dict(mixed[-1])
            found.append(self._validate()[0].mean_average_precision)
        best = int(np.argmax(np.nan_to_num(found, nan=-1.0)))
        network.load_state_dict(mixed[best])
        self._journal.state.blends = Blends(np.array(shares), np.array(found), shares[best])

    def descriptor_shift(self) -> tuple[Indices, NDArray[np.float32]]:
        """Train photographs [S], and 1 - cosine of their descriptors before and after training [S]."""
        assert self._before is not None
        images = self._before.images
        before, after = self._before.rows.astype(np.float64), self._describe(images).rows.astype(np.float64)
        return images, (1 - np.einsum("nd,nd->n", before, after)).astype(np.float32)

    def _before_training(self) -> None:
        """Epoch 0: what the network can do as it comes."""
        self._before = self._describe(self._shift_images())
        self._journal.keep_before(self._before.rows)
        measured, seconds = self._validate()
        record = EpochRecord(
            0, math.nan, measured.loss, measured.mean_average_precision, 0.0,
            self._learner.network.mean_exponent, math.nan, {"validate": seconds}, measured.average_precisions,
        )  # fmt: skip
        self._journal.state.history.append(record)
        self._journal.save(self.checks.found)

    def _run_epoch(self, epoch: int) -> None:
        """Mine and train part by part; a checkpoint may have left the epoch anywhere after a step."""
        rate, started = self._options.rate_at(epoch), time.perf_counter()
        drawn = draw_epoch(self._arrays, self._options, epoch)
        plan = self._miner.plan(drawn, self._options.negatives)
        progress = self._journal.state.within or EpochProgress(epoch)
        for number, part in enumerate(drawn.parts(self._options.minings_per_epoch)):
            if number > progress.part:
                progress = self._mine_part(part, plan, progress)
            progress = self._train_part(progress, rate, drawn.pool)
        if self._beside.standing is not None:
            self._beside.standing.forget()
        self._beside.average.after_epoch()
        with self._beside.average.applied():
            measured, progress.seconds["validate"] = self._validate()
        record = EpochRecord(
            epoch, float(progress.losses.mean()), measured.loss, measured.mean_average_precision, rate,
            self._learner.network.mean_exponent, progress.mean_negative_distance, progress.seconds,
            measured.average_precisions,
        )  # fmt: skip
        self._journal.state.finish(record, progress.tuples)
        self._journal.save(self.checks.found)
        LOGGER.info(
            "epoch %d/%d: loss %.5f, val loss %.5f, val mAP %.4f, p %.3f, %.0f s",
            *(epoch, self._options.epochs, record.loss_train, record.loss_val, record.map_val, record.gem_p),
            time.perf_counter() - started,
        )

    def _mine_part(self, part: Draw, plan: NegativePlan, progress: EpochProgress) -> EpochProgress:
        clock = time.perf_counter()
        standing, images = self._beside.standing, part.images
        if standing is not None:
            images = np.unique(np.concatenate([images, *part.choices, part.beside.ravel()]))
        if standing is not None and standing.teacher is not None:
            described = standing.teacher
        else:
            described = self._current(images, untrained=progress.epoch == 1 and progress.part < 0)
        described_s = time.perf_counter() - clock
        mined = self._miner.mine(part, described, plan)
        tuples = mined.tuples
        if standing is not None:
            standing.table = described
            order = np.random.default_rng([self._options.seed, progress.epoch, progress.part + 1, OWN_VIEWS])
            tuples = with_those_beside(tuples, part.beside, order)
        _add(progress.seconds, describe=described_s, mine=time.perf_counter() - clock - described_s)
        return progress.mined(tuples, mined.mean_negative_distance)

    def _train_part(self, progress: EpochProgress, rate: float, pool: Indices) -> EpochProgress:
        """Train on the mined tuples that are left. pool: of the epoch."""
        clock = saved = time.perf_counter()
        done, steps = len(progress.losses), 0
        left = progress.tuples[done:]
        total = float(progress.losses.sum())

        def after_tuple(position: int, loss: float) -> None:
            nonlocal total
            total += loss
            trained = done + position + 1
            self._report("training", trained, len(progress.tuples), total / trained, rate)

        def after_step(losses: NDArray[np.float64]) -> None:
            nonlocal steps, saved
            steps += 1
            self._beside.average.after_step()
            due = steps % self._resources.checkpoint_steps == 0
            if due and time.perf_counter() - saved >= self._resources.checkpoint_pause_s:
                self._journal.state.within = progress.trained(losses)
                self._journal.save(self.checks.found)
                saved = time.perf_counter()

        if self._beside.memory is not None:
            self._beside.memory.know(self.checks.applied(self._arrays), np.unique(progress.tuples[:, 0]))
        if self._beside.standing is not None and len(left):
            self._beside.standing.know(self.checks.applied(self._arrays), left, pool)
        set_learning_rate(self._learner.optimizer, rate)
        try:
            losses = train_tuples(
                self._learner,
                left,
                self._changed(left, progress.epoch, done),
                Stepping.of(self._options, self._resources),
                weights=self._weights(left),
                memory=self._beside.memory,
                standing=self._beside.standing,
                after_tuple=after_tuple,
                after_step=after_step,
                processes=self._processes,
            )
        except TrainingDiverged as error:
            raise TrainingDiverged(f"epoch {progress.epoch}, {error}") from error
        _add(progress.seconds, train=time.perf_counter() - clock)
        return progress.trained(losses)

    def _changed(self, tuples: Indices, epoch: int, first: int) -> TrainingPhotographs:
        """The photographs as they are trained on in tuples of an epoch, from its tuple `first` on."""
        if self._options.augment_views is None:
            return replace(self._photographs, changed=changes(self._options, epoch, first))
        numbers = drawn_views(tuples, self._options, epoch, first)

        def viewed(image: int, position: int, place: int) -> NDArray[Any]:
            return self._subject.view(image, int(numbers[position, place]))

        return replace(self._photographs, view=viewed)

    def _weights(self, tuples: Indices) -> NDArray[np.float32]:
        """What the positives of tuples weigh."""
        count = self._options.positives_per_tuple
        weights = np.ones((len(tuples), count), dtype=np.float32)
        if self._options.positive_weights == "overlap":
            others = tuples[:, 1] != tuples[:, 0]  # an own view overlaps itself
            weights[others] = overlap_weights(self._arrays, tuples[others], count)
        return weights

    def _validate(self) -> tuple[Measured, float]:
        """What val says, and the seconds that took."""
        clock = time.perf_counter()
        report = partial(self._report, "validating")
        described = self._subject.judged(self._validation.images, self._report.epoch, report)
        return self._validation.measured(described, self._miner), time.perf_counter() - clock

    def _current(self, images: Indices, untrained: bool) -> DescriptorTable:
        """Descriptors of the network as it is; those of the untrained network are there already."""
        if untrained and self._before is not None and self._before.holds(images):
            return self._before
        return self._describe(images)

    def _describe(self, images: Indices) -> DescriptorTable:
        return self._subject.describe(images, self._report.epoch, partial(self._report, "describing"))

    def _shift_images(self) -> Indices:
        members = np.flatnonzero(np.asarray(self._arrays["images/split"]) == TRAIN)
        return members[:: max(1, -(-len(members) // SHIFT_PHOTOGRAPHS))]


def _names(arrays: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in arrays["images/name"]]


def _subject(
    call: TrainingCall, device: torch.device, processes: Processes, arrays: Mapping[str, Any]
) -> Subject:
    """What the options train."""
    network = load_network(call.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if call.options.trainable == "projection":
        return projection(call, network, _names(arrays), processes, arrays)
    make = last_stages if call.options.trainable == "last" else whole_network
    if call.options.loss_on == "whitened" and network.whiten is None:
        make = partial(behind_lw, make, arrays)
    elif call.options.teacher_sizes:
        make = partial(taught, make)
    return make(call, network, _names(arrays), processes)


def _matcher(call: TrainingCall, processes: Processes) -> Matcher | None:
    """Matching by the first process alone, its verdicts given to all; None: negatives are not verified."""
    matcher = call.matcher
    if matcher is None or not call.options.verify_negatives:
        return None

    def matched(pairs: Indices, /) -> Indices:
        return processes.from_first(partial(matcher, pairs))

    return matched


def _add(seconds: dict[str, float], **more: float) -> None:
    for name, value in more.items():
        seconds[name] = seconds.get(name, 0.0) + value
