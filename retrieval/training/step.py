"""The inner loop: given tuples of photographs, update the network.

To follow a training of the published code through its own tuples (losses to 1e-5, parameters to 1e-4):

    options = TrainingOptions(
        loss="triplet", margin=0.1, optimizer="sgd", momentum=0.9, learning_rate=lr, weight_decay=decay,
        tuples_per_step=batch_size * update_every,
    )
    learner = Learner.of(network, options)
    stepping = Stepping(options.tuples_per_step, step_remainder=False)
    for epoch, tuples in enumerate(recorded, start=1):  # [T, 2 + n] in the order in which they were consumed
        set_learning_rate(learner.optimizer, options.rate_at(epoch))
        losses = train_tuples(learner, tuples, TrainingPhotographs(load), stepping)

The published code steps after `update_every` batches of `batch_size` tuples and drops the gradients of what
is left over at the end of an epoch: `step_remainder=False`. GeM's p has 10 times the learning rate
(`gem_p_rate`) and no weight decay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.describe.images import loaded_ahead, normalise
from retrieval.learning.gradients import Loss, query_gradients, tuple_gradients
from retrieval.learning.losses import (
    ContrastiveLoss,
    InfoNCELoss,
    MultiSimilarityLoss,
    SmoothAPLoss,
    SupervisedContrastiveLoss,
    TripletLoss,
)
from retrieval.learning.processes import ALONE, Processes
from retrieval.learning.projection import Projection
from retrieval.networks.network import RetrievalNetwork
from retrieval.training.options import TrainingOptions, TrainingResources

if TYPE_CHECKING:
    from retrieval.training.augmentation import Change
    from retrieval.training.memory import Memory, Standing

Trained = RetrievalNetwork | Projection
NEGATIVES_AT_A_TIME = 5  # where they share a pass
AHEAD = 6  # photographs prepared before their turn, however many negatives a tuple has


class TrainingDiverged(ValueError):
    """A loss or a descriptor is not a number any more."""


def make_loss(options: TrainingOptions, backbone: str) -> Loss:
    """The loss of the options, with the margin that is in force for the backbone where it has one."""
    margin = options.margin_for(backbone)
    sharpness = {} if options.temperature is None else {"temperature": options.temperature}
    losses: dict[str, Callable[[], Loss]] = {
        "contrastive": lambda: ContrastiveLoss(margin),
        "triplet": lambda: TripletLoss(margin),
        "multi_similarity": MultiSimilarityLoss,
        "smooth_ap": partial(SmoothAPLoss, **sharpness),
        "supervised_contrastive": partial(SupervisedContrastiveLoss, **sharpness),
        "info_nce": partial(InfoNCELoss, **sharpness),
    }
    return losses[options.loss]()


def make_optimizer(network: Trained, options: TrainingOptions) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over two groups: everything, and GeM's p (faster, without weight decay).

    Every group has `factor`: its learning rate / the learning rate. Source: cirtorch train.py.
    """
    exponent = [network.gem.p] if network.gem is not None else []
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    others = [parameter for parameter in trained if all(parameter is not p for p in exponent)]
    groups: list[dict[str, Any]] = [{"params": others, "factor": 1.0, "weight_decay": options.weight_decay}]
    if exponent:
        factor = options.gem_p_rate * (10 if len(exponent[0]) > 1 else 1)
        groups.append({"params": exponent, "factor": factor, "weight_decay": 0.0})
    make: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "sgd": partial(torch.optim.SGD, momentum=options.momentum),
    }
    return make[options.optimizer](groups, lr=options.learning_rate)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Each group gets rate x its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


@dataclass(frozen=True, eq=False)
class Learner:
    """A network, what changes it, and the loss of a tuple that it is changed for."""

    network: Trained
    optimizer: torch.optim.Optimizer
    loss: Loss

    @classmethod
    def of(cls, network: Trained, options: TrainingOptions) -> Learner:
        """With the optimiser and the loss of the options."""
        loss = make_loss(options, network.description.architecture)
        return cls(network, make_optimizer(network, options), loss)

    def update(self, processes: Processes = ALONE) -> None:
        """One step along the gradients of all processes, which then are zero again."""
        processes.sum([p.grad for p in self.network.parameters() if p.grad is not None])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)


@dataclass(frozen=True)
class TrainingPhotographs:
    """Photographs by the number of their image.

    load(image) -> [H, W, 3] uint8; changed(photograph, position of the tuple, place in it) -> what is trained
    on, None: the photograph itself; view(image, position, place) -> the same of an image by its number, None:
    load and changed; tensor: that as a batch of one, None: normalised for the network; name(image): for
    errors.
    """

    load: Callable[[int], NDArray[np.uint8]]
    changed: Change | None = None
    view: Callable[[int, int, int], NDArray[Any]] | None = None
    tensor: Callable[[NDArray[Any]], Tensor] | None = None
    name: Callable[[int], str] = str

    def of(self, image: int, position: int, place: int) -> NDArray[np.uint8]:
        """What is trained on at a place of a tuple."""
        if self.view is not None:
            return self.view(image, position, place)
        photograph = self.load(image)
        return photograph if self.changed is None else self.changed(photograph, position, place)


@dataclass(frozen=True)
class Stepping:
    """How tuples become steps.

    Gradients are summed over tuples_per_step tuples, then one optimiser step; tuples left over at the end
    make a smaller step, or none (step_remainder=False, as in the published code). negatives_at_a_time: of
    equal size, None: 1 on a CPU, NEGATIVES_AT_A_TIME elsewhere.
    """

    tuples_per_step: int = 5
    step_remainder: bool = True
    precision: str = "float32"
    negatives_at_a_time: int | None = None
    loader_threads: int = 0

    @classmethod
    def of(cls, options: TrainingOptions, resources: TrainingResources) -> Stepping:
        return cls(
            tuples_per_step=options.tuples_per_step,
            precision=options.precision,
            negatives_at_a_time=resources.negatives_at_a_time,
            loader_threads=resources.loader_threads,
        )

    def steps(self, num_tuples: int) -> list[range]:
        """Positions of the tuples of each step."""
        starts = range(0, num_tuples, self.tuples_per_step)
        return [range(start, min(start + self.tuples_per_step, num_tuples)) for start in starts]


def train_tuples(
    learner: Learner,
    tuples: NDArray[np.int64],
    photographs: TrainingPhotographs,
    stepping: Stepping | None = None,
    *,
    weights: NDArray[np.float32] | None = None,
    memory: Memory | None = None,
    standing: Standing | None = None,
    after_tuple: Callable[[int, float], None] | None = None,
    after_step: Callable[[NDArray[np.float64]], None] | None = None,
    processes: Processes = ALONE,
) -> NDArray[np.float64]:
    """Train on tuples [T, 1 + P + n] of image numbers (query, positives, negatives) in the given order ->
    losses [T].

    weights: [T, P] of the positives, None: one positive of weight 1; memory: gives further negatives and
    takes what a step described; standing: gives the descriptors of all but the query, which alone passes the
    network. The loss of a tuple is the one before its step. after_tuple(position, loss);
    after_step(losses so far). Several processes share the tuples of a step. Raises TrainingDiverged naming
    the tuple.
    """
    stepping = stepping or Stepping()
    losses, steps = np.zeros(len(tuples)), stepping.steps(len(tuples))
    weights = np.ones((len(tuples), 1), dtype=np.float32) if weights is None else weights
    learner.network.train()
    _zero_gradients(learner.network)
    passing = tuples if standing is None else tuples[:, :1]
    loaded = _loaded(learner.network, passing, photographs, stepping, processes)
    for step in steps:
        described: list[NDArray[np.float32]] = []
        for position in processes.share(step):
            batches = [next(loaded) for _ in range(passing.shape[1])]
            if standing is not None:
                others = standing.others(tuples[position], weights.shape[1])
                losses[position], rows = _add_of_query(
                    learner, batches[0], weights[position], others, stepping
                )
            else:
                further = None if memory is None else partial(memory.negatives_of, tuples[position])
                losses[position], rows = _add_gradients(
                    learner, batches, weights[position], further, stepping
                )
            described.append(rows)
            if after_tuple is not None:
                after_tuple(position, float(losses[position]))
        losses[step.start : step.stop] = sum(processes.gather(losses[step.start : step.stop]))
        for position in step:
            if not np.isfinite(losses[position]):
                names = [photographs.name(image) for image in tuples[position].tolist() if image >= 0]
                raise TrainingDiverged(_diverged(names, weights.shape[1], losses[position], position))
        if memory is not None:
            for rank, part in enumerate(processes.gather(described)):
                memory.add(tuples[step.start : step.stop][rank :: processes.size], part)
        if len(step) == stepping.tuples_per_step or stepping.step_remainder:
            learner.update(processes)
            if after_step is not None:
                after_step(losses[: step.stop])
    learner.network.eval()
    return losses


def _loaded(
    network: Trained,
    tuples: NDArray[np.int64],
    photographs: TrainingPhotographs,
    stepping: Stepping,
    processes: Processes,
) -> Iterator[Tensor]:
    """The photographs of this process's tuples, one after the other, [1, 3, H, W] on the network's device."""
    device, description = next(network.parameters()).device, network.description
    tensor = photographs.tensor or partial(normalise, mean=description.mean, std=description.std)

    def prepared(at: tuple[int, int]) -> Tensor:
        return tensor(photographs.of(int(tuples[at]), *at))

    steps = stepping.steps(len(tuples))
    own = [position for step in steps for position in processes.share(step)]
    places = [(position, place) for position in own for place in range(tuples.shape[1])]
    threads = stepping.loader_threads
    for batch in loaded_ahead(places, prepared, threads=threads, ahead=max(AHEAD, 2 * threads)):
        yield batch.to(device, memory_format=torch.channels_last) if batch.ndim == 4 else batch.to(device)


def _add_gradients(
    learner: Learner,
    photographs: Sequence[Tensor],
    weights: NDArray[np.float32],
    further: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None,
    stepping: Stepping,
) -> tuple[float, NDArray[np.float32]]:
    """`tuple_gradients` in the precision and the batches of the device."""
    device, reduced = photographs[0].device, stepping.precision == "bfloat16"
    more = None if further is None else lambda rows: torch.from_numpy(further(rows.cpu().numpy())).to(device)
    apart = device.type == "cpu" and photographs[0].ndim == 4  # rows of a projection share a pass
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=reduced):  # of a tuple: weights cast once
        value, rows = tuple_gradients(
            lambda batch: learner.network(batch).float(),
            photographs,
            learner.loss,
            weights=torch.from_numpy(weights).to(device),
            further=more,
            negatives_at_a_time=stepping.negatives_at_a_time or (1 if apart else NEGATIVES_AT_A_TIME),
            # in bfloat16 what a pass does to the weights (cast, reordered, gradient added) weighs as much as
            # the photograph; in float32 on a CPU a batch gains nothing
            anchors_together=not apart or reduced,
        )
    return value, rows.cpu().numpy()


def _add_of_query(
    learner: Learner,
    photograph: Tensor,
    weights: NDArray[np.float32],
    others: tuple[NDArray[np.float32], NDArray[np.float32]],
    stepping: Stepping,
) -> tuple[float, NDArray[np.float32]]:
    """`query_gradients` in the precision of the device. others: positives and negatives."""
    device, reduced = photograph.device, stepping.precision == "bfloat16"
    positives, negatives = (torch.from_numpy(rows).to(device) for rows in others)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=reduced):
        value, rows = query_gradients(
            lambda batch: learner.network(batch).float(),
            photograph,
            positives,
            negatives,
            learner.loss,
            torch.from_numpy(weights).to(device),
        )
    return value, rows.cpu().numpy()


def _zero_gradients(network: nn.Module) -> None:
    """Gradients of zero instead of none: weight decay then also acts on what a step's tuples did not
    touch."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


def _diverged(names: Sequence[str], positives: int, value: float, position: int) -> str:
    query, chosen, negatives = names[0], names[1 : 1 + positives], names[1 + positives :]
    return (
        f"tuple {position + 1} (query {query!r}, positives {chosen}, negatives {negatives}): loss "
        f"{value}; lower training.learning_rate, or look at these photographs; the last good checkpoint is "
        "kept"
    )
