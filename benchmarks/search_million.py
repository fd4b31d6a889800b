"""A million descriptors on the disk: exact search beside the plain way, and what IVF-PQ finds of it.

    python -m benchmarks.search_million --folder DIR [--rows 1000000] [--repeats 3]

Exact: 70 queries, top 100, of 1,000,000 x 2048 float32 in one .npy file (8 GB in DIR, removed at the end)
that both ways map into memory. The plain way is that of the published evaluation: all similarities, then a
full sort of every list. Both run in turn in this process with the same threads (OMP_NUM_THREADS), the medians
count; a thread beside them samples the anonymous memory. IVF-PQ: recall of the exact first 10 among the first
100 found, size of the index, and time per query, with and without the exact comparison of its first
candidates. The descriptors are drawn (benchmarks.synthetic_descriptors); queries are views that the database
does not have.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic_descriptors import draw
from retrieval.nearest.exact import search
from retrieval.search import approximate
from retrieval.search.index import SearchIndex
from retrieval.search.options import IndexOptions

DEPTH, WANTED = 100, 10
Rows = NDArray[np.float32]


def plain(database: Rows, queries: Rows) -> NDArray[np.int64]:
    """All similarities, everything sorted: ranks [Q, 100]."""
    scores = np.dot(database, queries.T)
    ranks = np.argsort(-scores, axis=0)
    return ranks[:DEPTH].T.copy()


def ours(database: Rows, queries: Rows) -> NDArray[np.int64]:
    return search(database, queries, DEPTH)[1]


def anonymous_megabytes() -> float:
    """Memory of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


@contextmanager
def watched(peaks: list[float]) -> Iterator[None]:
    """Appends the peak of anonymous memory, over what it was before."""
    before, ended, seen = anonymous_megabytes(), threading.Event(), [0.0]

    def watch() -> None:
        while not ended.is_set():
            seen.append(anonymous_megabytes())
            sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        peaks.append(max(seen) - before)


def write_database(path: Path, rows: int, queries: int, dimension: int) -> tuple[Rows, Rows]:
    """(database on disk, queries)."""
    database = np.lib.format.open_memmap(path, "w+", np.float32, (rows, dimension))
    asked, blocks = draw(rows, queries, dimension)
    start = 0
    for block in blocks:
        database[start : start + len(block)] = block
        start += len(block)
    assert start == rows
    database.flush()
    return np.load(path, mmap_mode="r"), asked


def compare(database: Rows, queries: Rows, repeats: int) -> None:
    ways: dict[str, Callable[[Rows, Rows], NDArray[np.int64]]] = {"plain": plain, "ours": ours}
    times: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    for _ in range(repeats):
        for name, way in ways.items():
            with watched(peaks[name]):
                start = perf_counter()
                found[name] = way(database, queries)
                times[name].append(perf_counter() - start)
    differ = np.argwhere(found["plain"] != found["ours"])
    gaps = [
        abs(
            float(
                database[found["plain"][q, place]] @ queries[q]
                - database[found["ours"][q, place]] @ queries[q]
            )
        )
        for q, place in differ.tolist()
    ]
    for name in ways:
        shown = " ".join(f"{each:.2f}" for each in times[name])
        print(
            f"{name:6} median {statistics.median(times[name]):.2f} s of {shown}; "
            f"peak anonymous memory +{max(peaks[name]):.0f} MB",
            flush=True,
        )
    ratio = statistics.median(times["plain"]) / statistics.median(times["ours"])
    print(
        f"plain / ours: {ratio:.2f} (asked: at least 2); {len(differ)} of {found['ours'].size} ranks differ, "
        f"there by {max(gaps, default=0.0):.1e} in similarity",
        flush=True,
    )


def measure_ivf_pq(database: Rows, queries: Rows, options: IndexOptions) -> None:
    exact = search(database, queries, WANTED)[1]
    peaks: list[float] = []
    start = perf_counter()
    with watched(peaks):
        index = SearchIndex.build(
            database, [str(i) for i in range(len(database))], network="", options=options
        )
    size = approximate.to_bytes(index.engine).nbytes
    print(
        f"ivf_pq built in {perf_counter() - start:.0f} s, peak anonymous memory +{peaks[0]:.0f} MB; "
        f"{size / 2**20:.0f} MB = 1/{database.nbytes / size:.0f} of float32 (asked: at most 1/16); "
        f"measured by itself with {index.options.probes} probes: {dict(index.recall)}",
        flush=True,
    )
    chosen = index.options.probes or 1
    for probes in (chosen // 4, chosen // 2, chosen):
        for rerank in (0, options.rerank):
            tried = SearchIndex(
                index.descriptors, index.names, "", engine=index.engine,
                options=options.model_copy(update={"probes": probes, "rerank": rerank}),
            )  # fmt: skip
            recalls, times = [], []
            for query, wanted in zip(queries, exact, strict=True):
                begun = perf_counter()
                found = tried.search(query[None], min(DEPTH, len(database)))[1][0]
                times.append(1000 * (perf_counter() - begun))
                recalls.append(np.isin(wanted, found).mean())
            print(
                f"probes {probes:3}, rerank {rerank:3}: recall@{DEPTH} of the exact {WANTED}: "
                f"{np.mean(recalls):.4f} (asked: 0.95), median {statistics.median(times):.2f} ms a query, "
                f"worst {max(times):.1f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the database is written")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--queries", type=int, default=70)
    parser.add_argument("--repeats", type=int, default=3, help="times that each way is measured, in turn")
    parser.add_argument("--code-bytes", type=int, default=IndexOptions().code_bytes)
    parser.add_argument("--reduced", type=int, default=IndexOptions().reduced)
    parser.add_argument("--skip", choices=("exact", "ivf_pq"), help="leave one part out")
    given = parser.parse_args()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    file = given.folder / "database.npy"
    try:
        database, queries = write_database(file, given.rows, given.queries, given.dimension)
        print(f"{given.rows} x {given.dimension}, {given.queries} queries, {threads} threads", flush=True)
        if given.skip != "exact":
            compare(database, queries, given.repeats)
        if given.skip != "ivf_pq":
            options = IndexOptions(kind="ivf_pq", code_bytes=given.code_bytes, reduced=given.reduced)
            measure_ivf_pq(database, queries, options)
    finally:
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
