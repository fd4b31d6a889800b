"""Locks between threads, processes and runs, on ``flock``: the kernel frees them when the holder dies."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _REMIND_S = 0.005, 0.25, 60.0
_held: dict[int, tuple[str, int]] = {}  # descriptor -> (path, thread)


class LockTimeout(TimeoutError):
    """The lock stayed with another holder for longer than the caller would wait."""


class LockHeldHere(RuntimeError):
    """This thread waits for a lock that it holds itself: it would wait for ever."""


def _drop_in_child() -> None:
    # A forked child shares the open file description: without this it would keep a dead parent's lock.
    for descriptor in list(_held):
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_drop_in_child)


def flocked(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock of an open file if it is free; where the file system knows no locks, it is."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


class FileLock:
    """An exclusive lock on a file; every acquisition opens the file anew, so threads exclude each other too.

    The file goes away with the last release. Not re-entrant. Use it as a context manager or call ``acquire``
    and ``release``; they may be called from different threads. After a fork the child does not hold it.
    """

    def __init__(self, path: str | Path, what: str = "", timeout_s: float | None = None) -> None:
        """what: shown to those who wait. timeout_s: for the context manager, None = wait for ever."""
        self.path = Path(path)
        self.what = what or self.path.stem
        self.timeout_s = timeout_s
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None and self._descriptor in _held

    def try_acquire(self) -> bool:
        """Take the lock if it is free; whether it was."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            if self._is_current(descriptor):
                self._keep(descriptor)
                return True
            os.close(descriptor)  # released and removed between open and flock

    def is_free(self) -> bool:
        """Whether nobody holds the lock now; asked without writing anything."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def acquire(self, timeout_s: float | None = None) -> None:
        """Wait for the lock. Raises LockTimeout, and LockHeldHere if this very thread holds it already."""
        start, reminded, pause = time.monotonic(), 0.0, _FIRST_PAUSE_S
        while not self.try_acquire():
            waited = time.monotonic() - start
            if timeout_s is not None and waited >= timeout_s:
                raise LockTimeout(f"{self.what}: after {waited:.1f} s still with {self.holder()}")
            if timeout_s is None:
                self._refuse_deadlock()
            if pause >= _LONGEST_PAUSE_S and (not reminded or waited - reminded > _REMIND_S):
                reminded = waited
                log.info("waiting for %s, held by %s", self.what, self.holder())
            time.sleep(pause if timeout_s is None else max(0.0, min(pause, timeout_s - waited)))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def release(self) -> None:
        """Give the lock back; without holding it, nothing happens."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None or _held.pop(descriptor, None) is None:
            return
        try:
            self.path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def holder(self) -> str:
        """Who holds the lock, as written in its file."""
        try:
            facts = json.loads(self.path.read_bytes())
            return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def _is_current(self, descriptor: int) -> bool:
        try:
            now, mine = os.stat(self.path), os.fstat(descriptor)
        except FileNotFoundError:
            return False
        return (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino)

    def _keep(self, descriptor: int) -> None:
        self._descriptor = descriptor
        _held[descriptor] = (str(self.path.absolute()), threading.get_ident())
        since = datetime.now(UTC).isoformat(timespec="seconds")
        facts = {"pid": os.getpid(), "host": os.uname().nodename, "since": since, "what": self.what}
        with suppress(OSError):  # a full disk: the lock holds, only its holder is not named
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(facts).encode(), 0)

    def _refuse_deadlock(self) -> None:
        if (str(self.path.absolute()), threading.get_ident()) in _held.values():
            raise LockHeldHere(f"{self.what}: this thread holds the lock already; take it once only")

    def __enter__(self) -> FileLock:
        self.acquire(self.timeout_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "what": self.what, "timeout_s": self.timeout_s, "_descriptor": None}
