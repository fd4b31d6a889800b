"""The readers on the real ground truth: published counts, perfect lists give 100, the worst the minimum."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.official_counts import counts_of
from retrieval.official.readers.common import Benchmark, Ranking
from retrieval.official.registry import BenchmarkName, read_benchmark
from tests.official import needs, official

TRUTH = official("groundtruth")
pytestmark = needs(TRUTH)


def touch(root: Path, names: list[str]) -> None:
    """Empty files under these names: readers look whether images are there, not into them."""
    for folder in {str(Path(name).parent) for name in names}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).touch()


def perfect(benchmark: Benchmark) -> Ranking:
    """Positives first, what is ignored behind them."""
    listed = [
        (np.arange(len(p) + len(i)), np.concatenate([p, i]))
        for p, i in zip(benchmark.positives, ignored(benchmark), strict=True)
    ]
    return Ranking(_first(benchmark), None, listed)


def worst(benchmark: Benchmark) -> Ranking:
    """What is ignored in front, positives at the very end."""
    listed = []
    for p, i in zip(benchmark.positives, ignored(benchmark), strict=True):
        end = len(benchmark.database) - len(p)
        listed.append((np.concatenate([np.arange(len(i)), end + np.arange(len(p))]), np.concatenate([i, p])))
    return Ranking(_first(benchmark), None, listed)


def ignored(benchmark: Benchmark) -> list[np.ndarray]:
    """A junk image that is a positive too stands in a list once: where the positives are."""
    junk = benchmark.ignored or [np.empty(0, np.int64)] * len(benchmark.positives)
    return [np.setdiff1d(i, p) for i, p in zip(junk, benchmark.positives, strict=True)]


def _first(benchmark: Benchmark) -> np.ndarray:
    return np.full((len(benchmark.queries), 1), -1)


def values(benchmark: Benchmark, ranking: Ranking) -> dict[tuple[str, str], float]:
    return {(row.protocol, row.metric): row.value for row in benchmark.score(ranking).rows}


def last_trapezoids(num: int, kept: int) -> float:
    """AP of `num` positives that are the last of a list of `kept` images without junk."""
    ranks = kept - num + np.arange(num)
    before = np.where(ranks > 0, np.arange(num) / np.maximum(ranks, 1), 1)
    return float((before + (np.arange(num) + 1) / (ranks + 1)).sum() / 2 / num)


@pytest.mark.parametrize(
    ("name", "num_images", "counted"), [("roxford5k", 4993, (68, 70, 70)), ("rparis6k", 6322, (70, 70, 70))]
)
def test_revisited(tmp_path: Path, name: str, num_images: int, counted: tuple[int, ...]) -> None:
    from retrieval.official.readers.ground_truth import read_pickle

    shutil.copy(TRUTH / name / f"gnd_{name}.pkl", tmp_path)
    truth = read_pickle(tmp_path / f"gnd_{name}.pkl")
    found = read_benchmark(name, tmp_path, images=False)  # type: ignore[arg-type]
    assert (len(found.queries), len(found.database)) == (70, num_images)
    rows = found.score(perfect(found)).rows
    num = {row.protocol: row.num_queries for row in rows}
    assert (num["easy"], num["medium"], num["hard"]) == counted
    best = {(row.protocol, row.metric): row.value for row in rows}
    assert best["medium", "mAP"] == pytest.approx(1) and best["medium", "mP@10"] == pytest.approx(1)
    # as a perfect list has its easy positives anywhere among all positives, hard and easy ones are checked
    # on lists that start with their own
    for protocol in ("easy", "hard"):
        lists = [(np.arange(query[protocol].size), np.sort(query[protocol])) for query in truth.labels]
        assert values(found, Ranking(_first(found), None, lists))[protocol, "mAP"] == pytest.approx(1)
    minimum = np.mean(
        [
            last_trapezoids(len(p), num_images - len(i))
            for p, i in zip(found.positives, ignored(found), strict=True)
        ]
    )
    assert values(found, worst(found))["medium", "mAP"] == pytest.approx(minimum, abs=1e-12)


def test_oxford5k(tmp_path: Path) -> None:
    shutil.copytree(TRUTH / "oxford5k", tmp_path / "gt_files", copy_function=shutil.copy)
    check_classic(tmp_path, tmp_path / "gt_files", "oxford5k")


def test_paris6k(tmp_path: Path) -> None:
    with zipfile.ZipFile(TRUTH / "paris6k" / "paris_120310.zip") as archive:
        archive.extractall(tmp_path)
    touch(tmp_path, ["jpg/louvre/paris_louvre_000136.jpg"])  # damaged in the archive, no part of the set
    found = check_classic(tmp_path, tmp_path / "paris_120310", "paris6k")
    assert "paris_louvre_000136" not in found.database_names


def check_classic(root: Path, text: Path, name: str) -> Benchmark:
    listed = {
        word
        for path in text.glob("*.txt")
        if not path.name.endswith("_query.txt")
        for word in path.read_text().split()
    }
    asked = {path.read_text().split()[0].removeprefix("oxc1_") for path in text.glob("*_query.txt")}
    touch(root, [f"jpg/{image}.jpg" for image in listed | asked])
    found = read_benchmark(name, root)  # type: ignore[arg-type]
    assert len(found.queries) == 55 and set(found.query_names) <= set(found.database_names)
    clean = [not np.intersect1d(p, i).size for p, i in zip(found.positives, found.ignored, strict=True)]
    best = found.score(perfect(found)).per_query["AP"]
    np.testing.assert_allclose(best[clean], 1)
    lowest = found.score(worst(found)).per_query["AP"]
    for q in np.flatnonzero(clean):
        kept = len(found.database) - len(found.ignored[q])
        assert lowest[q] == pytest.approx(last_trapezoids(len(found.positives[q]), kept), abs=1e-12)
    return found


def test_holidays(tmp_path: Path) -> None:
    shutil.copy(TRUTH / "holidays" / "holidays_images.dat", tmp_path)
    found = read_benchmark("holidays", tmp_path, images=False)
    assert (len(found.queries), len(found.database)) == (500, 1491)
    assert values(found, perfect(found)) == {("", "mAP"): pytest.approx(1)}
    minimum = np.mean([last_trapezoids(len(p), 1490) for p in found.positives])
    assert values(found, worst(found))["", "mAP"] == pytest.approx(minimum, abs=1e-12)


def test_market1501(tmp_path: Path) -> None:
    for which in ("query", "test"):
        lines = (TRUTH / "market1501" / f"market1501_{which}.csv").read_text().split()
        touch(tmp_path, [line.split(",")[1] for line in lines])
    found = read_benchmark("market1501", tmp_path)
    assert (len(found.queries), len(found.database)) == (3368, 15913)
    best = values(found, perfect(found))
    assert best["", "mAP"] == pytest.approx(1) and best["", "mINP"] == pytest.approx(1)
    assert best["", "rank-1"] == 1
    lowest = values(found, worst(found))
    minimum = []
    for p, i in zip(found.positives, found.ignored, strict=True):
        places = 15913 - len(i) - len(p) + 1 + np.arange(len(p))
        minimum.append(np.mean((np.arange(len(p)) + 1) / places))
    assert lowest["", "mAP"] == pytest.approx(np.mean(minimum), abs=1e-12) and lowest["", "rank-10"] == 0


@pytest.mark.parametrize(("name", "counts"), [("pitts30k", (6816, 10000)), ("tokyo247", (315, 75984))])
def test_places(tmp_path: Path, name: str, counts: tuple[int, int]) -> None:
    for path in (TRUTH / name).iterdir():
        shutil.copy(path, tmp_path)
    if name == "tokyo247":  # whose list of database images is not there; its coordinates are
        database = [f"{number // 1000:05}/{number:06}.jpg" for number in range(counts[1])]
        (tmp_path / "tokyo247_imageNames_index.txt").write_text("\n".join(database))
    found = read_benchmark(name, tmp_path, images=False)  # type: ignore[arg-type]
    assert (len(found.queries), len(found.database)) == counts
    depth = found.depth
    without = sum(not p.size for p in found.positives)
    best, lowest = (np.full((counts[0], depth), -1) for _ in range(2))
    for q, p in enumerate(found.positives):
        best[q, : len(p)] = p[:depth]
        lowest[q] = np.setdiff1d(np.arange(depth + len(p)), p)[:depth]
    top = values(found, Ranking(best))
    np.testing.assert_allclose(list(top.values()), (counts[0] - without) / counts[0])
    assert set(values(found, Ranking(lowest)).values()) == {0.0}
    assert {protocol for protocol, _ in top} == (
        {""} if name == "pitts30k" else {"per cutout", "one per panorama"}
    )


PUBLISHED = {  # per protocol: queries, those with positives, database images
    "roxford5k": {"easy": (70, 68, 4993), "medium": (70, 70, 4993), "hard": (70, 70, 4993)},
    "rparis6k": {"easy": (70, 70, 6322), "medium": (70, 70, 6322), "hard": (70, 70, 6322)},
    "oxford5k": {"mAP": (55, 55, 5063)},
    "paris6k": {"mAP": (55, 55, 6392)},
    "holidays": {"mAP": (500, 500, 1491)},
    "market1501": {"mAP": (3368, 3368, 15913)},
    "pitts30k": {"recall@1": (6816, 6816, 10000)},
    "tokyo247": {"recall@1": (315, 315, 75984)},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_printed_counts_are_the_published_ones(name: BenchmarkName) -> None:
    printed = counts_of(TRUTH, name)
    assert {each.protocol: (each.queries, each.counted, each.images) for each in printed} == PUBLISHED[name]
    assert all(each.as_it_should_be for each in printed)
    if name == "roxford5k":
        assert [(each.positives, each.junk) for each in printed] == [(3029, 3853), (5526, 1356), (2497, 4385)]
    if name == "market1501":  # the boxes of persons, without distractors and the query's camera
        assert printed[0].positives + printed[0].junk == 62764
