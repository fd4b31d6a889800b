"""The inner loop: given tuples of photographs, update the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.finetuning import TrainingOptions
from retrieval.images import loaded_ahead, normalise
from retrieval.losses import ContrastiveLoss, TripletLoss, tuple_labels
from retrieval.networks import RetrievalNetwork

Loss = Callable[[Tensor, Tensor], Tensor]


class TrainingDiverged(ValueError):
    """A loss or a descriptor is not a number any more."""


def make_loss(options: TrainingOptions, backbone: str) -> Loss:
    """The loss of the options with the margin that is in force for the backbone."""
    margin = options.margin_for(backbone)
    return TripletLoss(margin) if options.loss == "triplet" else ContrastiveLoss(margin)


def make_optimizer(network: RetrievalNetwork, options: TrainingOptions) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over two groups: everything, and GeM's p (faster, without weight decay).

    Every group has `factor`: its learning rate / the learning rate. Source: cirtorch train.py.
    """
    exponent = [network.gem.p] if network.gem is not None else []
    others = [parameter for parameter in network.parameters() if all(parameter is not p for p in exponent)]
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


def train_tuples(
    network: RetrievalNetwork,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    tuples: NDArray[np.int64],
    load: Callable[[int], NDArray[np.uint8]],
    *,
    tuples_per_step: int = 5,
    step_remainder: bool = True,
    precision: str = "float32",
    recompute: bool = False,
    loader_threads: int = 0,
    name: Callable[[int], str] = str,
    after_tuple: Callable[[int, float], None] | None = None,
) -> NDArray[np.float64]:
    """Train on tuples [T, 2 + n] of image numbers (query, positive, negatives) in the given order -> losses
    [T].

    load(image) gives [H, W, 3] uint8. Gradients are summed over tuples_per_step tuples, then one optimiser
    step; tuples left over at the end make a smaller step, or none (step_remainder=False, as in the published
    code). The loss of a tuple is the one before its step. after_tuple(position, loss). Raises
    TrainingDiverged naming the tuple by name(image).
    """
    device = next(network.parameters()).device
    labels = tuple_labels(tuples.shape[1] - 2).to(device)
    losses = np.empty(len(tuples))
    network.train()
    _zero_gradients(network)

    def prepared(image: int) -> Tensor:
        return normalise(load(image), network.description.mean, network.description.std)

    length = tuples.shape[1]
    images = loaded_ahead(tuples.ravel().tolist(), prepared, threads=loader_threads, ahead=2 * length)
    forward = partial(_forward, network, precision)
    for position in range(len(tuples)):
        photographs = [next(images).to(device, memory_format=torch.channels_last) for _ in range(length)]
        losses[position] = tuple_gradients(forward, photographs, labels, loss, recompute=recompute)
        if not np.isfinite(losses[position]):
            raise TrainingDiverged(
                _diverged(tuples[position].tolist(), float(losses[position]), position, name)
            )
        if (position + 1) % tuples_per_step == 0 or (step_remainder and position + 1 == len(tuples)):
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
        if after_tuple is not None:
            after_tuple(position, float(losses[position]))
    network.eval()
    return losses


def tuple_gradients(
    forward: Callable[[Tensor], Tensor],
    photographs: Sequence[Tensor],
    labels: Tensor,
    loss: Loss,
    *,
    recompute: bool,
) -> float:
    """Add the gradients of one tuple's loss to the parameters; returns the loss.

    The loss is differentiated to the descriptors first; only photographs whose descriptor has a gradient run
    a backward pass: a negative beyond the margin costs its forward pass alone. recompute: no activations are
    kept; photographs with a gradient run forward again, one group at a time.
    """
    groups = _groups(photographs)
    context: AbstractContextManager[Any] = torch.no_grad() if recompute else nullcontext()
    with context:
        described = [forward(batch) for _, batch in groups]
    order = [position for positions, _ in groups for position in positions]
    stacked = torch.cat([rows.detach() for rows in described])
    descriptors = torch.empty_like(stacked)
    descriptors[order] = stacked
    descriptors.requires_grad_()
    value = loss(descriptors, labels)
    result = float(value.detach())
    if not np.isfinite(result):
        return result
    value.backward()  # type: ignore[no-untyped-call]
    assert descriptors.grad is not None
    for (positions, batch), rows in zip(groups, described, strict=True):
        gradient = descriptors.grad[positions]
        if bool(gradient.any()):
            (forward(batch) if recompute else rows).backward(gradient)
    return result


def _groups(photographs: Sequence[Tensor]) -> list[tuple[list[int], Tensor]]:
    """One group per photograph on a CPU, where batches do not pay; on a GPU equal sizes share a forward
    pass."""
    if photographs[0].device.type == "cpu":
        return [([position], photograph) for position, photograph in enumerate(photographs)]
    by_size: dict[tuple[int, ...], list[int]] = {}
    for position, photograph in enumerate(photographs):
        by_size.setdefault(tuple(photograph.shape), []).append(position)
    return [(positions, torch.cat([photographs[p] for p in positions])) for positions in by_size.values()]


def _forward(network: nn.Module, precision: str, batch: Tensor) -> Tensor:
    with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        return network(batch)  # type: ignore[no-any-return]


def _zero_gradients(network: nn.Module) -> None:
    """Gradients of zero instead of none: weight decay then also acts on what a step's tuples did not
    touch."""
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)


def _diverged(images: Iterable[int], value: float, position: int, name: Callable[[int], str]) -> str:
    query, positive, *negatives = (name(image) for image in images)
    return (
        f"tuple {position + 1} (query {query!r}, positive {positive!r}, negatives {negatives}): loss "
        f"{value}; "
        "lower training.learning_rate, or look at these photographs; the last good checkpoint is kept"
    )
