"""Scoring ROxford + 1M: Easy, Medium and Hard of 70 queries over 1,004,993 ranks, beside the plain way.

    python -m benchmarks.revisited_million [--truth gnd_roxford5k.pkl] [--repeats 5]

The plain way searches every list for every set of labelled images anew, as the official script does
(`np.isin` over the list, twice per protocol), for mAP alone; where that script walks through positives and
junk in Python, this one does not. Ours looks one table of roles up along the list, and counts mP@k too. Both
are timed in turn in one process, on the same lists; the numbers of both must agree. `--columns` lays the
lists as the published code keeps them, a column per query. Without a ground truth file the labels are drawn
with the sizes that ROxford's have. Memory is what numpy and Python allocate in a run of ours that is not
timed.
"""

from __future__ import annotations

import argparse
import statistics
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.landmarks import average_precision, evaluate_revisited
from retrieval.official.readers.ground_truth import read_pickle

QUERIES, DATABASE, DISTRACTORS = 70, 4_993, 1_000_000
PROTOCOLS = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
Truth = Sequence[Mapping[str, Any]]


def plain(ranks: NDArray[np.int64], truth: Truth) -> dict[str, float]:
    """mAP by searching the whole list for the positives, then for the junk, of each protocol."""
    means = {}
    for protocol, (wanted, removed) in PROTOCOLS.items():
        values = []
        for row, query in zip(ranks, truth, strict=True):
            positives = np.concatenate([query[name] for name in wanted])
            if not positives.size:
                continue
            junk = np.flatnonzero(np.isin(row, np.concatenate([query[name] for name in removed])))
            places = np.flatnonzero(np.isin(row, positives))
            places = places - np.searchsorted(junk, places)
            values.append(average_precision(places, positives.size))
        means[protocol] = float(np.mean(values))
    return means


def ours(ranks: NDArray[np.int64], truth: Truth) -> dict[str, float]:
    found = evaluate_revisited(ranks, truth)
    return {name: getattr(found, name).mean_average_precision for name in PROTOCOLS}


def drawn_truth(generator: np.random.Generator) -> Truth:
    """Labels of the size of ROxford's."""
    truth = []
    for _ in range(QUERIES):
        ids = generator.permutation(DATABASE)[:230]
        truth.append({"easy": ids[:43], "hard": ids[43:79], "junk": ids[79:]})
    return truth


def drawn_ranks(generator: np.random.Generator, *, columns: bool = False) -> NDArray[np.int64]:
    """[70, 1004993] permutations, 563 MB; columns: each lies across the array."""
    ranks = np.empty((QUERIES, DATABASE + DISTRACTORS), dtype=np.int64, order="F" if columns else "C")
    for row in ranks:
        row[:] = generator.permutation(DATABASE + DISTRACTORS)
    return ranks


def seconds(work: Callable[[NDArray[np.int64], Truth], Any], *arguments: Any) -> float:
    start = perf_counter()
    work(*arguments)
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--truth", type=Path, help="gnd_roxford5k.pkl; none: drawn")
    parser.add_argument("--repeats", type=int, default=5, help="times that each way is measured, in turn")
    parser.add_argument("--columns", action="store_true", help="lists lie in columns, as published")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    truth = read_pickle(options.truth).labels if options.truth else drawn_truth(generator)
    ranks = drawn_ranks(generator, columns=options.columns)
    ours_peak = peak_megabytes(ours, ranks, truth)
    first, second = plain(ranks, truth), ours(ranks, truth)
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(options.repeats):
        times["plain"].append(seconds(plain, ranks, truth))
        times["ours"].append(seconds(ours, ranks, truth))
    for name in PROTOCOLS:
        print(f"{name:6}  mAP {100 * first[name]:.6f} plain, {100 * second[name]:.6f} ours")
        assert abs(first[name] - second[name]) < 1e-12
    for name, measured in times.items():
        shown = " ".join(f"{each:.3f}" for each in measured)
        print(f"{name:6}  median {statistics.median(measured):.3f} s of {shown}")
    ratio = statistics.median(times["ours"]) / statistics.median(times["plain"])
    print(f"ours / plain: {ratio:.3f} (asked: at most 0.25); memory beyond the lists: {ours_peak:.1f} MB")


def peak_megabytes(work: Callable[[NDArray[np.int64], Truth], Any], *arguments: Any) -> float:
    """Most that is allocated at once while it works."""
    tracemalloc.start()
    work(*arguments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


if __name__ == "__main__":
    main()
