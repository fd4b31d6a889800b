"""Work in a thread without denormal numbers: the caller's own setting stays."""

import contextvars
import signal
import threading
from collections.abc import Callable

import pytest
import torch

from retrieval.describe.compute import Stopped, without_denormals

TINY = 1e-41
WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


def product() -> float:
    return float(torch.tensor(TINY).mul(0.5))


def test_denormals_are_zero_inside_and_stay_outside() -> None:
    assert product() > 0
    assert without_denormals(lambda check: product()) == 0
    assert product() > 0


def test_errors_results_and_context_pass() -> None:
    token = WHERE.set("here")
    assert without_denormals(lambda check: WHERE.get()) == "here"
    WHERE.reset(token)

    def fail(check: Callable[[], None]) -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        without_denormals(fail)


def test_an_interrupted_caller_ends_the_work_first() -> None:
    """Ctrl-C reaches the main thread; the work notices at its next check, and has ended when it is raised."""
    ended = threading.Event()

    def work(check: Callable[[], None]) -> None:
        signal.raise_signal(signal.SIGINT)
        try:
            while True:
                check()
        except Stopped:
            ended.set()
            raise

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's is to ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            without_denormals(work)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.is_set()
