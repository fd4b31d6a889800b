"""Counts and extremes of every protocol on the official ground truth, read by the readers that users have.

    python -m benchmarks.official_counts DIR

DIR holds `roxford5k/gnd_roxford5k.pkl`, `rparis6k/gnd_rparis6k.pkl`, `oxford5k/*.txt`,
`paris6k/paris_120310.zip`, `holidays/holidays_images.dat`, `market1501/market1501_{query,test}.csv`,
`pitts30k/` and `tokyo247/` (npz and lists). The official layouts are made of empty image files in a temporary
folder. Printed per protocol: queries, those that count, database images, positives and junk (sums over
queries), the score of perfect lists and of the worst ones, and the minimum by its formula. Exit code 1 where
perfect is not 100 or worst not the minimum.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.official.readers.common import Benchmark, Ids, Ranking
from retrieval.official.readers.ground_truth import read_pickle
from retrieval.official.registry import BenchmarkName, read_benchmark

REVISITED = {"oxford5k": "roxford5k", "paris6k": "rparis6k"}
DAMAGED = "paris_louvre_000136"
"""Of the 20 files that are damaged in the archive of Paris and no part of the 6,392; laid out, too."""


@dataclass(frozen=True)
class Counts:
    """One protocol: queries and those that count, database images, positives and junk; scores in %."""

    benchmark: str
    protocol: str
    queries: int
    counted: int
    images: int
    positives: int
    junk: int
    perfect: float
    worst: float
    minimum: float

    @property
    def as_it_should_be(self) -> bool:
        # a query without positives is a failure of place recognition, whatever the list
        most = 100.0 * self.counted / self.queries if "recall" in self.protocol else 100.0
        return abs(self.perfect - most) < 1e-9 and abs(self.worst - self.minimum) < 1e-9


def lay_out(truth: Path, name: str, root: Path) -> None:
    """The official files of a benchmark below root, with empty images."""
    if name in REVISITED.values():
        shutil.copy(truth / name / f"gnd_{name}.pkl", root)
        read = read_pickle(root / f"gnd_{name}.pkl")
        touch(root, (f"jpg/{image}.jpg" for image in (*read.images, *read.queries)))
    elif name in REVISITED:
        revisited = read_pickle(truth / REVISITED[name] / f"gnd_{REVISITED[name]}.pkl")
        more = [DAMAGED] if name == "paris6k" else []
        touch(root, (f"jpg/{image}.jpg" for image in (*revisited.images, *revisited.queries, *more)))
        if name == "paris6k":
            with zipfile.ZipFile(truth / name / "paris_120310.zip") as archive:
                archive.extractall(root)
        else:
            shutil.copytree(truth / name, root / "gt_files", copy_function=shutil.copyfile)
    elif name == "holidays":
        shutil.copy(truth / name / "holidays_images.dat", root)
        touch(root, (f"jpg/{line}" for line in (root / "holidays_images.dat").read_text().split()))
    elif name == "market1501":
        for part in ("query", "test"):
            lines = (truth / name / f"market1501_{part}.csv").read_text().split()
            touch(root, (line.split(",")[1] for line in lines))
    else:
        for path in (truth / name).iterdir():
            shutil.copyfile(path, root / path.name)
        if name == "tokyo247":  # the list of its database images is not public; coordinates are
            with np.load(root / "tokyo247.npz") as arrays:
                count = len(arrays["utmDb"])
            listed = "\n".join(f"{number:06}.jpg" for number in range(count))
            (root / "tokyo247_imageNames_index.txt").write_text(listed)


def touch(root: Path, names: Iterable[str]) -> None:
    """Empty files: readers look whether images are there, not into them."""
    folders: set[Path] = set()
    for name in names:
        path = root / name
        if path.parent not in folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            folders.add(path.parent)
        path.touch()


def protocols(found: Benchmark) -> Iterator[tuple[str, Sequence[Ids], Sequence[Ids]]]:
    """(protocol, positives, junk), the latter two per query."""
    if found.name in REVISITED.values():
        for protocol, junk in (("easy", ("hard", "junk")), ("medium", ("junk",)), ("hard", ("easy", "junk"))):
            wanted = ("easy", "hard") if protocol == "medium" else (protocol,)
            yield protocol, _union(found, wanted), _union(found, junk)
    else:
        none = tuple(np.empty(0, np.int64) for _ in found.positives)
        yield "", found.positives, found.ignored or none


def _union(found: Benchmark, names: Sequence[str]) -> list[Ids]:
    return [
        np.unique(np.array([i for name in names for i in query[name]], np.int64)) for query in found.facts
    ]


def counts(found: Benchmark) -> Iterator[Counts]:
    """Every protocol of a benchmark."""
    size = len(found.database)
    for protocol, positives, junk in protocols(found):
        metrics = {row.metric: row for row in found.score(_lists(positives, junk, size, found.depth)).rows}
        metric = next(iter(metrics)) if "mAP" not in metrics else "mAP"
        least = (_rectangles if found.name == "market1501" else _trapezoids) if metric == "mAP" else _recall
        pairs = zip(positives, junk, strict=True)  # no image of these sets is both, as perfect lists show
        values = [least(len(p), size - len(j)) for p, j in pairs if len(p) or metric != "mAP"]
        best, worst = (
            100 * _value(found, protocol, metric, _lists(positives, junk, size, found.depth, last=last))
            for last in (False, True)
        )
        yield Counts(
            found.name,
            protocol or metric,
            len(positives),
            sum(bool(len(p)) for p in positives),
            size,
            sum(map(len, positives)),
            sum(map(len, junk)),
            best,
            worst,
            100 * float(np.mean(values)),
        )


def _value(found: Benchmark, protocol: str, metric: str, lists: Ranking) -> float:
    rows = found.score(lists).rows
    return next(row.value for row in rows if row.metric == metric and protocol in ("", row.protocol))


def _lists(
    positives: Sequence[Ids], junk: Sequence[Ids], size: int, depth: int, *, last: bool = False
) -> Ranking:
    """Positives first and junk last, or junk first and positives last."""
    ranks = np.full((len(positives), depth), -1, dtype=np.int64)
    listed = []
    for q, (p, j) in enumerate(zip(positives, junk, strict=True)):
        j = np.setdiff1d(j, p)
        places = np.concatenate([np.arange(len(j)), np.arange(size - len(p), size)])
        listed.append((places, np.concatenate([j, p])) if last else (np.arange(len(p) + len(j)), np.r_[p, j]))
        first = np.setdiff1d(np.arange(min(size, depth + len(p))), p) if last else p
        ranks[q, : min(depth, len(first))] = first[:depth]
    return Ranking(ranks, None, listed)


def _trapezoids(num: int, kept: int) -> float:
    """`num` positives behind everything else of `kept` images that are no junk."""
    places = np.arange(kept - num, kept)
    before = np.where(places > 0, np.arange(num) / np.maximum(places, 1), 1.0)
    return float((before + np.arange(1, num + 1) / (places + 1)).mean() / 2)


def _rectangles(num: int, kept: int) -> float:
    return float((np.arange(1, num + 1) / np.arange(kept - num + 1, kept + 1)).mean())


def _recall(num: int, kept: int) -> float:
    """Of recall@1: only where every image is a positive."""
    return float(num == kept)


NAMES: tuple[BenchmarkName, ...] = (
    "roxford5k", "rparis6k", "oxford5k", "paris6k", "holidays", "market1501", "pitts30k", "tokyo247",
)  # fmt: skip


def counts_of(truth: Path, name: BenchmarkName) -> list[Counts]:
    """Every protocol of a benchmark, from its official files."""
    with tempfile.TemporaryDirectory() as folder:
        lay_out(truth, name, Path(folder))
        return list(counts(read_benchmark(name, Path(folder), images=name not in ("pitts30k", "tokyo247"))))


def main(write: Callable[[str], object] = print) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("truth", type=Path, metavar="DIR", help="folder of the official ground truth")
    truth = parser.parse_args().truth
    head = ("benchmark", "protocol", "queries", "counted", "images", "positives", "junk")
    write(" ".join(f"{name:>10}" for name in (*head, "perfect", "worst", "minimum")))
    good = True
    for name in NAMES:
        for each in counts_of(truth, name):
            good &= each.as_it_should_be
            text = (each.benchmark, each.protocol)
            number = (each.queries, each.counted, each.images, each.positives, each.junk)
            score = (each.perfect, each.worst, each.minimum)
            cells = (
                [f"{t:>10}" for t in text] + [f"{n:>10,}" for n in number] + [f"{s:>10.4f}" for s in score]
            )
            write(" ".join(cells))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
