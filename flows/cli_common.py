"""What the commands share: where they print, how they end, how a flow is run for a person."""

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from flows.interrupts import Ending

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
END_LIMIT_S = 4.0

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


def check_photographs(photos: Path) -> None:
    """Raises ValueError where there is no folder, or no photograph in it."""
    from storage.photographs import check_folder

    if not photos.is_dir():
        raise ValueError(f"{str(photos)!r} is no folder; give the folder of your photographs")
    check_folder(photos)


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

    If the run fails the command ends with exit code 1, one that a signal ended with 128 + its number: one
    line why, one line where the log is.
    """
    from flows.context import session
    from flows.interrupts import ends_on_signals
    from flows.settings import VERIFY

    if verify:
        os.environ[VERIFY] = "full"
    with ExitStack() as stack:
        with usage():
            command = stack.enter_context(session(root))
        ending = stack.enter_context(ends_on_signals(END_LIMIT_S, _say))
        try:
            function = _loaded(load)
            _dress(stack)
            return command.run(function, **arguments), command.log
        except BaseException as error:
            _fail(error, command.log, ending)


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


def _say(line: str) -> None:
    err.print(line, highlight=False)


def _dress(stack: ExitStack) -> None:
    from flows.console import calm_console
    from tasks.progress import bars

    stack.enter_context(calm_console(err.is_terminal))
    if err.is_terminal:
        stack.enter_context(bars(err))


def _fail(error: BaseException, log: Path, ending: "Ending") -> NoReturn:
    if isinstance(error, typer.Exit | SystemExit):
        raise error
    if ending.number:
        error = InterruptedError(f"{ending.word}; the same command goes on from the last finished task")
    complain(error)
    err.print(f"log: {log}", highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(ending.code if ending.number else 1) from error
