"""`report`: one page about a run."""

import errno
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.common import StoreOption, say, usage


def report(
    store: StoreOption,
    run: Annotated[str, typer.Option(help="id of a run, or latest")] = "latest",
    target: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="where to write it; else beside the run's record"),
    ] = None,
) -> None:
    """Write the report of a run: one HTML file that opens anywhere, without server or network."""
    with usage():
        from flows.run.report import write_report
        from storage.files.units import human_bytes
        from storage.store import ledger
        from storage.store.store import Store

        opened = Store.open(store)
        if target is not None and (target.is_dir() or not target.absolute().parent.is_dir()):
            raise ValueError(
                f"{target}: is a folder or in none; give the name of a file in a folder that exists"
            )
        try:
            page = write_report(opened, ledger.load(opened, run), target)
        except OSError as error:
            if target is None and error.errno in (errno.EROFS, errno.EACCES):
                raise ValueError(
                    f"{opened.root}: {error.strerror}; give --out FILE in another folder"
                ) from error
            raise
    left_out = f", {page.num_left_out} by name alone" if page.num_left_out else ""
    text = f"{page.path}: {human_bytes(page.bytes)}, {page.num_pictures} pictures{left_out}"
    say(text)
