"""What a failure comes down to, in one line; the traceback is for a file.

A machine that has run out of something says so in many ways: an OSError of Python, a RuntimeError with HDF5's
or torch's text, an answer 500 of a server whose database has no room. All of them are one line here.
"""

import errno
import os
import resource
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flows.terminal.console import err, tell
from storage.files.escaping import escaped, escaped_lines, traceback_text

DEBUG = "RETRIEVAL_SFM_DEBUG"
"""Variable that `--debug` sets: tracebacks on the terminal."""
FULL_BYTES = 1 << 20
"""Less room than this on a disk is none: files are written in larger pieces."""
FEW_LINES = 3
"""Of a longer text, such as a child's traceback, the first and the last line say most."""
_FULL = ("no space left on device", "errno = 28", "code: 28,", "database or disk is full")
_QUOTA = ("disk quota exceeded", "errno = 122")
_TOO_LARGE = ("file too large", "errno = 27", "code: 27,")
_READ_ONLY = ("read-only file system", "errno = 30", "code: 30,", "attempt to write a readonly database")
AGAIN = "then run the same command again; what was finished is kept"


def one_line(error: BaseException, *folders: str | os.PathLike[str]) -> str:
    """Why something failed. folders: where it wrote, the likeliest first."""
    if fault := machine_fault(error, *folders):
        return fault
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    text = (
        " ".join(lines if len(lines) <= FEW_LINES else (lines[0], "...", lines[-1])) or type(error).__name__
    )
    if isinstance(error, ValueError | OSError):
        return escaped(text)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    hint = "" if limit == resource.RLIM_INFINITY else f"; no file may exceed {limit} bytes here (`ulimit -f`)"
    return escaped(f"{type(error).__name__}: {text}{hint}")


def machine_fault(error: BaseException, *folders: str | os.PathLike[str]) -> str | None:
    """What the machine has run out of, and the remedy; None where an error has another cause, or is a
    ValueError, which names its own."""
    if isinstance(error, ValueError):
        return None
    places = [Path(folder) for folder in (*folders, tempfile.gettempdir())]
    for each in _chain(error):
        named = [Path(os.fsdecode(name)) for name in _files_of(each)]
        if _is(each, (errno.ENOSPC, errno.EDQUOT), _FULL + _QUOTA):
            return _no_room([*named, *places])
        if _is(each, (errno.EFBIG,), _TOO_LARGE):
            where = f"{str(named[0])!r}: " if named else ""
            return (
                f"{where}the file would be larger than this shell or file system allows; raise the limit "
                f"(`ulimit -f unlimited`) or choose another disk, {AGAIN}"
            )
        if _is(each, (errno.EROFS,), _READ_ONLY):
            where = str((named or places)[0])
            return f"{where!r} is read-only: choose another folder, or make it writable"
    if full := [place for place in places if _free(place) < FULL_BYTES]:
        return _no_room(full)
    return None


def _files_of(error: BaseException) -> list[str | bytes]:
    names = (getattr(error, "filename", None), getattr(error, "filename2", None))
    return [name for name in names if isinstance(name, str | bytes)]


def _is(error: BaseException, numbers: tuple[int, ...], texts: tuple[str, ...]) -> bool:
    """By number where the error has one, else by its text; a ValueError is about what it quotes."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in numbers
    return not isinstance(error, ValueError) and any(text in str(error).lower() for text in texts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it and what went before, and the parts of groups."""
    pending, seen = [error], set[int]()
    while pending:
        each = pending.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        before = None if each.__suppress_context__ else each.__context__
        pending += [e for e in (each.__cause__, before) if e is not None]
        if isinstance(each, BaseExceptionGroup):
            pending += each.exceptions


def _no_room(places: list[Path]) -> str:
    """places: what was written, or may have been; the fullest of them is meant."""
    place = min(places, key=_free)
    room = f"{_free(place) / 2**20:.1f} MiB free"
    return f"no space left on {str(_mount(place))!r} ({room}): make room, {AGAIN}"


def _free(path: Path) -> float:
    for folder in (path, *path.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return float("inf")


def _mount(path: Path) -> Path:
    """Where the disk that a path is on is mounted."""
    path = path.absolute()
    return next((folder for folder in (path, *path.parents) if folder.is_mount()), Path(path.anchor))


def complain(error: BaseException, *folders: str | os.PathLike[str]) -> None:
    """One line about an error, on standard error; with `--debug` its traceback before it."""
    if os.environ.get(DEBUG):
        err.print(escaped_lines("".join(traceback.format_exception(error))), markup=False, highlight=False)
    tell(one_line(error, *folders), red="error:")


def note(error: BaseException, log: Path) -> None:
    """The traceback, at the end of a log; where there is no room for it, nothing."""
    with suppress(OSError), log.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} the command failed\n{traceback_text(error)}\n")


def unexpected(error: BaseException) -> None:
    """One line about an error that nobody foresaw, and where its traceback is."""
    complain(error)
    if machine_fault(error) or os.environ.get(DEBUG):
        return
    try:
        handle, name = tempfile.mkstemp(prefix="retrieval-sfm-", suffix=".log")
        os.close(handle)
    except OSError as why:
        tell(f"no log could be written ({why.strerror}); --debug shows where it happened")
        return
    note(error, Path(name))
    tell(f"log: {name}")
