"""Look into a file that may make the HDF5 library hang or crash: the reading is done by another process.

Damage in the heap that holds texts of variable length sends the library round in circles for ever.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.children.child import Child
from storage.children.errors import ChildFailed, ChildOverMemory
from storage.files.errors import DamagedArtifact
from storage.hdf5.check import Violation
from storage.inspect.describe import describe
from storage.inspect.render import Description

TIME_LIMIT_S = 20.0
_AGAIN_S = 5.0
_MOST_STUCK = 6


def describe_limited(
    path: Path | str, *, full: bool = False, time_limit_s: float = TIME_LIMIT_S
) -> Description:
    """What `describe` says; datasets that the library does not come back from are left out and named.

    time_limit_s: seconds that may pass without progress. Raises FileNotFoundError only.
    """
    path = Path(path)
    if not path.exists():
        return describe(path)
    refused: list[str] = []
    limit = time_limit_s
    with Child() as child:
        while True:
            try:
                found = child.call(
                    "storage.inspect.describe:describe", path, full=full, refused=refused, time_limit_s=limit
                )
                return replace(found, violations=_with_refused(found, refused))
            except ChildFailed as stuck:
                refused.append(stuck.at or "/")
                if refused[-1] == "/" or len(refused) == _MOST_STUCK:
                    return _hopeless(path, refused, stuck)
                limit = min(limit, _AGAIN_S)


def guarded(
    function: str,
    path: Path,
    *arguments: Any,
    time_limit_s: float = TIME_LIMIT_S,
    memory_limit_bytes: int | None = None,
    **named: Any,
) -> Any:
    """A reading function ("module:name") of a file in another process. time_limit_s: without progress;
    memory_limit_bytes: beside what the process has before it reads.

    Raises DamagedArtifact where it hangs, dies or wants more memory, and what the function raises.
    """
    with Child() as child:
        try:
            return child.call(
                function,
                path,
                *arguments,
                time_limit_s=time_limit_s,
                memory_limit_bytes=memory_limit_bytes,
                **named,
            )
        except ChildFailed as failed:
            raise DamagedArtifact(f"{path}: {failed.at or '/'} cannot be read: {_why(failed)}") from None


def _why(failed: ChildFailed) -> str:
    if isinstance(failed, ChildOverMemory):
        return f"{failed.what}; its bytes are damaged, or it announces more than it holds: rebuild the file"
    return (
        f"{failed.what}; its bytes are damaged or the disk is too slow: rebuild the file, or allow more time"
    )


def _with_refused(found: Description, refused: list[str]) -> tuple[Violation, ...]:
    """Every violation, those of a dataset that was left out as one."""
    text = "cannot be read: the HDF5 library never comes back from it; rebuild the file"
    others = tuple(each for each in found.violations if each.path not in refused)
    return (*others, *(Violation(path, text) for path in refused))


def _hopeless(path: Path, refused: list[str], stuck: ChildFailed) -> Description:
    size = path.stat().st_size if path.is_file() else 0
    problems = tuple(Violation(each, f"cannot be read: {_why(stuck)}") for each in refused)
    return Description(str(path), "hdf5", size, violations=problems)
