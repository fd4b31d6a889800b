"""Look into a file that may make the HDF5 library hang or crash: the reading is done by another process.

Damage in the heap that holds texts of variable length sends the library round in circles for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.children.child import Child
from storage.children.errors import ChildFailed, ChildOverMemory
from storage.files.errors import DamagedArtifact
from storage.hdf5.check import Violation
from storage.inspect.describe import describe
from storage.inspect.render import Description
from storage.outside.guarded import memory_limit_bytes

TIME_LIMIT_S = 20.0
_AGAIN_S = 5.0
_MOST_REFUSED = 6
_STUCK = "cannot be read: the HDF5 library never comes back from it; rebuild the file"
_TOO_MUCH = "cannot be read: it takes too much memory, or announces more than it holds; rebuild the file"


def describe_limited(
    path: Path | str, *, full: bool = False, time_limit_s: float = TIME_LIMIT_S
) -> Description:
    """What `describe` says; datasets that the library does not come back from, or that take too much memory,
    are left out and named.

    time_limit_s: seconds that may pass without progress. Raises FileNotFoundError only.
    """
    path = Path(path)
    if not path.exists():
        return describe(path)
    refused: dict[str, str] = {}
    limit = time_limit_s
    with Child() as child:
        while True:
            try:
                found: Description = child.call(
                    "storage.inspect.describe:describe",
                    path,
                    full=full,
                    refused=list(refused),
                    time_limit_s=limit,
                    memory_limit_bytes=memory_limit_bytes(path),
                )
                return replace(found, violations=_with_refused(found, refused))
            except ChildFailed as failed:
                at = failed.at or "/"
                refused[at] = _TOO_MUCH if isinstance(failed, ChildOverMemory) else _STUCK
                if at == "/" or len(refused) == _MOST_REFUSED:
                    return _hopeless(path, refused, failed)
                limit = min(limit, _AGAIN_S)


def guarded(
    function: str, path: Path, *arguments: Any, time_limit_s: float = TIME_LIMIT_S, **named: Any
) -> Any:
    """A reading function ("module:name") of a file in another process, within `storage.outside`'s limit of
    memory. time_limit_s: without progress.

    Raises DamagedArtifact where it hangs, dies or wants more memory, and what the function raises.
    """
    with Child() as child:
        try:
            return child.call(
                function,
                path,
                *arguments,
                time_limit_s=time_limit_s,
                memory_limit_bytes=memory_limit_bytes(path),
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


def _with_refused(found: Description, refused: Mapping[str, str]) -> tuple[Violation, ...]:
    """Every violation, those of a dataset that was left out as one."""
    others = tuple(each for each in found.violations if each.path not in refused)
    return (*others, *(Violation(path, text) for path, text in refused.items()))


def _hopeless(path: Path, refused: Iterable[str], failed: ChildFailed) -> Description:
    size = path.stat().st_size if path.is_file() else 0
    problems = tuple(Violation(each, f"cannot be read: {_why(failed)}") for each in refused)
    return Description(str(path), "hdf5", size, violations=problems)
