"""What can become of a child process: all say which work it was, what happened and what it printed last."""

from __future__ import annotations

import signal
from copy import copy


class ChildFailed(RuntimeError):
    """A child process gave no answer. `at`: its last news; `log`: the end of what it printed."""

    def __init__(self, what: str, label: str = "", at: str = "", log: str = "") -> None:
        text = f"{label}: {what}" if label else what
        super().__init__("\n  ".join([text, *log.splitlines()]))
        self.what, self.label, self.at, self.log = what, label, at, log

    def with_remedy(self, remedy: str) -> ChildFailed:
        """The same error, saying what to do."""
        again = copy(self)
        ChildFailed.__init__(again, f"{self.what}; {remedy}", self.label, self.at, self.log)
        return again


class ChildKilled(ChildFailed):
    """A signal ended it: from outside, as the kernel does when memory is short, or raised by native code."""

    number = 0

    @property
    def signal(self) -> str:
        """The signal's name."""
        return signal.Signals(self.number).name

    @property
    def crashed(self) -> bool:
        """Whether it is a signal that native code raises on what it cannot take; else it came from
        outside."""
        return self.number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


class ChildEnded(ChildFailed):
    """It ended by itself, without an answer."""

    status = 0


class ChildLate(ChildFailed):
    """It was ended at a time limit."""


class ChildOverMemory(ChildFailed):
    """It wanted more memory than it was allowed."""


class ChildCancelled(ChildFailed):
    """It was ended because nobody wants its answer any more."""


def lost(returncode: int, label: str, at: str, log: str) -> ChildFailed:
    """The error for a process that ended with this status, negative for a signal."""
    failure: ChildKilled | ChildEnded
    if returncode < 0:
        failure = ChildKilled(_killed(-returncode), label, at, log)
        failure.number = -returncode
    else:
        failure = ChildEnded(f"the child process ended (exit status {returncode})", label, at, log)
        failure.status = returncode
    return failure


def labelled(error: BaseException, label: str) -> BaseException:
    """An error that a child reported, of the same class, with the work's name before its text."""
    if label and len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (f"{label}: {error.args[0]}",)
    elif label:
        error.add_note(label)
    return error


def _killed(number: int) -> str:
    name = signal.Signals(number).name
    short = "; perhaps the machine ran out of memory" if number == signal.SIGKILL else ""
    return f"the child process was killed ({name}{short})"
