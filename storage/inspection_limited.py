"""Look into a file that may make the HDF5 library hang or crash: the reading is done by another process.

Damage in the heap that holds texts of variable length sends the library round in circles for ever.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.hdf5_errors import DamagedArtifact
from storage.inspection import Description, describe
from storage.limited import Stuck, Worker
from storage.validation import Violation

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
    with Worker() as worker:
        while True:
            try:
                found = worker.call(
                    "storage.inspection:describe", path, full=full, refused=refused, time_limit_s=limit
                )
                return replace(found, violations=_with_refused(found, refused))
            except Stuck as stuck:
                refused.append(stuck.at or "/")
                if refused[-1] == "/" or len(refused) == _MOST_STUCK:
                    return _hopeless(path, refused, stuck)
                limit = min(limit, _AGAIN_S)


def guarded(
    function: str, path: Path, *arguments: Any, time_limit_s: float = TIME_LIMIT_S, **named: Any
) -> Any:
    """A reading function ("module:name") of a file in another process. Raises DamagedArtifact where it hangs,
    and what the function raises."""
    with Worker() as worker:
        try:
            return worker.call(function, path, *arguments, time_limit_s=time_limit_s, **named)
        except Stuck as stuck:
            raise DamagedArtifact(f"{path}: {stuck.at or '/'} cannot be read: {_why(stuck)}") from None


def _why(stuck: Stuck) -> str:
    return f"{stuck}; its bytes are damaged or the disk is too slow: rebuild the file, or allow more time"


def _with_refused(found: Description, refused: list[str]) -> tuple[Violation, ...]:
    """Every violation, those of a dataset that was left out as one."""
    text = "cannot be read: the HDF5 library never comes back from it; rebuild the file"
    others = tuple(each for each in found.violations if each.path not in refused)
    return (*others, *(Violation(path, text) for path in refused))


def _hopeless(path: Path, refused: list[str], stuck: Stuck) -> Description:
    size = path.stat().st_size if path.is_file() else 0
    problems = tuple(Violation(each, f"cannot be read: {_why(stuck)}") for each in refused)
    return Description(str(path), "hdf5", size, violations=problems)
