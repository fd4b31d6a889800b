"""Files from outside, read in a process of their own: who sends a file can make the library that reads it
hang, crash or take all memory, and then only that process ends.

    arrays = read_outside("storage.outside_hdf5:read_whole", path, "training_set")
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from storage.hdf5_errors import DamagedArtifact

MEMORY_BYTES = 2 << 30
STEP_S = 3.0
"""Processor time between two signs of progress; a disk or a machine that is slow does not count."""
TIME_LIMIT_S = 60.0
_BYTES_PER_S = 1 << 20
_GROWTH = 16
"""Bytes of Python's lists and texts for one byte of a file."""


def read_outside(
    function: str, path: Path, *arguments: Any, step_s: float | None = STEP_S, **named: Any
) -> Any:
    """What a reading function ("module:name") returns, called with path, arguments and `watch`.

    It may take MEMORY_BYTES and _GROWTH times the file, and `step_s` of processor time between two calls of
    `watch`. Raises DamagedArtifact that names the file where it takes more, hangs or crashes, and
    what the function raises.
    """
    from storage.inspection_limited import guarded

    size = path.stat().st_size if path.is_file() else 0
    memory = MEMORY_BYTES + _GROWTH * size
    seconds = TIME_LIMIT_S + size / _BYTES_PER_S
    limits = (memory, step_s)
    return guarded(
        "storage.outside:within_limits", path, function, arguments, named, *limits, time_limit_s=seconds
    )


def read_pickle(path: Path, encoding: str = "utf-8") -> Any:
    """A pickle of lists, dicts, texts, numbers and arrays (storage.pickles), read there. Raises BadPickle,
    DamagedArtifact, both of which name the file, and OSError."""
    return read_outside("storage.pickles:read_guarded", path, encoding, step_s=None)


def within_limits(
    path: Path,
    function: str,
    arguments: tuple[Any, ...],
    named: dict[str, Any],
    memory_bytes: int,
    step_s: float | None,
    *,
    watch: Callable[[str], None],
) -> Any:
    """Call the function in this process, which ends where it takes more than it may. For `read_outside`."""
    module, _, name = function.partition(":")
    called = getattr(import_module(module), name)
    _limit_memory(memory_bytes)

    def news(text: str) -> None:
        signal.setitimer(signal.ITIMER_PROF, step_s or 0)
        watch(text)

    try:
        news("")
        return called(path, *arguments, watch=news, **named)
    except MemoryError:
        raise DamagedArtifact(
            f"{path}: reading it takes more than {memory_bytes >> 20} MiB, which its {path.stat().st_size} "
            "bytes do not justify; get it again from its source"
        ) from None
    except RecursionError:
        raise DamagedArtifact(f"{path}: holds values nested too deep; get it again from its source") from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory(more_bytes: int) -> None:
    """What this process may take beyond what it has. Files that are mapped for reading do not count."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + more_bytes
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
