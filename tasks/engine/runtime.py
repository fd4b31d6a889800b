"""What tasks and flows share while they run: stores, retries, chunked fan-outs, counts of what was cached."""

import errno
import functools
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any, Literal, TypeVar
from uuid import UUID

from prefect import Task, flow
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, as_completed
from prefect.results import ResultRecord
from prefect.runtime import flow_run
from prefect.utilities.callables import get_call_parameters

from storage.files.escaping import plain_logs
from storage.store.store import Store
from tasks.engine.pacing import until_recorded
from tasks.engine.progress import reporter
from tasks.engine.runners import task_runner

MAX_TASKS = 1000
"""Task runs in one flow run; beyond it Prefect's in-memory queue loses some (PrefectHQ/prefect#19136)."""

logger = logging.getLogger(__name__)

LIBRARY_LOGGERS = ("sfm", "retrieval", "storage", "tasks", "flows")

_PERMANENT = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

Result = TypeVar("Result")
Outcome = Literal["cached", "run"]


class FanOutFailed(RuntimeError):
    """Some tasks of a fan-out failed; the others ended and are cached."""


def hear_libraries() -> None:
    """Let through what our libraries log at INFO: Prefect takes the lines up, but leaves the level unset.
    What is logged in this process has no control characters from here on."""
    plain_logs()
    for name in LIBRARY_LOGGERS:
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.INFO)


hear_libraries()  # a worker has no other place of ours that it always passes


@functools.lru_cache(maxsize=16)
def _open(root: str) -> Store:
    return Store.open(root)


def open_store(root: str | os.PathLike[str]) -> Store:
    """The store at `root`, opened once per process and path. Raises what `Store.open` raises."""
    return _open(os.path.abspath(root))


def is_transient(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task may be tried again: I/O that can pass, a lost pool worker; never a ValueError."""
    error = state.data.result if isinstance(state.data, ResultRecord) else state.data
    if isinstance(error, BrokenExecutor):
        return True
    if not isinstance(error, OSError) or isinstance(error, (ValueError, *_PERMANENT)):
        return False
    return error.errno not in _NO_ROOM


def fan_out(
    task: Task[..., Result],
    calls: Sequence[Mapping[str, Any]],
    *,
    workers: int,
    address: str | None = None,
    limit: int = MAX_TASKS,
    tolerated: type[Exception] | None = None,
    **common: Any,
) -> list[Result]:
    """Inside a flow: `task(**common, **call)` for every call, `workers` at a time; results in the order of
    `calls`. address: of a Dask scheduler whose workers do them instead, as many at a time as they can.

    More than `limit` calls go through sub-flows of at most `limit` task runs each. When some fail the rest
    still end (and are cached), then FanOutFailed is raised from the first error - or that error itself if it
    is a ValueError, which is the user's to mend. A task that fails with a `tolerated` error has no result and
    a line in the log.
    """
    if workers < 1 or limit < 1:
        raise ValueError(f"fan_out of {task.name}: workers={workers} and limit={limit} must be at least 1")
    submit = functools.partial(
        _submit_all, task, workers=workers, address=address, tolerated=tolerated, common=common
    )
    if len(calls) <= limit:
        return submit(calls)
    results: list[Result] = []
    for start in range(0, len(calls), limit):
        part = calls[start : start + limit]
        name = f"{task.name} {start + 1}-{start + len(part)} of {len(calls)}"
        results += _in_sub_flow(name, functools.partial(submit, part))
    return results


def _in_sub_flow(name: str, work: Callable[[], list[Result]]) -> list[Result]:
    """The results of `work`, run as a flow of its own; they stay in memory, not in Prefect's parameters or
    results."""
    results: list[Result] = []
    runs: list[UUID] = []

    @flow(name=name, persist_result=False)
    def sub_flow() -> None:
        runs.append(UUID(flow_run.get_id()))
        results.extend(work())

    sub_flow()
    until_recorded(runs[0], len(results))
    return results


def _submit_all(
    task: Task[..., Result],
    calls: Sequence[Mapping[str, Any]],
    *,
    workers: int,
    address: str | None,
    tolerated: type[Exception] | None,
    common: Mapping[str, Any],
) -> list[Result]:
    with task_runner(workers, address) as started:
        futures: list[PrefectFuture[Any]] = [
            started.submit(task, get_call_parameters(task.fn, (), {**common, **call})) for call in calls
        ]
        report = reporter(task.name.replace("_", " "))
        for done, future in enumerate(as_completed(futures), start=1):
            future.wait()
            report(done, len(futures), "tasks")
        outcomes = [future.result(raise_on_failure=False) for future in futures]
        if address is not None:
            _tally_elsewhere(task, futures)
    return _results(outcomes, task.name, tolerated)


def _tally_elsewhere(task: Task[..., Any], futures: Sequence[PrefectFuture[Any]]) -> None:
    """Count what other processes did, which counted for themselves."""
    stage = getattr(task.cache_policy, "stage", None)
    if stage is not None:
        for future in futures:
            tally(stage.name, "cached" if future.state.name == "Cached" else "run")


def _results(outcomes: Sequence[Any], name: str, tolerated: type[Exception] | None) -> list[Any]:
    """The outcomes of tasks without tolerated errors. Raises a ValueError among them, or FanOutFailed."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    errors = [error for error in failed if tolerated is None or not isinstance(error, tolerated)]
    for error in errors:
        if isinstance(error, ValueError):
            raise error
    if errors:
        told = ", ".join(str(error).partition("\n")[0] for error in errors[1:])
        raise FanOutFailed(
            f"{len(errors)} of {len(outcomes)} {name} tasks failed, the others are kept; first: {errors[0]!r}"
            + (f"; then: {told}" if told else "")
        ) from errors[0]
    for error in failed:
        logger.warning("left out: %s", error)
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


_COUNTS: Counter[tuple[str, Outcome]] = Counter()
_COUNTS_LOCK = threading.Lock()


def tally(stage: str, outcome: Outcome) -> None:
    """Note that a task of `stage` was answered from the cache, or that its body ran (an attempt each)."""
    with _COUNTS_LOCK:
        _COUNTS[stage, outcome] += 1


def tallies() -> dict[str, dict[Outcome, int]]:
    """Per stage, how many tasks of this process were cached and how many ran, in the order of first use."""
    with _COUNTS_LOCK:
        counts = dict(_COUNTS)
    stages = dict.fromkeys(stage for stage, _ in counts)
    return {s: {"cached": counts.get((s, "cached"), 0), "run": counts.get((s, "run"), 0)} for s in stages}


def reset_tallies() -> None:
    """Start counting anew."""
    with _COUNTS_LOCK:
        _COUNTS.clear()
