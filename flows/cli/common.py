"""What the commands share: where they print, how they end, how a flow is run for a person."""

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from flows.terminal.console import err, out, put, say, tell
from flows.terminal.failures import complain, note, one_line

__all__ = ["complain", "err", "one_line", "out", "put", "run_flow", "say", "tell", "usage"]

if TYPE_CHECKING:
    from flows.terminal.interrupts import Ending

Result = TypeVar("Result")

END_LIMIT_S = 4.0

FILE, DIR = partial(typer.Option, metavar="FILE"), partial(typer.Option, metavar="DIR")
NEIGHBOURS = partial(typer.Option, metavar="K[,ALPHA]")
RerankOption = Annotated[
    str | None,
    typer.Option(
        "--rerank",
        metavar="M[,K[,BETA]]",
        help="compare the first M anew, each joined by its K nearest (9) with weight BETA (0.15)",
    ),
]
PhotosArgument = Annotated[Path, typer.Argument(help="folder of photographs, read recursively")]
StoreOption = Annotated[
    Path, typer.Option("--store", help="folder of the store", envvar="RETRIEVAL_SFM_STORE")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file of options and resources (else default.yaml)")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one option: --set training.epochs=3")
]
NetworkOption = Annotated[
    str | None,
    typer.Option(
        help="network.safetensors, a published .pth, or a run: the network that its verdict says, or "
        "RUN/fine-tuned, RUN/off-the-shelf; none: off the shelf",
        metavar="FILE|RUN",
    ),
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
    from storage.photographs.scanning import check_folder

    if not photos.is_dir():
        raise ValueError(f"{str(photos)!r} is no folder; give the folder of your photographs")
    check_folder(photos)


def require_server() -> None:
    """Ends the command where the user has set up a Prefect server that cannot be used."""
    from flows.server.configured_api import check, configured_api
    from flows.server.context import environment

    try:
        if (api := configured_api()) is not None:
            with environment({}):
                check(api)
    except OSError as error:
        complain(error)
        raise typer.Exit(1) from error


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
    from flows.server.context import session
    from flows.server.settings import VERIFY
    from flows.terminal.interrupts import ends_on_signals

    if verify:
        os.environ[VERIFY] = "full"
    with ExitStack() as stack:
        with usage():
            try:
                command = stack.enter_context(session(root))
            except (OSError, RuntimeError) as error:  # no room for a log, or a server that does not answer
                complain(error, root)
                raise typer.Exit(1) from error
        ending = stack.enter_context(ends_on_signals(END_LIMIT_S, tell))
        try:
            function = _loaded(load)
            _dress(stack)
            return command.run(function, **arguments), command.log
        except BaseException as error:
            _fail(error, root, command.log, ending)


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
    from flows.terminal.console import calm_console
    from tasks.engine.progress import bars

    stack.enter_context(calm_console(err.is_terminal))
    if err.is_terminal:
        stack.enter_context(bars(err))


def _fail(error: BaseException, root: Path, log: Path, ending: "Ending") -> NoReturn:
    """One line why, one line where the log with the traceback is."""
    if isinstance(error, typer.Exit | SystemExit):
        raise error
    if ending.number or isinstance(error, KeyboardInterrupt):
        word = ending.word if ending.number else "interrupted"
        error = InterruptedError(f"{word}; the same command goes on from the last finished task")
    else:
        note(error, log)
    complain(error, root)
    if log.exists():
        tell(f"log: {log}")
    raise typer.Exit(ending.code if ending.number else 1) from error
