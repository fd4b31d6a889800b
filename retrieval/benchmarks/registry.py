"""The benchmarks by name, and the options that some of them know."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from retrieval.benchmarks.common import Benchmark
from retrieval.benchmarks.msls import Subtask, Task
from storage.options import ContentPath, Options

BenchmarkName = Literal[
    "oxford5k",
    "paris6k",
    "roxford5k",
    "rparis6k",
    "holidays",
    "pitts30k",
    "tokyo247",
    "places",
    "msls",
    "msls_challenge",
    "market1501",
    "msmt17",
    "veri776",
    "imagenet",
    "gldv2",
]


class UnknownBenchmark(ValueError):
    """A name that no benchmark has."""


class ProtocolOptions(Options):
    """What a benchmark leaves open; the row says which was taken."""

    upright: bool = Field(False, description="holidays: the images were turned upright by hand")
    radius_m: float | None = Field(
        None, gt=0, description="places: how far a positive may be, metres, included; none: 25, or the file's"
    )
    task: Task = Field("im2im", description="msls: images or sequences on either side")
    subtask: Subtask = Field("all", description="msls: summer to winter, day to night, ...")
    sequence_length: int = Field(3, ge=1, description="msls: frames of a sequence, odd")
    subset: ContentPath | None = Field(
        None, description="msls: list of query keys to ask, one a line, such as the 740 of most papers"
    )
    probe_epochs: int = Field(
        30, ge=0, description="imagenet: passes over train of the linear probe; 0: none"
    )


def read_benchmark(
    name: BenchmarkName, data: Path, options: ProtocolOptions | None = None, *, images: bool = True
) -> Benchmark:
    """The benchmark as it lies in `data`.

    images: whether they have to be there where other files list them; scoring ranks needs none. Raises
    MissingBenchmarkFile and other ValueErrors.
    """
    options = options or ProtocolOptions()
    match name:
        case "oxford5k" | "paris6k":
            from retrieval.benchmarks.landmark_files import read_classic

            return read_classic(name, data, images=images)
        case "roxford5k" | "rparis6k":
            from retrieval.benchmarks.landmark_files import read_revisited

            return read_revisited(name, data, images=images)
        case "holidays":
            from retrieval.benchmarks.holidays_files import read_holidays

            return read_holidays(data, upright=options.upright, images=images)
        case "pitts30k" | "tokyo247" | "places":
            from retrieval.benchmarks.place_files import read_places

            return read_places(name, data, options.radius_m, images=images)
        case "market1501" | "msmt17" | "veri776":
            from retrieval.benchmarks.reid_files import read_reid

            return read_reid(name, data, images=images)
        case "imagenet":
            from retrieval.benchmarks.imagenet_files import read_imagenet

            return read_imagenet(data)
        case "gldv2":
            from retrieval.benchmarks.gldv2_files import read_gldv2

            return read_gldv2(data)
        case "msls" | "msls_challenge":
            return _read_msls(name, data, options, images)
    raise UnknownBenchmark(f"benchmark '{name}' is not known")


def _read_msls(name: str, data: Path, options: ProtocolOptions, images: bool) -> Benchmark:
    from retrieval.benchmarks.msls_files import read_msls_test, read_msls_val

    if name == "msls_challenge":
        return read_msls_test(
            data, task=options.task, subtask=options.subtask, sequence_length=options.sequence_length
        )
    return read_msls_val(
        data,
        task=options.task,
        subtask=options.subtask,
        sequence_length=options.sequence_length,
        radius_m=options.radius_m,
        subset=options.subset,
        images=images,
    )
