"""Command `export`: what a run made, in the formats of other programs."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli_common import StoreOption, complain, out, usage


class Images(StrEnum):
    """How the exported folder gets the photographs' working copies."""

    copy = "copy"
    hardlink = "hardlink"
    symlink = "symlink"
    none = "none"


def export(
    store: StoreOption,
    run: Annotated[str, typer.Option(help="run whose results are exported")] = "latest",
    colmap: Annotated[
        Path | None, typer.Option(help="new folder for COLMAP models, with images", metavar="DIR")
    ] = None,
    database: Annotated[
        bool, typer.Option("--database", help="with --colmap: a COLMAP database of features and matches too")
    ] = False,
    hloc: Annotated[
        Path | None, typer.Option(help="new folder for hloc's features, matches, pairs", metavar="DIR")
    ] = None,
    cirtorch: Annotated[
        Path | None,
        typer.Option(help="new folder for the reference's training list and image tree", metavar="DIR"),
    ] = None,
    images: Annotated[Images, typer.Option(help="how --colmap and --hloc get working copies")] = Images.copy,
) -> None:
    """Write a run's models, features or training list for other programs. Every DIR is new or empty."""
    with usage(), _failures():
        if colmap is None and hloc is None and cirtorch is None:
            raise ValueError("nothing to export; give --colmap DIR, --hloc DIR or --cirtorch DIR")
        if database and colmap is None:
            raise ValueError("--database is a part of --colmap; give --colmap DIR too")
        from flows import export as exports

        if colmap is not None:
            _say(exports.to_colmap(str(store), run, colmap, images.value, database))
        if hloc is not None:
            _say(exports.to_hloc(str(store), run, hloc, images.value))
        if cirtorch is not None:
            _say(exports.to_cirtorch(str(store), run, cirtorch))


@contextmanager
def _failures() -> Iterator[None]:
    """A full disk or a child process that died: one line, exit code 1."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError | typer.Exit):
            raise
        complain(error)
        raise typer.Exit(1) from error


def _say(line: str) -> None:
    out.print(line, highlight=False, soft_wrap=True, markup=False)
