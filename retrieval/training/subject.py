"""What a training changes: a whole network on photographs, its last stages on the maps of those before them,
or a projection on descriptors.

A projection is a linear layer after the pooling that begins as Lw, or as the layer that the network has: on
its descriptors z of unit length it is z + A z with A = 0, and weight decay pulls A back to that beginning.
What comes before it, or before the last stages, never changes, so that it is computed once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.benchmarks.val import Val
from retrieval.describe.compute import side_by_side, with_threads
from retrieval.describe.describe import (
    DescriptorTable,
    Passes,
    iterate_descriptors,
    raise_if_too_small,
)
from retrieval.describe.images import PhotographCache, load_photograph, normalise
from retrieval.describe.rows import training_rows
from retrieval.learning.processes import ALONE, Processes
from retrieval.learning.projection import Projection
from retrieval.networks.network import RetrievalNetwork, initialise_whitening
from retrieval.networks.trunks import halves, stages
from retrieval.training.augmentation import view
from retrieval.training.options import TrainingCall, TrainingOptions
from retrieval.training.positives import Indices
from retrieval.training.step import TrainingDiverged
from retrieval.training.tuples import TRAIN
from retrieval.whitening.whitening import (
    EPSILON,
    Whitening,
    WhiteningOptions,
    choose_shrinkage,
    pair_statistics,
    training_pairs,
)

LOGGER = logging.getLogger(__name__)
Describe = Callable[[Indices, int, Callable[[int, int], None]], DescriptorTable]


@dataclass(frozen=True, eq=False)
class Subject:
    """A module that is trained. load(image) -> what it is given, as an array; view(image, number): that of a
    view of the image, see `augmentation.view`; tensor: that as a batch of one; describe(images [K] ascending,
    epoch, report(done, total)): descriptors by the module as it is; judged: as describe, those by which val
    chooses; result: the network that comes out, once the module is as it shall be; teacher: [N, D] what the
    module's descriptors are compared with, where that does not change."""

    module: RetrievalNetwork | Projection
    load: Callable[[int], NDArray[Any]]
    view: Callable[[int, int], NDArray[Any]]
    tensor: Callable[[NDArray[Any]], Tensor]
    describe: Describe
    judged: Describe
    result: Callable[[], RetrievalNetwork]
    teacher: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class CurrentDescriptors:
    """Describes images of a training set. each(images) -> (position, descriptor [D]) of each; names: for
    errors."""

    each: Callable[[list[int]], Iterable[tuple[int, NDArray[np.float32]]]]
    names: list[str]
    processes: Processes = ALONE

    def table(
        self, images: NDArray[np.int64], epoch: int, report: Callable[[int, int], None]
    ) -> DescriptorTable:
        """Descriptors of images [K], ascending; report(done, total). Raises TrainingDiverged."""
        own = self.processes.share(images)
        rows = np.empty((len(own), 0), dtype=np.float32)
        for done, (position, descriptor) in enumerate(self.each(own.tolist()), start=1):
            if done == 1:
                rows = np.empty((len(own), len(descriptor)), dtype=np.float32)
            rows[position] = descriptor
            report(done, len(own))
        parts = self.processes.gather(rows)
        rows = np.empty((len(images), parts[0].shape[1]), dtype=np.float32)
        for rank, part in enumerate(parts):
            rows[rank :: len(parts)] = part
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise TrainingDiverged(
                f"epoch {epoch}: the descriptor of {self.names[images[~finite][0]]!r} is not finite; lower "
                "training.learning_rate; the last good checkpoint is kept"
            )
        return DescriptorTable(images, rows)


def whole_network(
    call: TrainingCall, network: RetrievalNetwork, names: list[str], processes: Processes
) -> Subject:
    """The network itself, on photographs."""
    description, device = network.description, next(network.parameters()).device
    load = PhotographCache(partial(_decoded, call, names), call.resources.cache_megabytes * 2**20)
    passes = Passes(
        precision=call.options.precision,
        batch_size=call.resources.batch_size,
        device=str(device),
        loader_threads=call.resources.loader_threads,
    )

    def each(images: list[int]) -> Iterable[tuple[int, NDArray[np.float32]]]:
        return iterate_descriptors(network, load, images, passes)

    def viewed(image: int, number: int) -> NDArray[np.uint8]:
        return view(load(image), call.options, image, number)

    table = CurrentDescriptors(each, names, processes).table
    tensor = partial(normalise, mean=description.mean, std=description.std)
    return Subject(network, load, viewed, tensor, table, table, lambda: network)


def last_stages(
    call: TrainingCall, network: RetrievalNetwork, names: list[str], processes: Processes
) -> Subject:
    """The last `trainable_stages` of the network, on the maps of the stages before them, which are computed
    once per photograph, as far as `cache_megabytes` allows.

    With augmentation without `augment_views` every photograph is another one each time, and a vision
    transformer is no plain chain: then the whole network is passed, of which all but the last stages keep
    their weights.
    """
    parts = stages(network.features)
    for part in parts[: max(0, len(parts) - call.options.trainable_stages)]:
        part.requires_grad_(False)
    always_new = call.options.augments and call.options.augment_views is None
    in_two = None if always_new else halves(network.features)
    if in_two is None:
        return whole_network(call, network, names, processes)
    frozen, learning = in_two
    rest = RetrievalNetwork(
        learning, network.pool, network.description, lwhiten=network.lwhiten, whiten=network.whiten
    )
    device, decoded = next(network.parameters()).device, partial(_decoded, call, names)
    reduced = partial(
        torch.autocast, device.type, dtype=torch.bfloat16, enabled=call.options.precision == "bfloat16"
    )

    def passed(module: nn.Module, batch: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode(), reduced():
            batch = batch.to(device, memory_format=torch.channels_last)
            return module(batch)[0].float().cpu().numpy()  # type: ignore[no-any-return]

    def maps(image_and_view: tuple[int, int]) -> NDArray[np.float32]:
        image, number = image_and_view
        seen = view(decoded(image), call.options, image, number)
        photograph = normalise(seen, network.description.mean, network.description.std)
        try:
            return passed(frozen, photograph)
        except RuntimeError as error:
            raise_if_too_small(photograph, call.photographs.path(names[image]), network, (1.0,), error)
            raise

    # with one thread, as descriptors are: who asks first, and with how many threads, must not matter
    viewed = PhotographCache(with_threads(maps, 1), call.resources.cache_megabytes * 2**20)

    def load(image: int, number: int = 0) -> NDArray[np.float32]:
        return viewed((image, number))

    def described(image: int) -> NDArray[np.float32]:
        return passed(rest, torch.from_numpy(load(image))[None])

    def each(images: list[int]) -> Iterable[tuple[int, NDArray[np.float32]]]:
        return enumerate(side_by_side(images, described, None))

    table = CurrentDescriptors(each, names, processes).table
    return Subject(
        rest, load, load, lambda found: torch.from_numpy(found)[None], table, table, lambda: network
    )


def _decoded(call: TrainingCall, names: list[str], image: int) -> NDArray[np.uint8]:
    path = call.photographs.path(names[image])
    return load_photograph(path, call.options.image_size, draft=call.options.draft)


def behind_lw(
    make: Callable[[TrainingCall, RetrievalNetwork, list[str], Processes], Subject],
    arrays: Mapping[str, Any],
    call: TrainingCall,
    network: RetrievalNetwork,
    names: list[str],
    processes: Processes,
) -> Subject:
    """What `make` makes of a network without a layer after its pooling, with Lw as one that does not learn
    and that the result has not: of the teacher's descriptors, where there is one.

    Val chooses by the Lw of the network as it is, which is what will whiten it: through that of the network
    before it learnt, every epoch but 0 would seem worse than it is. arrays: training_set.h5 by path.
    """
    description, device = network.description, next(network.parameters()).device
    rows = _described(call, network, names, processes)
    whitening = learnt(rows, arrays, call.options)
    initialise_whitening(network, whitening.mean, whitening.projection)
    assert network.whiten is not None
    network.whiten.to(device).requires_grad_(False)
    subject = make(call, network, names, processes)
    assert isinstance(subject.module, RetrievalNetwork)
    learning = subject.module
    teaching = np.flatnonzero(np.asarray(arrays["images/split"]) == TRAIN)

    def judged(images: Indices, epoch: int, report: Callable[[int, int], None]) -> DescriptorTable:
        with without_whitening(learning):
            pooled = subject.describe(np.union1d(images, teaching), epoch, report)
        everything = np.zeros((len(names), pooled.rows.shape[1]), dtype=np.float32)
        everything[pooled.images] = pooled.rows
        return DescriptorTable(images, learnt(everything, arrays, call.options).apply(pooled[images]))

    def result() -> RetrievalNetwork:
        network.whiten, network.description = None, description
        return network

    teacher = whitening.apply(rows) if call.options.teacher_sizes else None
    return replace(subject, judged=judged, result=result, teacher=teacher)


@contextmanager
def without_whitening(network: RetrievalNetwork) -> Iterator[None]:
    """The network's descriptors as they are pooled."""
    layer, network.whiten = network.whiten, None
    try:
        yield
    finally:
        network.whiten = layer


def taught(
    make: Callable[[TrainingCall, RetrievalNetwork, list[str], Processes], Subject],
    call: TrainingCall,
    network: RetrievalNetwork,
    names: list[str],
    processes: Processes,
) -> Subject:
    """What `make` makes of the network, with its descriptors at `teacher_sizes` before it learns."""
    rows = _described(call, network, names, processes)
    return replace(make(call, network, names, processes), teacher=rows)


def projection(
    call: TrainingCall,
    network: RetrievalNetwork,
    names: list[str],
    processes: Processes,
    arrays: Mapping[str, Any],
) -> Subject:
    """A projection of the network's descriptors, which are those of call.descriptors or made here, once.

    A network without a layer after its pooling gets Lw, learnt on train, its ridge chosen on val, cut to
    `projection_dimensions`. arrays: training_set.h5 by path.
    """
    rows = _described(call, network, names, processes)
    if network.whiten is None:
        whitening = learnt(rows, arrays, call.options)
        kept = min(call.options.projection_dimensions or whitening.dimensions, whitening.dimensions)
        initialise_whitening(network, whitening.mean, whitening.projection[:kept])
        rows = whitening.apply(rows, kept)
    module = Projection(network.description).to(next(network.parameters()).device)

    def describe(images: Indices, epoch: int, report: Callable[[int, int], None]) -> DescriptorTable:
        with torch.no_grad():
            found = module(torch.from_numpy(rows[images]).to(module.change.device)).cpu().numpy()
        report(len(images), len(images))
        return DescriptorTable(images, found)

    def result() -> RetrievalNetwork:
        assert network.whiten is not None
        module.fold_into(network.whiten)
        return network

    load = rows.__getitem__
    return Subject(
        module,
        load,
        lambda image, number: load(image),
        lambda row: torch.from_numpy(row)[None],
        describe,
        describe,
        result,
    )


def learnt(rows: NDArray[np.float32], arrays: Mapping[str, Any], options: TrainingOptions) -> Whitening:
    """Lw of descriptors [N, D] of the training set's images, its ridge chosen as an epoch is."""
    pairs = training_pairs(arrays, "m2+m3")
    train = np.flatnonzero(np.asarray(arrays["images/split"]) == TRAIN)
    statistics = pair_statistics(rows, pairs[:, 0], pairs[:, 1], train)
    val = Val.of(arrays, options.val_database, options.val_mean, options.val_queries)
    choice = choose_shrinkage(statistics, rows, val, WhiteningOptions().shrinkage_grid)
    LOGGER.info("Lw of %d pairs with ridge %g", len(pairs), choice.shrinkage)
    return choice.whitening


def _described(
    call: TrainingCall, network: RetrievalNetwork, names: list[str], processes: Processes
) -> NDArray[np.float32]:
    """[N, D] of all images by the network as it comes: the sum over `described_at`, of unit length."""
    found = []
    for size in call.options.described_at:
        if call.descriptors is not None:
            found.append(training_rows(call.training_set, call.descriptors[size]))
        else:
            sized = replace(call, options=call.options.model_copy(update={"image_size": size}))
            whole = whole_network(sized, network, names, processes)
            found.append(whole.describe(np.arange(len(names)), 0, lambda done, total: None).rows)
    if len(found) == 1:
        return found[0]
    total = np.sum(found, axis=0, dtype=np.float64)
    return (total / (np.linalg.norm(total, axis=1, keepdims=True) + EPSILON)).astype(np.float32)
