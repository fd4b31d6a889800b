"""`browse`: the HDF5 files of a store in a browser."""

import socket
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.common import out, say, usage

ADDRESS = "127.0.0.1"


def browse(
    path: Annotated[Path, typer.Argument(help="an HDF5 file, or a store or any folder with such files")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="port on this machine; 0: a free one")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="print the address, open no browser")] = False,
) -> None:
    """Look at HDF5 files in the browser with h5web: read-only, on this machine alone, nothing outside the
    folder. Ctrl-C ends it."""
    with usage():
        missing = [name for name in ("h5grove", "uvicorn") if find_spec(name) is None]
        if missing:
            raise ValueError(f"browse needs {missing[0]}; pip install 'retrieval-sfm[browse]'")
        from browse.confinement import Scope

        scope = Scope.of(path)
        listener = _listen(port)
    address = f"http://{ADDRESS}:{listener.getsockname()[1]}/"
    say(f"{address}  (Ctrl-C ends it)")
    if not no_open and out.is_terminal:
        webbrowser.open(address)
    import uvicorn

    from browse.server import application
    from storage.children.child import Child

    with Child() as child, listener:
        settings = uvicorn.Config(application(scope, child), log_config=None, access_log=False)
        uvicorn.Server(settings).run(sockets=[listener])


def _listen(port: int) -> socket.socket:
    """A socket on the loopback address. Raises ValueError where the port is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ADDRESS, port))
        listener.listen()  # whoever reads the address may connect at once
    except OSError as error:
        listener.close()
        raise ValueError(
            f"port {port}: {error.strerror}; give another --port, or 0 for a free one"
        ) from error
    return listener
