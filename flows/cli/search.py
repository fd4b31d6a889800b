"""Commands `index` and `search`: a collection made searchable, and what is nearest to a photograph."""

from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import (
    DIR,
    FILE,
    NEIGHBOURS,
    NetworkOption,
    PhotosArgument,
    RerankOption,
    StoreOption,
    VerifyOption,
    check_photographs,
    complain,
    run_flow,
    say,
    usage,
)
from flows.cli.model_options import checked, with_fields
from flows.cli.values import (
    check_output,
    file_of,
    key_values,
    neighbours,
    network_of,
    numbers,
    read_scales,
    reranking,
)
from flows.options.names import METHODS

if TYPE_CHECKING:
    from flows.serving.search import Collection, Question


@with_fields(
    options=(
        "retrieval.search.options:IndexingOptions",
        "description.image_size description.scales description.precision description.draft dimensions "
        "index.kind",
    ),
    resources=("retrieval.describe.options:ExtractionResources", "device batch_size"),
)
def index(
    options: dict[str, Any],
    resources: dict[str, Any],
    photos: PhotosArgument,
    store: StoreOption,
    network: NetworkOption = None,
    whitening: Annotated[
        str | None,
        typer.Option(
            help="whitening.h5, or one of the run; none: as the run's verdict says",
            metavar="FILE|lw|pcaw|raw",
        ),
    ] = None,
    dba: Annotated[
        str | None, NEIGHBOURS(help="augment the database by K neighbours with exponent ALPHA (3)")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="a setting of the index: --set code_bytes=128"),
    ] = None,
    to: Annotated[Path | None, DIR("--out", help="new folder for index and network, to deploy")] = None,
    hloc: Annotated[
        Path | None,
        typer.Option(help="write the descriptors to this new file as hloc reads them", metavar="FILE.h5"),
    ] = None,
    verify: VerifyOption = False,
) -> None:
    """Make a folder of photographs searchable. What is described already is not described again."""
    with usage():
        from flows.options.pipeline import PipelineResources
        from retrieval.search.options import IndexingOptions
        from storage.store.store import Store

        read_scales(options)
        method = whitening if whitening in (*METHODS, "raw") else None
        dimensions = options.pop("dimensions") if method in METHODS else None
        hint = "; give a whitening.h5, lw or pcaw of a run, or raw"
        options["whitening"] = None if method else file_of(whitening, hint)
        options["index"] = {**key_values(set_ or [], "--set"), **options["index"]}
        options |= neighbours(dba, "--dba", "augmentation_neighbours", "augmentation_alpha")
        used, needed = checked(IndexingOptions, options), checked(PipelineResources, resources)
        check_photographs(photos)
        _check_free(to, hloc)
        root = Store.create(store).root
    request: dict[str, Any] = {
        "store": str(root),
        "photos": str(photos.absolute()),
        "options": used,
        "network": network_of(network),
        "whitening": method,
        "dimensions": dimensions,
        "resources": needed,
    }
    record, log = run_flow(root, partial(resolve_name, "flows.index:index"), request, verify=verify)
    from flows.cli.search_output import show_index

    with usage():
        show_index(record, root, log, to, hloc)


def _check_free(folder: Path | None, hloc: Path | None) -> None:
    """Raises ValueError where what is to be written is there already."""
    from retrieval.export.hloc import check_free as check_new
    from storage.files.exports import check_free

    if folder is not None:
        check_free(folder)
    if hloc is not None:
        check_new(hloc)


@with_fields(resources=("retrieval.describe.options:ExtractionResources", "device"))
def search(
    resources: dict[str, Any],
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
    network: Annotated[Path | None, FILE(help="with --index: the network that made it")] = None,
    whitening: Annotated[Path | None, FILE(help="refuse an index that this whitening did not make")] = None,
    box: Annotated[
        str | None,
        typer.Option(help="the part to look for, px of the upright photograph", metavar="X1,Y1,X2,Y2"),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="photographs that are shown")] = 20,
    qe: Annotated[
        str | None, NEIGHBOURS(help="query expansion by K photographs with exponent ALPHA (3)")
    ] = None,
    rerank: RerankOption = None,
    spatial: Annotated[
        int, typer.Option(min=0, help="match the first N by local features of the store's run; 0: none")
    ] = 0,
    photos: Annotated[Path | None, DIR(help="where the indexed photographs are now, for --html")] = None,
    html: Annotated[Path | None, FILE(help="write a page with thumbnails to this file")] = None,
    verify: VerifyOption = False,
) -> None:
    """Show the photographs of an indexed collection that are nearest to a photograph, or to a part of it."""
    with usage():
        _check_search(query, store, index_, network, spatial, html)
        from flows.serving import search as searching

        expansion = neighbours(qe, "--qe", "count", "alpha")
        expanded = (expansion["count"], expansion["alpha"]) if expansion else None
        question = searching.Question(query, _box(box), k, expanded, reranking(rerank))
        if index_ is not None:
            collection = searching.open_files(index_, network, whitening=whitening, verify=verify)
        else:
            assert store is not None
            collection = searching.open_run(store, run, whitening=whitening, verify=verify)
        try:
            verified = _verified(collection, question, spatial)
            hits = searching.ask(collection, question, verified=verified, **resources)
        except RuntimeError as error:  # a child process that died
            complain(error)
            raise typer.Exit(1) from error
        from flows.cli.search_output import about, show_hits

        show_hits(hits, collection, query, spatial > 0)
        if html is not None:
            from flows.cli.search_page import write_page

            write_page(html, query, question.box, hits, photos or collection.photos, about(collection))
            say(f"page {html}")


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
    check_output(html, "page")


def _verified(collection: "Collection", question: "Question", count: int) -> Any:
    """What `flows.serving.search.ask` needs to verify the first `count`, None for none."""
    if not count:
        return None
    from flows.serving.spatial import LocalFeatures

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
