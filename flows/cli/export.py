"""Command `export`: what a run made, in the formats of other programs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli.common import DIR, StoreOption, complain, say, usage
from flows.options.names import METHODS, NETWORKS

Images = Literal["copy", "hardlink", "symlink", "none"]
if TYPE_CHECKING:
    Network = str
    Whitening = str
else:
    Network = Literal[tuple(sorted(NETWORKS))]
    Whitening = Literal[(*sorted(METHODS), "none")]


def export(
    store: StoreOption,
    run: Annotated[str, typer.Option(help="run whose results are exported")] = "latest",
    colmap: Annotated[Path | None, DIR(help="new folder for COLMAP models, with images")] = None,
    database: Annotated[
        bool, typer.Option("--database", help="with --colmap: a COLMAP database of features and matches too")
    ] = False,
    hloc: Annotated[Path | None, DIR(help="new folder for hloc's features, matches, pairs")] = None,
    cirtorch: Annotated[
        Path | None, DIR(help="new folder for the reference's training list and image tree")
    ] = None,
    images: Annotated[Images, typer.Option(help="how --colmap and --hloc get working copies")] = "copy",
    onnx: Annotated[Path | None, DIR(help="new folder for the network as an ONNX graph")] = None,
    safetensors: Annotated[
        Path | None, DIR(help="new folder for the network as tensors of this project")
    ] = None,
    network: Annotated[
        Network | None,
        typer.Option(help="with --onnx, --safetensors: which network; none: as the run's verdict says"),
    ] = None,
    whitening: Annotated[
        Whitening | None,
        typer.Option(
            help="with --onnx, --safetensors: whitening that becomes the last layer; none given: with the "
            "network of the run's verdict the one that it says"
        ),
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="with --whitening: dimensions that are kept; none: all")
    ] = None,
) -> None:
    """Write a run's models, features, training list or network for other programs. Every DIR is new."""
    folders = [folder for folder in (colmap, hloc, cirtorch, onnx, safetensors) if folder is not None]
    with usage(), _failures(*folders):
        if not folders:
            raise ValueError(
                "nothing to export; give --colmap DIR, --hloc DIR, --cirtorch DIR, --onnx DIR or "
                "--safetensors DIR"
            )
        if database and colmap is None:
            raise ValueError("--database is a part of --colmap; give --colmap DIR too")
        if dimensions is not None and whitening in (None, "none"):
            raise ValueError(f"--dimensions {dimensions} needs --whitening lw or pcaw, which sorts them")
        from flows.serving import export as exports

        if colmap is not None:
            say(exports.to_colmap(str(store), run, colmap, images, database))
        if hloc is not None:
            say(exports.to_hloc(str(store), run, hloc, images))
        if cirtorch is not None:
            say(exports.to_cirtorch(str(store), run, cirtorch))
        if onnx is not None or safetensors is not None:
            from flows.serving import export_network

            chosen = export_network.choose(str(store), run, network, whitening, dimensions)
            if onnx is not None:
                say(export_network.to_onnx(chosen, onnx))
            if safetensors is not None:
                say(export_network.to_safetensors(chosen, safetensors))


@contextmanager
def _failures(*folders: Path) -> Iterator[None]:
    """A full disk or a child process that died: one line, exit code 1. folders: what is written to."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError | typer.Exit):
            raise
        complain(error, *folders)
        raise typer.Exit(1) from error
