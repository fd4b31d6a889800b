"""Commands `index` and `search`: a collection made searchable, and what is nearest to a photograph."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli_common import (
    StoreOption,
    VerifyOption,
    check_photographs,
    complain,
    run_flow,
    say,
    usage,
)
from flows.cli_values import key_values, neighbours, numbers

if TYPE_CHECKING:
    from flows.search import Collection, Question
    from retrieval.indexing import IndexingOptions
    from storage.runs import RunRecord


class KindName(StrEnum):
    """The kinds of index."""

    exact = "exact"
    ivf_pq = "ivf_pq"
    hnsw = "hnsw"


class PrecisionName(StrEnum):
    """Arithmetic of the network."""

    float32 = "float32"
    bfloat16 = "bfloat16"


DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps")]


def index(
    photos: Annotated[Path, typer.Argument(help="folder of photographs, read recursively")],
    store: StoreOption,
    network: Annotated[
        str | None,
        typer.Option(
            help="network.safetensors, a published .pth, or a run; none: off the shelf", metavar="FILE|RUN"
        ),
    ] = None,
    whitening: Annotated[
        str | None, typer.Option(help="whitening.h5, or that of the run", metavar="FILE|lw|pcaw")
    ] = None,
    dimensions: Annotated[int | None, typer.Option(help="of the whitened descriptor; none: all")] = None,
    kind: Annotated[KindName, typer.Option(help="ivf_pq and hnsw: approximate, in memory")] = KindName.exact,
    image_size: Annotated[int, typer.Option(help="longer side in px; never enlarged")] = 480,
    scales: Annotated[str, typer.Option(help="factors of the image size, such as 1,0.7071,0.5")] = "1",
    precision: Annotated[
        PrecisionName, typer.Option(help="bfloat16: faster where supported, nearly the same descriptors")
    ] = PrecisionName.float32,
    draft: Annotated[
        bool, typer.Option("--draft", help="decode JPEG at no more resolution than needed: faster")
    ] = False,
    dba: Annotated[
        str | None,
        typer.Option(
            help="augment the database by K neighbours with exponent ALPHA (3)", metavar="K[,ALPHA]"
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="a setting of the index: --set code_bytes=128"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="new folder for index and network, to deploy", metavar="DIR")
    ] = None,
    hloc: Annotated[
        Path | None,
        typer.Option(help="write the descriptors to this new file as hloc reads them", metavar="FILE.h5"),
    ] = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(help="photographs per forward pass on a GPU")] = 8,
    verify: VerifyOption = False,
) -> None:
    """Make a folder of photographs searchable. What is described already is not described again."""
    with usage():
        method = whitening if whitening in ("lw", "pcaw") else None
        options = _options(
            description={
                "image_size": image_size,
                "scales": numbers(scales, "--scales"),
                "precision": precision.value,
                "draft": draft,
            },
            whitening=None if method else _file(whitening),
            dimensions=None if method else dimensions,
            index={**key_values(set_ or [], "--set"), "kind": kind.value},
            **neighbours(dba, "--dba", "augmentation_neighbours", "augmentation_alpha"),
        )
        check_photographs(photos)
        if to is not None:
            from storage.export_folders import check_free

            check_free(to)
        if hloc is not None:
            from retrieval.hloc_descriptors import check_free as check_new

            check_new(hloc)
        from flows.options import PipelineResources
        from storage.store import Store

        resources = PipelineResources(device=device, batch_size=batch_size)
        root = Store.create(store).root
    request: dict[str, Any] = {
        "store": str(root),
        "photos": str(photos.absolute()),
        "options": options,
        "network": str(Path(network).absolute()) if network and Path(network).is_file() else network,
        "whitening": method,
        "dimensions": dimensions if method else None,
        "resources": resources,
    }
    record, log = run_flow(root, _load_flow, request, verify=verify)
    from flows.search_output import show_index

    with usage():
        show_index(record, root, log, to, hloc)


def search(
    query: Annotated[Path, typer.Argument(help="the photograph to look for", metavar="QUERY.jpg")],
    store: Annotated[
        Path | None,
        typer.Option("--store", help="folder of the store that has the index", envvar="RETRIEVAL_SFM_STORE"),
    ] = None,
    run: Annotated[str, typer.Option(help="run that indexed; latest: the last that did")] = "latest",
    index_: Annotated[
        Path | None,
        typer.Option(
            "--index", help="in place of a store: folder of `index --out`, or a file", metavar="PATH"
        ),
    ] = None,
    network: Annotated[
        Path | None, typer.Option(help="with --index: the network that made it", metavar="FILE")
    ] = None,
    whitening: Annotated[
        Path | None, typer.Option(help="refuse an index that this whitening did not make", metavar="FILE")
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(help="the part to look for, px of the upright photograph", metavar="X1,Y1,X2,Y2"),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="photographs that are shown")] = 20,
    qe: Annotated[
        str | None,
        typer.Option(help="query expansion by K photographs with exponent ALPHA (3)", metavar="K[,ALPHA]"),
    ] = None,
    spatial: Annotated[
        int, typer.Option(min=0, help="match the first N by local features of the store's run; 0: none")
    ] = 0,
    photos: Annotated[
        Path | None, typer.Option(help="where the indexed photographs are now, for --html", metavar="DIR")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="write a page with thumbnails to this file", metavar="FILE")
    ] = None,
    device: DeviceOption = "auto",
    verify: VerifyOption = False,
) -> None:
    """Show the photographs of an indexed collection that are nearest to a photograph, or to a part of it."""
    with usage():
        _check_search(query, store, index_, network, spatial, html)
        from flows import search as searching

        expansion = neighbours(qe, "--qe", "count", "alpha")
        question = searching.Question(
            query, _box(box), k, (expansion["count"], expansion["alpha"]) if expansion else None
        )
        if index_ is not None:
            collection = searching.open_files(index_, network, whitening=whitening, verify=verify)
        else:
            assert store is not None
            collection = searching.open_run(store, run, whitening=whitening, verify=verify)
        try:
            hits = searching.ask(
                collection, question, verified=_verified(collection, question, spatial), device=device
            )
        except RuntimeError as error:  # a child process that died
            complain(error)
            raise typer.Exit(1) from error
        from flows.search_output import about, show_hits

        show_hits(hits, collection, query, spatial > 0)
        if html is not None:
            from flows.search_page import write_page

            write_page(html, query, question.box, hits, photos or collection.photos, about(collection))
            say(f"page {html}")


def _load_flow() -> "Callable[..., RunRecord]":
    from flows.index import index as index_flow

    return index_flow


def _options(**values: Any) -> "IndexingOptions":
    from pydantic import ValidationError

    from retrieval.indexing import IndexingOptions
    from storage.options import first_error

    try:
        return IndexingOptions.model_validate({k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        raise ValueError(first_error(error)) from error


def _check_search(
    query: Path, store: Path | None, index: Path | None, network: Path | None, spatial: int, html: Path | None
) -> None:
    if (store is None) == (index is None):
        raise ValueError("give --store, or --index for an index outside of a store")
    if network is not None and index is None:
        raise ValueError("--network belongs to --index; a store knows the network of its index")
    if spatial and store is None:
        raise ValueError("--spatial needs the local features of a --store")
    if not query.is_file():
        raise ValueError(f"{str(query)!r} is no file; give the photograph to look for")
    if html is not None and not html.absolute().parent.is_dir():
        raise ValueError(f"{str(html.parent)!r} is no folder; make it, or write the page elsewhere")


def _verified(collection: "Collection", question: "Question", count: int) -> Any:
    """What `flows.search.ask` needs to verify the first `count`, None for none."""
    if not count:
        return None
    from flows.spatial import LocalFeatures

    assert collection.store is not None and collection.record is not None
    local = LocalFeatures.of(collection.store, collection.record.collection)
    matching = local.matching
    return count, matching.min_inliers, lambda shas: local.inliers(question.photograph, question.box, shas)


def _box(text: str | None) -> Any:
    if text is None:
        return None
    values = numbers(text, "--box", "10,20,300,200")
    if len(values) != 4:
        raise ValueError(f"--box {text!r}: give four numbers, left,top,right,bottom, such as 10,20,300,200")
    return values


def _file(path: str | None) -> Path | None:
    if path is not None and not Path(path).is_file():
        raise ValueError(f"{path!r} is no file; give a whitening.h5, or lw or pcaw of a run")
    return Path(path).absolute() if path is not None else None
