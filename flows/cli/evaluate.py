"""Command `evaluate`: an official benchmark, for anybody's network or ranks."""

from dataclasses import asdict, dataclass
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
    RerankOption,
    VerifyOption,
    out,
    run_flow,
    usage,
)
from flows.cli.model_options import checked, with_fields
from flows.cli.values import (
    check_output,
    file_of,
    key_values,
    neighbours,
    network_of,
    read_scales,
    reranking,
)

if TYPE_CHECKING:
    from report.tables.benchmark import BenchmarkResult
    from retrieval.official.options import BenchmarkOptions
    from storage.store.ledger import RunRecord


@with_fields(
    options=(
        "retrieval.official.options:BenchmarkOptions",
        "description.image_size description.scales dimensions",
    ),
    resources=("retrieval.describe.options:ExtractionResources", "device batch_size"),
)
def evaluate(
    options: dict[str, Any],
    resources: dict[str, Any],
    benchmark: Annotated[
        str, typer.Option(help="roxford5k, rparis6k, oxford5k, ...; see docs/benchmarks.md")
    ],
    data: Annotated[Path, DIR(help="folder with the benchmark's official files")],
    network: NetworkOption = None,
    whitening: Annotated[Path | None, FILE(help="whitening.h5, or a .pth that holds one")] = None,
    qe: Annotated[str | None, NEIGHBOURS(help="query expansion by K images with exponent ALPHA (3)")] = None,
    rerank: RerankOption = None,
    distractors: Annotated[Path | None, DIR(help="folder of images behind the database: +100k, +1M")] = None,
    ranks: Annotated[Path | None, FILE(help="score these ranks [Q, K] instead: npy, npz, h5, text")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--protocol", metavar="KEY=VALUE", help="what the benchmark leaves open: upright=true"),
    ] = None,
    store: Annotated[
        Path, typer.Option(help="folder of the store, which keeps descriptors", envvar="RETRIEVAL_SFM_STORE")
    ] = Path("benchmark-store"),
    csv: Annotated[Path | None, FILE(help="write the numbers to this file")] = None,
    latex: Annotated[Path | None, FILE(help="write a tabular to this file")] = None,
    sheet: Annotated[Path | None, FILE(help="write best and worst queries to this PNG")] = None,
    predictions: Annotated[Path | None, FILE(help="msls: write the challenge's prediction file")] = None,
    verify: VerifyOption = False,
) -> None:
    """Measure a network, or somebody's ranks, on an official benchmark. Nothing is downloaded."""
    written = Written(csv=csv, latex=latex, predictions=predictions, sheet=sheet)
    with usage():
        from flows.options.pipeline import PipelineResources
        from retrieval.official.options import BenchmarkOptions
        from storage.store.store import Store

        read_scales(options)
        options |= {"benchmark": benchmark, "protocol": key_values(option or [], "--protocol")}
        options |= {"whitening": file_of(whitening), "ranks": file_of(ranks)}
        options |= neighbours(qe, "--qe", "expansion_neighbours", "expansion_alpha")
        options["reranking"] = reranking(rerank)
        used, needed = checked(BenchmarkOptions, options), checked(PipelineResources, resources)
        _check(used, data, network, distractors, written)
        root = Store.create(store).root
    request: dict[str, Any] = {
        "store": str(root),
        "data": str(data.absolute()),
        "options": used,
        "network": network_of(network),
        "distractors": str(distractors.absolute()) if distractors else None,
        "resources": needed,
    }
    record, log = run_flow(root, partial(resolve_name, "flows.benchmark:benchmark"), request, verify=verify)
    _show(record, root, log, used, data, distractors, written)


@dataclass(frozen=True)
class Written:
    """Files that were asked for, None = not."""

    csv: Path | None
    latex: Path | None
    predictions: Path | None
    sheet: Path | None


def _check(
    options: "BenchmarkOptions", data: Path, network: str | None, distractors: Path | None, written: Written
) -> None:
    """What is missing, before anything starts. Raises ValueErrors that say what is expected where."""
    from retrieval.official.registry import PREDICTED, read_benchmark

    if written.predictions is not None and options.benchmark not in PREDICTED:
        raise ValueError(
            f"--predictions is a file of the MSLS challenge, not of {options.benchmark}; leave it out"
        )
    if options.ranks is not None and (network or distractors or options.whitening or options.expansion):
        raise ValueError(
            "--ranks are scored as they are; leave --network, --whitening, --qe, --rerank, --distractors out"
        )
    for path in asdict(written).values():
        check_output(path)
    found = read_benchmark(options.benchmark, data, options.protocol, images=options.ranks is None)
    if distractors is not None:
        from retrieval.official.distractors import check_distractors

        check_distractors(distractors, found)


def _show(
    record: "RunRecord",
    root: Path,
    log: Path,
    options: "BenchmarkOptions",
    data: Path,
    distractors: Path | None,
    written: Written,
) -> None:
    """Print the table and where the files are; write those that were asked for."""
    from flows.cli.results import show_files, stage_table
    from report.tables.benchmark import read_result, render

    (ref,) = record.refs_of("benchmark")
    result = read_result(root / ref.path)
    out.print(stage_table(record))
    out.print()
    out.print(render(result), highlight=False)
    out.print()
    with usage():
        _write_texts(result, written)
        if written.sheet is not None:
            from report.sheets.benchmark import write_sheet
            from retrieval.official.registry import read_benchmark

            benchmark = read_benchmark(options.benchmark, data, options.protocol)
            write_sheet(result, benchmark, written.sheet, distractors)
    show_files(record, {"benchmark": root / ref.path, **asdict(written), "log": log}.items())


def _write_texts(result: "BenchmarkResult", written: Written) -> None:
    from report.tables.benchmark import to_csv, to_latex
    from retrieval.official.readers.msls import prediction_lines
    from storage.files.whole import write_text

    if written.csv is not None:
        write_text(written.csv, to_csv(result))
    if written.latex is not None:
        write_text(written.latex, to_latex(result))
    if written.predictions is not None:
        lines = prediction_lines(result.query_names, result.database_names, result.ranks)
        write_text(written.predictions, lines)
