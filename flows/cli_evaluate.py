"""Command `evaluate`: an official benchmark, for anybody's network or ranks."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli_common import VerifyOption, out, run_flow, say, usage
from flows.cli_values import key_values, neighbours, numbers

if TYPE_CHECKING:
    from retrieval.benchmarks.report import BenchmarkResult
    from retrieval.benchmarks.scoring import BenchmarkOptions
    from storage.runs import RunRecord


def evaluate(
    benchmark: Annotated[
        str, typer.Option(help="roxford5k, rparis6k, oxford5k, ...; see docs/benchmarks.md")
    ],
    data: Annotated[Path, typer.Option(help="folder with the benchmark's official files", metavar="DIR")],
    network: Annotated[
        str | None,
        typer.Option(
            help="network.safetensors, a published .pth, or a run; none: off the shelf", metavar="FILE|RUN"
        ),
    ] = None,
    whitening: Annotated[
        Path | None, typer.Option(help="whitening.h5, or a .pth that holds one", metavar="FILE")
    ] = None,
    scales: Annotated[str, typer.Option(help="factors of the image size, such as 1,0.7071,0.5")] = "1",
    image_size: Annotated[int, typer.Option(help="longer side in px; never enlarged")] = 1024,
    dimensions: Annotated[int | None, typer.Option(help="of the whitened descriptor; none: all")] = None,
    qe: Annotated[
        str | None,
        typer.Option(help="query expansion by K images with exponent ALPHA (3)", metavar="K[,ALPHA]"),
    ] = None,
    distractors: Annotated[
        Path | None, typer.Option(help="folder of images behind the database: +100k, +1M", metavar="DIR")
    ] = None,
    ranks: Annotated[
        Path | None, typer.Option(help="score these ranks [Q, K] instead: npy, npz, h5, text", metavar="FILE")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--protocol", metavar="KEY=VALUE", help="what the benchmark leaves open: upright=true"),
    ] = None,
    store: Annotated[
        Path, typer.Option(help="folder of the store, which keeps descriptors", envvar="RETRIEVAL_SFM_STORE")
    ] = Path("benchmark-store"),
    csv: Annotated[Path | None, typer.Option(help="write the numbers to this file", metavar="FILE")] = None,
    latex: Annotated[Path | None, typer.Option(help="write a tabular to this file", metavar="FILE")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="write best and worst queries to this PNG", metavar="FILE")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="msls: write the challenge's prediction file", metavar="FILE")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps")] = "auto",
    batch_size: Annotated[int, typer.Option(help="images per forward pass on a GPU")] = 8,
    verify: VerifyOption = False,
) -> None:
    """Measure a network, or somebody's ranks, on an official benchmark. Nothing is downloaded."""
    with usage():
        options = _options(
            benchmark=benchmark,
            protocol=key_values(option or [], "--protocol"),
            description={"image_size": image_size, "scales": numbers(scales, "--scales")},
            whitening=_file(whitening),
            dimensions=dimensions,
            ranks=_file(ranks),
            **neighbours(qe, "--qe", "expansion_neighbours", "expansion_alpha"),
        )
        if predictions is not None and not benchmark.startswith("msls"):
            raise ValueError(
                f"--predictions is a file of the MSLS challenge, not of {benchmark}; leave it out"
            )
        _check(options, data, network, distractors, (csv, latex, sheet, predictions))
        from flows.options import PipelineResources
        from storage.store import Store

        resources = PipelineResources(device=device, batch_size=batch_size)
        root = Store.create(store).root
    request: dict[str, Any] = {
        "store": str(root),
        "data": str(data.absolute()),
        "options": options,
        "network": _absolute(network),
        "distractors": str(distractors.absolute()) if distractors else None,
        "resources": resources,
    }
    record, log = run_flow(root, _load, request, verify=verify)
    written = Written(csv=csv, latex=latex, predictions=predictions, sheet=sheet)
    _show(record, root, log, options, data, distractors, written)


def _load() -> "Callable[..., RunRecord]":
    from flows.benchmark import benchmark

    return benchmark


def _options(**values: Any) -> "BenchmarkOptions":
    from pydantic import ValidationError

    from retrieval.benchmarks.scoring import BenchmarkOptions
    from storage.options import first_error

    try:
        return BenchmarkOptions.model_validate({k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        raise ValueError(first_error(error)) from error


def _check(
    options: "BenchmarkOptions",
    data: Path,
    network: str | None,
    distractors: Path | None,
    outputs: tuple[Path | None, ...],
) -> None:
    """What is missing, before anything starts. Raises ValueErrors that say what is expected where."""
    from retrieval.benchmarks.registry import read_benchmark

    if options.ranks is not None and (network or distractors or options.whitening or options.expansion):
        raise ValueError(
            "--ranks are scored as they are; leave --network, --whitening, --qe, --distractors out"
        )
    for path in outputs:
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"{str(path.parent)!r} is no folder; make it, or write the file elsewhere")
    found = read_benchmark(options.benchmark, data, options.protocol, images=options.ranks is None)
    if distractors is not None:
        from retrieval.benchmarks.distractors import check_distractors

        check_distractors(distractors, found)


@dataclass(frozen=True)
class Written:
    """Files that were asked for, None = not."""

    csv: Path | None
    latex: Path | None
    predictions: Path | None
    sheet: Path | None


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
    from flows.cli_results import stage_table
    from retrieval.benchmarks.report import read_result, render

    (ref,) = record.refs_of("benchmark")
    result = read_result(root / ref.path)
    out.print(stage_table(record))
    out.print()
    out.print(render(result), highlight=False)
    out.print()
    with usage():
        _write_texts(result, written)
        if written.sheet is not None:
            from retrieval.benchmarks.registry import read_benchmark
            from retrieval.benchmarks.sheet import write_sheet

            benchmark = read_benchmark(options.benchmark, data, options.protocol)
            write_sheet(result, benchmark, written.sheet, distractors)
    for name, path in {"benchmark": root / ref.path, **asdict(written), "log": log}.items():
        if path is not None:
            say(f"{name:17} {path}")
    say(f"run {record.id}: {record.status}")


def _write_texts(result: "BenchmarkResult", written: Written) -> None:
    from retrieval.benchmarks.msls_files import prediction_lines
    from retrieval.benchmarks.report import to_csv, to_latex
    from storage.files import write_text

    if written.csv is not None:
        write_text(written.csv, to_csv(result))
    if written.latex is not None:
        write_text(written.latex, to_latex(result))
    if written.predictions is not None:
        lines = prediction_lines(result.query_names, result.database_names, result.ranks)
        write_text(written.predictions, lines)


def _file(path: Path | None) -> Path | None:
    if path is not None and not path.is_file():
        raise ValueError(f"{str(path)!r} is no file")
    return path.absolute() if path is not None else None


def _absolute(network: str | None) -> str | None:
    return str(Path(network).absolute()) if network and Path(network).is_file() else network
