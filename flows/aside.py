"""Calls beside a flow: what a run page shows of a stage is drawn while the next one works."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

Aside = Callable[..., None]
"""`aside(function, *arguments)`: call it later, in the context of now."""


@contextmanager
def aside() -> Iterator[Aside]:
    """What is handed over inside is called in order, in one thread, in the context (Prefect's too) in which
    it was handed over.

    The end waits for all of it and raises its first error, after which nothing more is called. Where the
    inside raises, all of it is waited for too, so that a failed run shows what it made; where it is
    interrupted or cancelled, only for what runs. Its own error is the one that is raised.
    """
    futures: list[Future[Any]] = []
    failed = False

    def call(function: Callable[..., Any], *arguments: Any) -> None:
        nonlocal failed
        if failed:
            return
        try:
            function(*arguments)
        except BaseException:
            failed = True
            raise

    def later(function: Callable[..., Any], *arguments: Any) -> None:
        futures.append(pool.submit(copy_context().run, call, function, *arguments))

    with ThreadPoolExecutor(1, thread_name_prefix="aside") as pool:
        try:
            yield later
        except Exception:
            raise
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for future in futures:
        future.result()
