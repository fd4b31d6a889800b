"""The benchmarks by name: those of every reader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from retrieval.official.readers.common import Benchmark, ProtocolOptions, Read
from storage.lazy import every

_READERS = [module for module in every("retrieval.official.readers.*") if hasattr(module, "READS")]
READS: dict[str, Read] = {
    name: read
    for module in sorted(_READERS, key=lambda module: module.PLACE)
    for name, read in module.READS.items()
}
PREDICTED = {name for each in _READERS if hasattr(each, "prediction_lines") for name in each.READS}
"""Those of which a server takes a file of predictions."""
if TYPE_CHECKING:
    BenchmarkName = str
else:
    BenchmarkName = Literal[tuple(READS)]


class UnknownBenchmark(ValueError):
    """A name that no benchmark has."""


def read_benchmark(
    name: BenchmarkName, data: Path, options: ProtocolOptions | None = None, *, images: bool = True
) -> Benchmark:
    """The benchmark as it lies in `data`.

    images: whether they have to be there where other files list them; scoring ranks needs none. Raises
    MissingBenchmarkFile and other ValueErrors.
    """
    if name not in READS:
        raise UnknownBenchmark(f"benchmark '{name}' is not known")
    return READS[name](name, data, options or ProtocolOptions(), images)
