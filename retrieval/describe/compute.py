"""Where and how torch computes: device, threads, determinism; global settings are put back afterwards."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from retrieval.describe.images import loaded_ahead

T = TypeVar("T")
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
SIGNALS_S = 0.2


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


class Stopped(BaseException):
    """Work in a thread of its own ends because its caller was interrupted."""


def without_denormals(work: Callable[[Callable[[], None]], T]) -> T:
    """work(check) in a thread in which numbers too small for full precision count as zero; its result.

    Such numbers (below 1e-38) slow a processor down by an order of magnitude: gradients of an untrained
    network are full of them. The setting belongs to a thread and to those that it starts, torch's workers
    among them, so the caller's own stays as it is. check() raises Stopped once the caller was interrupted: to
    be called now and then. Raises what work raises.
    """
    stopped, ended = threading.Event(), threading.Event()
    result: list[T] = []
    failure: list[BaseException] = []

    def check() -> None:
        if stopped.is_set():
            raise Stopped

    def run() -> None:
        torch.set_flush_denormal(True)
        try:
            result.append(work(check))
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="training", daemon=True)
    try:
        thread.start()  # an interruption while it waits for the thread finds the thread at work already
        while not ended.wait(SIGNALS_S):  # a signal that another thread was given is handled in between
            pass
    except BaseException:
        stopped.set()
        while thread in threading.enumerate() and not ended.wait(SIGNALS_S):
            pass
        raise
    if failure:
        raise failure[0]
    return result[0]


@contextmanager
def fixed_threads(threads: int | None) -> Iterator[None]:
    """Inside, torch uses this many threads on the CPU (None: as it is)."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_threads(work: Callable[[_Key], _Value], threads: int | None) -> Callable[[_Key], _Value]:
    """work, with this many threads of torch on the CPU (None: as it is)."""

    def run(key: _Key) -> _Value:
        with fixed_threads(threads):
            return work(key)

    return run


def side_by_side(
    keys: Iterable[_Key], work: Callable[[_Key], _Value], threads: int | None
) -> Iterator[_Value]:
    """work(key) of every key, in order, up to `threads` (None: as many as torch has) at a time, each with one
    thread of torch. An error of work is raised in its turn."""
    before = torch.get_num_threads()
    count = threads or before

    def alone(key: _Key) -> _Value:
        if torch.get_num_threads() != 1:  # a setting of each thread
            torch.set_num_threads(1)
        return work(key)

    if count == 1:
        yield from map(with_threads(work, 1), keys)
        return
    try:
        yield from loaded_ahead(keys, alone, threads=count, ahead=count + 1)
    finally:
        torch.set_num_threads(before)  # what threads that start later get


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
