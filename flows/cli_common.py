"""What the commands share: where they print, how they end, how a flow is run for a person."""

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

Result = TypeVar("Result")

WIDTH_OF_FILES = 160


def console(stderr: bool = False) -> Console:
    """A console as wide as the terminal; what goes to a file or a pipe is not folded at 80 columns."""
    found = Console(stderr=stderr)
    if found.is_terminal or "COLUMNS" in os.environ:
        return found
    return Console(stderr=stderr, width=WIDTH_OF_FILES)


out = console()
err = console(stderr=True)
INTERRUPT_LIMIT_S = 8.0

StoreOption = Annotated[
    Path, typer.Option("--store", help="folder of the store", envvar="RETRIEVAL_SFM_STORE")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file of options and resources (else default.yaml)")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one option: --set training.epochs=3")
]
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="read every byte of a cached artifact before it is used")
]


@contextmanager
def usage() -> Iterator[None]:
    """Errors in what the user asked for end the command with one line and exit code 2."""
    try:
        yield
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        complain(error)
        raise typer.Exit(2) from error


def complain(error: BaseException) -> None:
    """One line about an error, on standard error."""
    err.print(f"[red]error:[/red] {one_line(error)}", highlight=False, soft_wrap=True)


def one_line(error: BaseException) -> str:
    """An error's text on one line, markup escaped; with its type where it is not made for users."""
    text = " ".join(str(error).split()) or type(error).__name__
    return escape(text if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}")


def run_flow(
    root: Path,
    load: Callable[[], Callable[..., Result]],
    arguments: Mapping[str, Any],
    *,
    verify: bool = False,
) -> tuple[Result, Path]:
    """Run the flow that `load()` imports on the store at `root`: with a Prefect API, a log file, bars on a
    terminal. Returns what the flow returns, and the log file.

    If the run fails the command ends with exit code 1: one line why, one line where the log is.
    """
    from flows.context import session
    from flows.settings import VERIFY

    if verify:
        os.environ[VERIFY] = "full"
    with ExitStack() as stack:
        with usage():
            command = stack.enter_context(session(root))
        try:
            function = _loaded(load)
            _dress(stack)
            return command.run(function, **arguments), command.log
        except BaseException as error:
            _fail(error, command.log)


def _loaded(load: Callable[[], Result]) -> Result:
    """What `load` returns. What it imports stays for good and is not looked through for garbage, now or
    later: each time would stop all threads for a fifth of a second."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return load()
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def _dress(stack: ExitStack) -> None:
    from flows.console import calm_console
    from tasks.progress import bars

    stack.enter_context(prompt_interrupt(INTERRUPT_LIMIT_S))
    stack.enter_context(calm_console(err.is_terminal))
    if err.is_terminal:
        stack.enter_context(bars(err))


@contextmanager
def prompt_interrupt(limit_s: float) -> Iterator[None]:
    """Ctrl-C ends the process within `limit_s` even while threads compute, a second one at once.

    Ending hard is safe: artifacts are whole or absent, locks are freed by the kernel, the temporary server
    and child processes watch a pipe, and the next command tells Prefect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[threading.Timer] = []

    def end(signum: int, frame: object) -> None:
        if pending:
            os._exit(1)
        err.print("interrupted: ending (Ctrl-C again ends at once)", highlight=False)
        pending.append(threading.Timer(limit_s, os._exit, (1,)))
        pending[0].daemon = True
        pending[0].start()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _fail(error: BaseException, log: Path) -> NoReturn:
    if isinstance(error, typer.Exit | SystemExit):
        raise error
    if isinstance(error, KeyboardInterrupt):
        error = KeyboardInterrupt("interrupted; the same command goes on from the last finished task")
    complain(error)
    err.print(f"log: {log}", highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(1) from error
