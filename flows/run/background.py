"""What is drawn for people while a flow works: beside it, and never a reason for it to fail."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from traceback import extract_tb
from typing import Any

logger = logging.getLogger(__name__)

Aside = Callable[..., None]
"""`aside(function, *arguments)`: call it later, in the context of now."""


@contextmanager
def harmless(what: str) -> Iterator[None]:
    """An error inside is logged with its cause and goes no further; an interruption or a cancellation does.

    Around everything that a run shows and that no later stage needs. what: words for the log.
    """
    try:
        yield
    except Exception as error:
        at = extract_tb(error.__traceback__)[-1]
        cause = f"{type(error).__name__}: {error} ({Path(at.filename).name}:{at.lineno})"
        logger.warning("not shown: %s: %s", what, cause)
        logger.debug("why it is not shown", exc_info=error)


@contextmanager
def aside() -> Iterator[Aside]:
    """What is handed over inside is called in order, in one thread, in the context (Prefect's too) in which
    it was handed over. Its errors are harmless.

    The end waits for all of it. Where the inside raises, all of it is waited for too, so that a failed run
    shows what it made; where it is interrupted or cancelled, only for what runs.
    """
    futures: list[Future[Any]] = []

    def call(function: Callable[..., Any], *arguments: Any) -> None:
        with harmless(getattr(function, "__name__", repr(function))):
            function(*arguments)

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
        future.result()  # raises what ended the thread and is no error
