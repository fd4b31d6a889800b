"""The command line `retrieval-sfm`. Exit code 0 = done, 1 = the run failed, 2 = wrong usage, 130 =
Ctrl-C, 143 = SIGTERM.

Only typer and rich are imported until a command needs more.
"""

import errno
import gc
import logging
import os
import sys
import threading
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from flows.cli import browse, evaluate, export, inspect, report, run, search, store, sweep, up
from flows.cli.model_options import completed
from flows.terminal.console import Told, tell
from flows.terminal.failures import DEBUG, one_line, unexpected
from storage.files.escaping import escaped, plain_logs

ClickException: Any = typer.BadParameter.__mro__[2]
"""What the user typed is wrong. Typer brings click along, or has a copy of its own, by version."""


class Commands(TyperGroup):
    """The commands: whatever happens in one of them ends in one line, and a traceback is for a file."""

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        """As click does, with what its messages quote made harmless."""
        try:
            return super().make_context(*arguments, **named)
        except ClickException as error:
            _refuse(error)

    def resolve_command(self, context: Any, arguments: Any) -> Any:
        """The command that is called, whole."""
        name, command, rest = super().resolve_command(context, arguments)
        return name, completed(command), rest

    def invoke(self, context: Any) -> Any:
        """Call a command."""
        try:
            return super().invoke(context)
        except ClickException as error:
            _refuse(error)
        except KeyboardInterrupt as error:
            tell("interrupted", red="error:")
            raise typer.Exit(1) from error
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # click ends quietly: who reads has had enough
            unexpected(error)
            raise typer.Exit(1) from error


def _refuse(error: Any) -> NoReturn:
    error.message = escaped(error.message)
    raise error


app = typer.Typer(
    name="retrieval-sfm",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Photographs in; 3D models, training pairs, a fine-tuned, whitened, measured retrieval network out.",
)


@app.callback()
def _settings(
    debug: Annotated[
        bool, typer.Option("--debug", help="show where in the code an error happened", envvar=DEBUG)
    ] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"


app.command()(run.run)
app.command()(run.demo)
app.command()(run.stage)
app.command()(up.up)
app.command()(evaluate.evaluate)
app.command()(search.index)
app.command()(search.search)
app.command()(sweep.sweep)
app.command()(export.export)
app.command()(inspect.inspect)
app.command()(browse.browse)
app.command()(report.report)
app.add_typer(store.store_app, name="store")


def _thread_failed(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
        error = arguments.exc_value
        logging.getLogger(__name__).error("a thread failed: %s", one_line(error), exc_info=error)


def main() -> None:
    """Entry point of `retrieval-sfm`."""
    gc.freeze()  # what is imported stays: looked through again it costs a fifth of `--help`
    plain_logs()
    logging.raiseExceptions = False  # a log that cannot be written shows no tracebacks
    logging.lastResort = Told(logging.WARNING)
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app()


if __name__ == "__main__":
    main()
