"""The benchmarks by name, and the options that some of them know."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from retrieval.benchmarks.common import Benchmark
from storage.options import Options

BenchmarkName = Literal[
    "oxford5k",
    "paris6k",
    "roxford5k",
    "rparis6k",
]


class UnknownBenchmark(ValueError):
    """A name that no benchmark has."""


class ProtocolOptions(Options):
    """What a benchmark leaves open; the row says which was taken."""


def read_benchmark(name: BenchmarkName, data: Path, options: ProtocolOptions | None = None) -> Benchmark:
    """The benchmark as it lies in `data`. Raises MissingBenchmarkFile and other ValueErrors."""
    options = options or ProtocolOptions()
    match name:
        case "oxford5k" | "paris6k":
            from retrieval.benchmarks.landmark_files import read_classic

            return read_classic(name, data)
        case "roxford5k" | "rparis6k":
            from retrieval.benchmarks.landmark_files import read_revisited

            return read_revisited(name, data)
    raise UnknownBenchmark(f"benchmark '{name}' is not known")
