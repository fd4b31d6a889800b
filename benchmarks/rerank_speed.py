"""Re-ranking by neighbours: milliseconds a query, beside those of the products that it cannot do without.

    python -m benchmarks.rerank_speed [--top 400] [--dimension 2048] [--rows 20000] [--rounds 50]

One query after the other, of `benchmarks.synthetic_descriptors`: in every round the whole re-ranking and then
the copy of the first rows, their products with each other and twice with a vector, on as many threads as
BLAS takes (OMP_NUM_THREADS). `products` are the machine's own limit; `cpu` is time of the processor, which
other work on it does not lengthen. Prints the least and the median of each, and the most memory of one
re-ranking beyond its lists, as JSON.
"""

from __future__ import annotations

import argparse
import json
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks.synthetic_descriptors import draw
from retrieval.nearest.exact import search
from retrieval.nearest.expansion import rerank_by_neighbours


def measured(top: int, dimension: int, rows: int, rounds: int) -> dict[str, Any]:
    """{what: {wall, cpu: (least, median) in ms}} and memory in MB."""
    queries, blocks = draw(rows, rounds, dimension)
    database = np.concatenate(list(blocks))
    ranks = search(database, queries, top)[1]
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def timed(what: str, work: Callable[[], Any]) -> Any:
        wall, cpu = perf_counter(), process_time()
        found = work()
        times[what].append((1e3 * (perf_counter() - wall), 1e3 * (process_time() - cpu)))
        return found

    for query, row in zip(queries, ranks, strict=True):
        timed("reranking", lambda: rerank_by_neighbours(query[None], database, row[None], top=top))  # noqa: B023
        nearest = timed("copy", lambda: database[row])  # noqa: B023
        timed("products", lambda: (nearest @ nearest.T, nearest @ query, nearest @ query))  # noqa: B023
    tracemalloc.start()
    rerank_by_neighbours(queries[:1], database, ranks[:1], top=top)
    peak = tracemalloc.get_traced_memory()[1]
    found: dict[str, Any] = {
        what: {
            clock: [round(kind(each), 2) for kind in (min, median)]
            for clock, each in zip(("wall", "cpu"), zip(*both, strict=True), strict=True)
        }
        for what, both in times.items()
    }
    return {**found, "peak_mb": round(peak / 1e6, 1)}


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--top", type=int, default=400)
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=50)
    print(json.dumps(measured(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
