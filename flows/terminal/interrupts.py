"""How a command ends on Ctrl-C and on SIGTERM: in order where that is quick, within seconds in any case."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from storage.children.child import allow_children, cancel_children

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Ending:
    """The signal that ends this command, 0 while there is none."""

    number = 0

    @property
    def code(self) -> int:
        """Exit status of a command that a signal ended, as shells have it."""
        return 128 + self.number

    @property
    def word(self) -> str:
        return _WORDS[signal.Signals(self.number)]


@contextmanager
def ends_on_signals(limit_s: float, tell: Callable[[str], None]) -> Iterator[Ending]:
    """Ctrl-C or SIGTERM ends what is inside, and the process within `limit_s` even while threads compute; a
    second Ctrl-C at once.

    Children are ended first, so that the tasks that wait for them end too. Ending hard is safe: artifacts are
    whole or absent, locks are freed by the kernel, the temporary server and child processes watch a pipe, and
    the next command tells Prefect.
    """
    ending, raised = Ending(), threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return

    def hear(number: int) -> None:
        if ending.number:
            if number == signal.SIGINT:
                os._exit(ending.code)
            return
        ending.number = number
        timer = threading.Timer(limit_s, os._exit, (ending.code,))
        timer.daemon = True
        timer.start()
        tell(f"{ending.word}: ending (Ctrl-C again ends at once)")
        cancel_children()

    def interrupt(number: int, frame: object) -> None:
        if not raised.is_set():  # one is enough; Prefect sends itself another SIGTERM
            raised.set()
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _WORDS}
    try:
        with _hearing(hear):
            yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        allow_children()


@contextmanager
def children_end_on_signals() -> Iterator[None]:
    """Where a worker of Prefect's runs a flow: SIGTERM, by which it is cancelled, ends the children too."""

    def hear(number: int) -> None:
        if number in _WORDS:
            cancel_children()

    with _hearing(hear):
        yield


@contextmanager
def _hearing(react: Callable[[int], None]) -> Iterator[None]:
    """Inside, `react` is called in a thread with every signal that Python handles, also while the main thread
    computes, and whatever handler Prefect has installed meanwhile. One at a time: within another it hears
    nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    mine, its = socket.socketpair()
    its.setblocking(False)
    before = signal.set_wakeup_fd(its.fileno(), warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before)
        mine.close()
        its.close()
        yield
        return

    def listen() -> None:
        with mine:
            while heard := mine.recv(1):
                react(heard[0])

    threading.Thread(target=listen, daemon=True, name="signals").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        its.close()
