"""The command `up`: a Prefect server with its UI, every deployment and a worker."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from flows.cli.common import StoreOption, complain, say, tell, usage


def up(
    store: StoreOption,
    port: Annotated[int, typer.Option(min=0, max=65535, help="port of UI and API; 0: a free one")] = 4200,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0: all")] = "127.0.0.1",
    photos: Annotated[
        Path | None, typer.Option(help="folder of photographs that the end-to-end form starts with")
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="a further name under which browsers and workers reach it", envvar="RETRIEVAL_SFM_NAMES"
        ),
    ] = None,
) -> None:
    """Prefect's UI, all deployments and a worker for them, until Ctrl-C."""
    with usage():
        from flows.server.up import Request
        from flows.server.up import up as serve
        from storage.store.store import Store

        if photos is not None and not photos.is_dir():  # photographs may come later
            raise ValueError(f"{str(photos)!r} is no folder; give the folder of your photographs")
        root = Store.create(store).root
        request = Request(root, host, port, photos.absolute() if photos else None, tuple(name or ()))
        try:
            serve(request, say, _stop_on_signals())
        except RuntimeError as error:
            complain(error)
            raise typer.Exit(1) from error


def _stop_on_signals() -> threading.Event:
    """An event that Ctrl-C or SIGTERM sets; the second Ctrl-C ends at once, and the children with it."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            os._exit(1)
        tell("ending (Ctrl-C again ends at once)")
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    return stop
