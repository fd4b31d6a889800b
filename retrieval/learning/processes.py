"""The processes of one training, one per GPU: what they share and who writes.

Started by `retrieval.training.distributed`, which tells each its rank; without it there is one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


class FirstFailed(RuntimeError):
    """What only the first process does failed there."""


@dataclass(frozen=True)
class Processes:
    """This process is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, items: Any) -> Any:
        """Every size-th item of a sequence or array: those of this process."""
        return items[self.rank :: self.size]

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes its sum over all processes, in place."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def gather(self, value: T) -> list[T]:
        """What every process has, by rank, on all of them."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, on all of them. Raises FirstFailed on the others where it fails."""
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        error: Exception | None = None
        if self.first:
            try:
                box[0] = make()
            except Exception as failure:
                error, box[1] = failure, str(failure)
        dist.broadcast_object_list(box, src=0)
        if error is not None:
            raise error
        if box[1] is not None:
            raise FirstFailed(box[1])
        return box[0]  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()


ALONE = Processes()


@contextmanager
def launched(device: str) -> Iterator[tuple[Processes, str]]:
    """The processes of one training, and the device of this one: (alone, device) where nothing says so.

    device: 'auto' or 'cuda' become the GPU of the process's place on its machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE, device
        return
    gpu = device in ("auto", "cuda") and torch.cuda.is_available()
    if gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if gpu else "gloo",
        init_method=os.environ["TRAINING_MEETING"],
        rank=int(os.environ["RANK"]),
        world_size=size,
    )
    try:
        yield Processes(dist.get_rank(), size), device
    finally:
        dist.destroy_process_group()
