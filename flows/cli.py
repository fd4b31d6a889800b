"""The command line `retrieval-sfm`. Exit code 0 = done, 1 = the run failed, 2 = wrong usage, 130 =
Ctrl-C, 143 = SIGTERM.

Only typer and rich are imported until a command needs more.
"""

import typer

from flows import (
    cli_browse,
    cli_evaluate,
    cli_export,
    cli_inspect,
    cli_report,
    cli_run,
    cli_search,
    cli_store,
    cli_sweep,
    cli_up,
)

app = typer.Typer(
    name="retrieval-sfm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Photographs in; 3D models, training pairs, a fine-tuned, whitened, measured retrieval network out.",
)
app.command()(cli_run.run)
app.command()(cli_run.demo)
app.command()(cli_run.stage)
app.command()(cli_up.up)
app.command()(cli_evaluate.evaluate)
app.command()(cli_search.index)
app.command()(cli_search.search)
app.command()(cli_sweep.sweep)
app.command()(cli_export.export)
app.command()(cli_inspect.inspect)
app.command()(cli_browse.browse)
app.command()(cli_report.report)
app.add_typer(cli_store.store_app, name="store")


def main() -> None:
    """Entry point of `retrieval-sfm`."""
    app()


if __name__ == "__main__":
    main()
