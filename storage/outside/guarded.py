"""Files from outside, read in a process of their own: who sends a file can make the library that reads it
hang, crash or take all memory, and then only that process ends.

    found = read_outside("storage.hdf5.outside:read_whole", path, "training_set")
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.children.child import Child
from storage.children.errors import ChildFailed, ChildOverMemory
from storage.children.process import find, given
from storage.files.errors import DamagedArtifact

MEMORY_BYTES = 2 << 30
STEP_S = 3.0
"""Processor time between two signs of progress; a disk or a machine that is slow does not count."""
TIME_LIMIT_S = 60.0
_BYTES_PER_S = 1 << 20
_GROWTH = 16
"""Bytes of Python's lists and texts for one byte of a file."""
_REMEDY = "its bytes are damaged, or it announces more than it holds: get it again from its source"


def read_outside(
    function: str, path: Path, *arguments: Any, step_s: float | None = STEP_S, **named: Any
) -> Any:
    """What a reading function ("module:name") returns, called with path, arguments and, where it has such a
    parameter, `watch`.

    It may take MEMORY_BYTES and _GROWTH times the file, and `step_s` of processor time between two calls of
    `watch`. Raises DamagedArtifact that names the file where it takes more, hangs or crashes, and what the
    function raises.
    """
    with Child(threads=1) as child:
        return ask_outside(child, function, path, *arguments, step_s=step_s, **named)


def ask_outside(
    child: Child, function: str, path: Path, *arguments: Any, step_s: float | None = STEP_S, **named: Any
) -> Any:
    """The same in a process that goes on afterwards. Raises what `read_outside` does."""
    try:
        return child.call(
            "storage.outside.guarded:in_steps",
            function,
            path,
            arguments,
            named,
            step_s,
            time_limit_s=TIME_LIMIT_S + _bytes(path) / _BYTES_PER_S + (step_s or 0),
            memory_limit_bytes=memory_limit_bytes(path),
        )
    except ChildOverMemory as failed:
        raise DamagedArtifact(f"{path}: takes too much memory to read ({failed.what}); {_REMEDY}") from None
    except ChildFailed as failed:
        at = f" at {failed.at!r}" if failed.at else ""
        raise DamagedArtifact(
            f"{path}: reading it{at} comes to no end, or ends what reads it ({failed.what}); {_REMEDY}"
        ) from None


def memory_limit_bytes(path: Path) -> int:
    """What may be taken to read a file or a folder, beside what the process has before."""
    return MEMORY_BYTES + _GROWTH * _bytes(path)


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files if each.is_file())


def read_pickle(path: Path, encoding: str = "utf-8") -> Any:
    """A pickle of lists, dicts, texts, numbers and arrays, see storage.outside.pickles. Raises BadPickle,
    DamagedArtifact, both of which name the file, and OSError."""
    return read_outside("storage.outside.pickles:read_pickle", path, encoding, step_s=None)


def in_steps(
    function: str,
    path: Path,
    arguments: tuple[Any, ...],
    named: dict[str, Any],
    step_s: float | None,
    *,
    watch: Callable[[str], None],
) -> Any:
    """Call the function in this process, which ends where a step takes longer. For `read_outside`."""

    def news(text: str) -> None:
        signal.setitimer(signal.ITIMER_PROF, step_s or 0)
        watch(text)

    called = find(function)
    try:
        news("")
        return called(path, *arguments, **given(called, news, None), **named)
    except RecursionError:
        raise DamagedArtifact(f"{path}: holds values nested too deep; {_REMEDY}") from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
