"""What a training changes: a whole network on photographs, or a projection on descriptors.

A projection is a linear layer after the pooling that begins as Lw, or as the layer that the network has: on
its descriptors z of unit length it is z + A z with A = 0, and weight decay pulls A back to that beginning.
What comes before it never changes, so that it is computed once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval.describe.describe import DescriptorTable, Passes, iterate_descriptors
from retrieval.describe.images import PhotographCache, load_photograph, normalise
from retrieval.describe.rows import training_rows
from retrieval.learning.processes import ALONE, Processes
from retrieval.learning.projection import Projection
from retrieval.networks.network import RetrievalNetwork, initialise_whitening
from retrieval.networks.trunks import stages
from retrieval.training.options import TrainingCall, TrainingOptions, TrainingResources
from retrieval.training.positives import Indices
from retrieval.training.step import TrainingDiverged
from retrieval.whitening.whitening import (
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
    """A module that is trained. load(image) -> what it is given, as an array; tensor: that as a batch of one;
    describe(images [K] ascending, epoch, report(done, total)): descriptors by the module as it is; result:
    the network that comes out, once the module is as it shall be."""

    module: RetrievalNetwork | Projection
    load: Callable[[int], NDArray[Any]]
    tensor: Callable[[NDArray[Any]], Tensor]
    describe: Describe
    result: Callable[[], RetrievalNetwork]


@dataclass(frozen=True)
class CurrentDescriptors:
    """Describes images of a training set. load: image -> [H, W, 3] uint8; names: for errors."""

    network: RetrievalNetwork
    load: Callable[[int], NDArray[np.uint8]]
    names: list[str]
    options: TrainingOptions
    resources: TrainingResources
    processes: Processes = ALONE

    def table(
        self, images: NDArray[np.int64], epoch: int, report: Callable[[int, int], None]
    ) -> DescriptorTable:
        """Descriptors of images [K], ascending; report(done, total). Raises TrainingDiverged."""
        own = self.processes.share(images)
        rows = np.empty((len(own), self.network.description.dimension), dtype=np.float32)
        passes = Passes(
            precision=self.options.precision,
            batch_size=self.resources.batch_size,
            device=str(next(self.network.parameters()).device),
            loader_threads=self.resources.loader_threads,
        )
        described = iterate_descriptors(self.network, self.load, own.tolist(), passes)
        for done, (position, descriptor) in enumerate(described, start=1):
            rows[position] = descriptor
            report(done, len(own))
        parts = self.processes.gather(rows)
        rows = np.empty((len(images), rows.shape[1]), dtype=np.float32)
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
    """The network itself; of `trainable=last` all but its last stages keep their weights."""
    options, description = call.options, network.description
    if options.trainable == "last":
        parts = stages(network.features)
        for part in parts[: max(0, len(parts) - options.trainable_stages)]:
            part.requires_grad_(False)

    def decoded(image: int) -> NDArray[np.uint8]:
        path = call.photographs.path(names[image])
        return load_photograph(path, options.image_size, draft=options.draft)

    load = PhotographCache(decoded, call.resources.cache_megabytes * 2**20)
    describing = CurrentDescriptors(network, load, names, options, call.resources, processes)
    tensor = partial(normalise, mean=description.mean, std=description.std)
    return Subject(network, load, tensor, describing.table, lambda: network)


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
        whitening = learnt(rows, arrays)
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

    return Subject(module, rows.__getitem__, lambda row: torch.from_numpy(row)[None], describe, result)


def learnt(rows: NDArray[np.float32], arrays: Mapping[str, Any]) -> Whitening:
    """Lw of descriptors [N, D] of the training set's images."""
    pairs = training_pairs(arrays, "m2+m3")
    train = np.flatnonzero(np.asarray(arrays["images/split"]) == 0)
    statistics = pair_statistics(rows, pairs[:, 0], pairs[:, 1], train)
    choice = choose_shrinkage(statistics, rows, arrays, WhiteningOptions().shrinkage_grid)
    LOGGER.info("the projection begins as Lw of %d pairs with ridge %g", len(pairs), choice.shrinkage)
    return choice.whitening


def _described(
    call: TrainingCall, network: RetrievalNetwork, names: list[str], processes: Processes
) -> NDArray[np.float32]:
    """[N, D] of all images by the network as it comes."""
    if call.descriptors is not None:
        return training_rows(call.training_set, call.descriptors)
    whole = whole_network(call, network, names, processes)
    return whole.describe(np.arange(len(names)), 0, lambda done, total: None).rows
