"""What a benchmark shows is dropped: which pairs are proposed, what counts as evidence, what is left."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfm.pairing.proposal import read_pairs
from sfm.scene.scene import Scene
from sfm.selection.choosing import SelectionOptions, select
from sfm.selection.decontamination import (
    BadBenchmark,
    BenchmarkImages,
    DecontaminationOptions,
    decontaminate,
    propose_benchmark_pairs,
)
from sfm.training_set.known_truth import NothingToTrainOn
from sfm.training_set.subset import without_clusters
from sfm.training_set.training_set import TrainingSet
from storage.schemas.training_set import Matched

MakeScene = Callable[..., Scene]
OPTIONS = DecontaminationOptions(benchmark_neighbours=2)
OURS = [("alone0.jpg", f"p{p:02d}_{n:02d}.jpg", 0) for p in range(12) for n in range(8)]


@pytest.fixture(scope="module")
def chosen(many_places: MakeScene) -> TrainingSet:
    return select(many_places(attempts=OURS), SelectionOptions(query_fraction=0.5))


@pytest.fixture(scope="module")
def rows(chosen: TrainingSet) -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(chosen.images.cluster.size, 16)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def shas(chosen: TrainingSet) -> list[str]:
    return chosen.images.sha256.astype(str).tolist()


def looking_like(rows: np.ndarray, images: list[int], sha256: list[str] | None = None) -> BenchmarkImages:
    """A benchmark whose descriptors are those of some photographs."""
    sha256 = sha256 or [f"{n:064x}" for n in range(len(images))]
    return BenchmarkImages(sha256, [f"b {n}\nü.jpg" for n in range(len(images))], rows[images])


def of_split(chosen: TrainingSet, split: int, registered: bool = True) -> np.ndarray:
    return np.flatnonzero((chosen.images.split == split) & (chosen.images.registered == registered))


def test_pairs_with_the_nearest_photographs_of_train_and_val(
    chosen: TrainingSet, rows: np.ndarray, tmp_path: Path
) -> None:
    target, test = int(of_split(chosen, 0)[0]), int(of_split(chosen, 2)[0])
    benchmark = looking_like(rows, [target, test])
    count = propose_benchmark_pairs(chosen, rows, benchmark, OPTIONS, tmp_path / "pairs.h5")
    pairs, names = read_pairs(tmp_path / "pairs.h5"), shas(chosen)
    assert count == len(pairs) == 4
    similarity = rows @ rows.T
    similarity[:, chosen.images.split == 2] = -2
    for sha, image in zip(benchmark.sha256, (target, test), strict=True):
        near = {names[n] for n in np.argsort(-similarity[image])[:2]}
        assert {second for first, second in pairs if first == sha} == near
    assert names[target] in {second for _, second in pairs}
    assert names[test] not in {second for _, second in pairs}


def test_a_verified_pair_drops_the_whole_cluster_with_its_strongest_evidence(
    chosen: TrainingSet, rows: np.ndarray
) -> None:
    target = int(of_split(chosen, 0)[0])
    cluster = chosen.images.cluster[target]
    mate = int(np.flatnonzero(chosen.images.cluster == cluster)[1])
    other = int(of_split(chosen, 1)[0])
    benchmark, names = looking_like(rows, [target, mate]), shas(chosen)
    first, second = benchmark.sha256
    attempts = [(first, names[target]), (second, names[mate]), (first, names[other])]
    found = decontaminate(chosen, rows, benchmark, (attempts, np.array([15, 40, 14])), OPTIONS)
    dropped = found.dropped
    assert dropped is not None and dropped.cluster.tolist() == [cluster]
    assert dropped.photographs.tolist() == [int((chosen.images.cluster == cluster).sum())]
    assert (dropped.inliers.tolist(), dropped.benchmark_image.tolist()) == ([40], ["b 1\nü.jpg"])
    assert dropped.photograph.tolist() == [chosen.images.name[mate]]
    assert dropped.similarity[0] == pytest.approx(1, abs=1e-6) and dropped.split.tolist() == [0]
    assert cluster not in found.images.cluster and cluster not in found.negatives.cluster
    assert found.summary["dropped"] == {"clusters": 1, "photographs": int(dropped.photographs[0])}
    loose = decontaminate(
        chosen,
        rows,
        benchmark,
        (attempts, np.array([15, 40, 14])),
        OPTIONS.model_copy(update={"benchmark_inliers": 14}),
    )
    assert loose.dropped is not None and chosen.images.cluster[other] in loose.dropped.cluster


def test_the_same_file_is_evidence_enough_and_test_is_not_looked_at(
    chosen: TrainingSet, rows: np.ndarray
) -> None:
    alone, test = int(of_split(chosen, 0, False)[0]), int(of_split(chosen, 2)[0])
    names = shas(chosen)
    images = sorted([alone, test], key=lambda n: names[n])
    benchmark = looking_like(rows, images, [names[n] for n in images])
    attempts = [(names[alone], names[test])]
    found = decontaminate(chosen, rows, benchmark, (attempts, np.array([99])), OPTIONS)
    assert found.dropped is not None
    assert found.dropped.cluster.tolist() == [chosen.images.cluster[alone]]
    assert found.dropped.inliers.tolist() == [-1]


def by_name(chosen: TrainingSet) -> dict[str, object]:
    """What the training set says, free of numbers."""
    name = chosen.images.name
    cluster = chosen.images.cluster
    result: dict[str, object] = {"images": dict(zip(name, cluster.tolist(), strict=True))}
    for row, query in enumerate(chosen.queries.image.tolist()):
        c = slice(chosen.candidates.indptr[row], chosen.candidates.indptr[row + 1])
        m2 = chosen.positives.m2[row]
        result[f"query {name[query]}"] = (
            name[chosen.candidates.image[c]].tolist(),
            chosen.candidates.shared_points[c].tolist(),
            name[chosen.positives.m1_pool.row(row)].tolist(),
            None if m2 < 0 else name[m2],
            name[chosen.positives.m3.row(row)].tolist(),
        )
    for image, other, ok in zip(
        chosen.negatives.image, chosen.negatives.cluster, chosen.negatives.allowed, strict=True
    ):
        result[f"verdict {name[image]} {other}"] = bool(ok)
    for split, labels in chosen.benchmark.items():
        result[f"database {split}"] = name[labels.database].tolist()
        for row, query in enumerate(labels.queries.tolist()):
            result[f"{split} {name[query]}"] = [
                name[part.row(row)].tolist() for part in (labels.easy, labels.hard, labels.junk)
            ]
    return result


@pytest.mark.parametrize("split", [0, 1, 2])
def test_everything_else_stays(chosen: TrainingSet, split: int, tmp_path: Path) -> None:
    gone = int(chosen.images.cluster[of_split(chosen, split)[0]])
    names = set(chosen.images.name[chosen.images.cluster == gone].tolist())
    rest = without_clusters(chosen, np.array([gone]))
    rest.to_h5(tmp_path / "rest.h5")  # checks every index
    before, after = by_name(chosen), by_name(rest)

    def without(value: object) -> object:
        if isinstance(value, list):
            return [without(each) for each in value if not (isinstance(each, str) and each in names)]
        if isinstance(value, dict):
            return {key: each for key, each in value.items() if key not in names}
        return tuple(map(without, value)) if isinstance(value, tuple) else value

    def is_gone(key: str) -> bool:
        return key.split(" ")[-1] in names or key.endswith(f".jpg {gone}") or key.split(" ")[1] in names

    assert after == {
        key: without(value) for key, value in before.items() if key == "images" or not is_gone(key)
    }
    assert by_name(without_clusters(chosen, np.empty(0, np.int64))) == before


def test_matched_pairs_go_with_their_photographs(chosen: TrainingSet, tmp_path: Path) -> None:
    images = chosen.images
    first, second = np.flatnonzero(images.split == 0)[[0, 1, -2]], np.flatnonzero(images.split == 0)[-1]
    matched = Matched(first, np.full(3, second), np.array([11, 12, 13]))
    gone = images.cluster[first[0]]
    assert images.cluster[second] != gone and images.cluster[first[2]] != gone
    rest = without_clusters(replace(chosen, matched=matched), np.array([gone]))
    rest.to_h5(tmp_path / "rest.h5")
    read = TrainingSet.from_h5(tmp_path / "rest.h5")
    assert read.matched is not None
    left = images.cluster[first] != gone
    assert read.images.name[read.matched.first].tolist() == images.name[first[left]].tolist()
    assert set(read.images.name[read.matched.second].tolist()) == {images.name[second]}
    assert read.matched.inliers.tolist() == matched.inliers[left].tolist()


def test_nothing_found_changes_nothing_but_says_so(
    chosen: TrainingSet, rows: np.ndarray, tmp_path: Path
) -> None:
    found = decontaminate(chosen, rows, looking_like(rows, [0]), ([], np.empty(0, np.int64)), OPTIONS)
    assert by_name(found) == by_name(chosen)
    found.to_h5(tmp_path / "set.h5")
    back = TrainingSet.from_h5(tmp_path / "set.h5")
    assert back.dropped is not None and back.dropped.cluster.size == 0
    assert chosen.dropped is None


def test_bad_benchmarks_are_errors(chosen: TrainingSet, rows: np.ndarray) -> None:
    nothing: tuple[list[tuple[str, str]], np.ndarray] = ([], np.empty(0, np.int64))
    with pytest.raises(BadBenchmark, match="no image that can be read"):
        decontaminate(chosen, rows, looking_like(rows, []), nothing, OPTIONS)
    with pytest.raises(BadBenchmark, match="sorted"):
        decontaminate(chosen, rows, looking_like(rows, [0, 1], ["b", "a"]), nothing, OPTIONS)
    with pytest.raises(BadBenchmark, match="one row for each"):
        decontaminate(chosen, rows[:-1], looking_like(rows, [0]), nothing, OPTIONS)
    benchmark, names = looking_like(rows, [0]), shas(chosen)
    everything = [(benchmark.sha256[0], names[n]) for n in of_split(chosen, 0).tolist()]
    with pytest.raises(NothingToTrainOn, match="benchmark_inliers"):
        decontaminate(chosen, rows, benchmark, (everything, np.full(len(everything), 50)), OPTIONS)
