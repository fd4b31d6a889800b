"""Where and how torch computes: device, threads, determinism; global settings are put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class DeviceUnavailable(ValueError):
    """The device asked for is not there."""


def pick_device(name: str) -> torch.device:
    """'auto' is the first of cuda, mps, cpu that is there; else the device itself. Raises
    DeviceUnavailable."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceUnavailable(f"device {name!r}: {reason}; use 'auto', 'cpu', 'mps' or 'cuda:0'") from error
    return device


@contextmanager
def fixed_threads(threads: int | None) -> Iterator[None]:
    """Inside, torch uses this many threads on the CPU (None: as it is)."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Inside, torch uses algorithms with one result; on a GPU where it has them, elsewhere strictly."""
    strict_before = torch.are_deterministic_algorithms_enabled()
    warn_before = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark_before = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict_before, warn_only=warn_before)
        torch.backends.cudnn.benchmark = benchmark_before
